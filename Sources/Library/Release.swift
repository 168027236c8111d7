/// Which llvconv this is; files that it writes say so.
package enum Release {
  package static let version = "0.1.0"
  package static let program = "llvconv \(version)"
}
