import CKernels

/// The sets of instructions that kernels can be held to on this processor. One is switched for the thread of the test,
/// so what is tested has to run on that one.
public enum InstructionSets {
  /// Every set that the kernels tell apart, plain C first.
  public static let all: [UInt32] = {
    let sets = (0...UInt32(LLV_CPU_ALL)).filter { $0 & UInt32(LLV_CPU_SHA) == 0 }
    return Set(sets.map { set in with(set) { llv_cpu_features() } }).sorted()
  }()

  public static func with<Result, Problem: Error>(
    _ set: UInt32, _ body: () throws(Problem) -> Result
  ) throws(Problem) -> Result {
    llv_cpu_allow(set)
    defer { llv_cpu_allow(UInt32(LLV_CPU_ALL)) }
    return try body()
  }
}
