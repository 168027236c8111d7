import Bytes

/// A pointer that crosses into a worker thread. Whoever makes one keeps the memory alive and gives each worker its own part.
struct FloatPointer: @unchecked Sendable {
  let base: UnsafeMutablePointer<Float>

  init(_ base: UnsafeMutablePointer<Float>) { self.base = base }

  static func + (pointer: FloatPointer, offset: Int) -> UnsafeMutablePointer<Float> { pointer.base + offset }
}

extension Buffer {
  /// Calls `body` with the memory as floats, for work that is shared out to threads.
  func withFloats<R>(_ body: (FloatPointer) throws(Failure) -> R) throws(Failure) -> R {
    try with(Float.self) { (floats) throws(Failure) in
      guard let base = floats.baseAddress else { throw Failure(.internal, "memory without an address") }
      return try body(FloatPointer(base))
    }
  }
}
