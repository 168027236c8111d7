/// Which llvconv this is; files that it writes say so.
package enum Release {
  package static let version = "0.1.0"
  /// Of this version; manual pages bear it.
  package static let date = "2026-11-30"
  package static let program = "llvconv \(version)"
}
