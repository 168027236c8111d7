import Bytes
import CKernels
import Glibc
import Synchronization
import Tensors

/// What every operation took, in the order they ran. Operations run one after the other, each on all threads.
public final class Profile: Sendable {
  public struct Event: Sendable {
    /// The operation, with what was done to its result as it was made.
    public let name: String
    /// Rows and columns of the result.
    public let rows, columns: Int
    /// Seconds since the profile began, and how long.
    public let start, duration: Double
    /// Multiplications with their additions in linear operations; 0 for others.
    public let products: Double
    public let arithmetic: Arithmetic?
  }

  /// What the products of a linear operation are made of.
  public enum Arithmetic: String, Sendable, CaseIterable {
    case float
    /// BF16 on both sides.
    case bfloat16
    /// 8-bit weights with 8-bit activations, 4-bit weights with 8-bit activations.
    case int8, int4

    /// Multiplications with their additions a second at most, on this many threads at once: of the instructions that
    /// this processor has for it, their operands in registers. Best of a few short trials; nil where no such loop is
    /// written.
    public func peak(threads: Int) throws(Failure) -> Double? {
      let kind =
        switch self {
        case .float: LLV_PEAK_FLOAT
        case .bfloat16: LLV_PEAK_BF16
        case .int8: LLV_PEAK_INT8
        case .int4: LLV_PEAK_INT4
        }
      var best = 0.0
      for _ in 0..<4 {
        let counts = Lock(0.0)
        let start = Profile.clock()
        try parallel(threads, threads: threads) { _ in
          let count = llv_peak(Int32(kind), 3_000_000)
          counts.withLock { $0 += count }
        }
        best = max(best, counts.withLock { $0 } / (Profile.clock() - start))
      }
      return best > 0 ? best : nil
    }
  }

  private let began = Profile.clock()
  private let list = Lock<[Event]>([])
  private let paused = Atomic<Bool>(false)

  public init() {}

  public var events: [Event] { list.withLock { $0 } }
  /// Whether nobody wants to know at the moment; a device that works on its own is then not waited for.
  public var isPaused: Bool {
    get { paused.load(ordering: .relaxed) }
    set { paused.store(newValue, ordering: .relaxed) }
  }
  public func clear() { list.withLock { $0 = [] } }

  var now: Double { Profile.clock() - began }

  func add(_ step: Schedule.Step, _ inputs: [DeviceBuffer], _ result: DeviceBuffer, from start: Double) {
    let duration = now - start
    var products = 0.0
    var arithmetic: Arithmetic?
    var name = step.op.shown
    if case .linear(let input) = step.op {
      products = Double(result.rows) * Double(result.columns) * Double(inputs[0].columns)
      switch (inputs[1].storage as? any EncodedStorage)?.encoding {
      case .grouped(let integers):
        arithmetic = input != .int8 ? .float : integers.bits == 8 ? .int8 : .int4
        name += " w\(integers.bits)\(input == .int8 ? "a8" : "")"
      case .plain(.BF16):
        arithmetic = input == .bfloat16 ? .bfloat16 : .float
        name += input == .bfloat16 ? " BF16 × BF16" : " BF16"
      case .plain(.F16):
        arithmetic = .float
        name += " F16"
      default: arithmetic = .float
      }
    }
    let event = Event(
      name: ([name] + step.following.map(\.op.shown)).joined(separator: " + "), rows: result.rows,
      columns: result.columns, start: start, duration: duration, products: products, arithmetic: arithmetic)
    list.withLock { $0.append(event) }
  }

  private static func clock() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}

extension Op {
  /// The name with the kind, for people.
  fileprivate var shown: String {
    switch self {
    case .norm(let kind, _, _): "\(kind.rawValue) norm"
    case .activation(let kind): kind.rawValue
    default: name
    }
  }
}
