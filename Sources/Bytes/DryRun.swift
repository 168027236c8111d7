/// A run that checks and computes as always and writes nothing: `--dry-run`.
public enum DryRun {
  typealias Report = @Sendable (_ path: String, _ bytes: Int) -> Void

  /// Told of each file that would have been written, and its bytes; nil outside of a dry run. Bound for the time of one
  /// call and in its thread.
  @TaskLocal static var report: Report?

  public static var isOn: Bool { report != nil }

  /// Runs `body` so that every output is checked, counted and dropped.
  public static func run<R>(
    reporting report: @escaping @Sendable (_ path: String, _ bytes: Int) -> Void, _ body: () throws(Failure) -> R
  ) throws(Failure) -> R {
    try $report.withValue(report) { Result { () throws(Failure) -> R in try body() } }.get()
  }
}
