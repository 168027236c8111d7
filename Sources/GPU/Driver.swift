import Bytes
import CGPU
import Glibc

/// NVIDIA's driver, opened at run time: nothing links against CUDA, and no driver is a normal state.
public final class Driver: @unchecked Sendable {
  let calls: llv_driver

  public typealias Find = @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>?) -> UnsafeMutableRawPointer?

  /// - Parameter find: where an entry point is, or nil.
  /// - Throws: `unsupported` naming an entry point that is missing.
  public init(_ library: UnsafeMutableRawPointer? = nil, find: Find) throws(Failure) {
    var calls = llv_driver()
    if let missing = llv_driver_find(&calls, find, library) {
      throw Failure(
        .unsupported,
        "the NVIDIA driver lacks \(String(cString: missing)): it is older than CUDA 11.2; update the driver")
    }
    self.calls = calls
  }

  /// The driver that this machine has.
  ///
  /// - Throws: `unsupported` saying why there is none.
  public static func installed(_ name: String = "libcuda.so.1") throws(Failure) -> Driver {
    guard let library = dlopen(name, RTLD_NOW | RTLD_LOCAL) else {
      let why = dlerror().map { String(cString: $0) } ?? name
      throw Failure(.unsupported, "no NVIDIA driver (\(why)); use --device cpu")
    }
    return try Driver(library) { library, name in name.flatMap { dlsym(library, $0) } }
  }

  /// - Throws: what the driver calls an error: `limit` when memory is missing, else `io`.
  func check(_ code: Int32, _ what: @autoclosure () -> String) throws(Failure) {
    guard code != 0 else { return }
    var text: UnsafePointer<CChar>?
    _ = calls.cuGetErrorString(code, &text)
    let said = text.map { String(cString: $0) } ?? "unknown error"
    let isMemory = code == 2
    throw Failure(
      isMemory ? .limit : code == 100 ? .unsupported : .io,
      "\(what()): \(said) (CUDA error \(code))" + (isMemory ? "; give weights less room with --memory" : ""))
  }

  // MARK: What is there

  /// A GPU that the driver lists.
  public struct Card: Sendable {
    public let index: Int
    public let name: String
    /// Compute capability.
    public let capability: (major: Int, minor: Int)
    /// Bytes.
    public let memory: Int
    public let multiprocessors: Int
    /// Why it cannot be used; nil where it can.
    public let problem: String?
  }

  /// The CUDA version that the driver implements, as in 13.0.
  public var version: String {
    var version: Int32 = 0
    _ = calls.cuDriverGetVersion(&version)
    return "\(version / 1000).\(version % 1000 / 10)"
  }

  /// The driver's GPUs.
  ///
  /// - Throws: `unsupported` where the driver finds none.
  public func cards() throws(Failure) -> [Card] {
    try check(calls.cuInit(0), "starting the NVIDIA driver")
    var count: Int32 = 0
    try check(calls.cuDeviceGetCount(&count), "counting GPUs")
    var cards: [Card] = []
    for index in 0..<max(0, count) { cards.append(try card(index)) }
    return cards
  }

  private func card(_ index: Int32) throws(Failure) -> Card {
    var device: Int32 = 0
    try check(calls.cuDeviceGet(&device, index), "looking at GPU \(index)")
    var text = [CChar](repeating: 0, count: 128)
    try check(calls.cuDeviceGetName(&text, Int32(text.count), device), "naming GPU \(index)")
    var memory = 0
    try check(calls.cuDeviceTotalMem_v2(&memory, device), "asking GPU \(index) for its memory")
    let (major, minor) = (try attribute(75, device), try attribute(76, device))
    let problem: String? =
      major < 8
      ? "compute capability \(major).\(minor); 8.0 (Ampere, 2020) or later is needed"
      : try attribute(115, device) == 0 ? "no memory pools; update the driver" : nil
    return Card(
      index: Int(index), name: String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self),
      capability: (major, minor), memory: memory, multiprocessors: try attribute(16, device), problem: problem)
  }

  /// - Parameter which: CUdevice_attribute: 16 multiprocessors, 75 and 76 compute capability, 97 shared memory of a
  ///   block at most, 115 memory pools.
  func attribute(_ which: Int32, _ device: Int32) throws(Failure) -> Int {
    var value: Int32 = 0
    try check(calls.cuDeviceGetAttribute(&value, which, device), "asking a GPU for attribute \(which)")
    return Int(value)
  }
}
