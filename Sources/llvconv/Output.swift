import Bytes
import Glibc
import LLVConv
import Synchronization

/// Everything the program prints. Results go to standard output, everything else to standard error.
extension Output {
  static func print(_ text: String) { write(Array((text + "\n").utf8), to: 1) }

  static func print(_ json: JSONText) { print(json.text(pretty: true)) }

  /// Whether notes and progress are left out.
  static let isQuiet = Atomic(false)

  /// What somebody does next.
  static func next(_ command: String) {
    if !DryRun.isOn { note("next: \(command)") }
  }

  /// A reader that has gone away (`| head`) ends the program quietly.
  static func write(_ bytes: [UInt8], to descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let wrote = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if wrote < 0 && errno == EINTR { continue }
      guard wrote > 0 else {
        let reason = errno
        if reason != EPIPE, descriptor != 2 {
          write(Array("llvconv: standard output: writing failed: \(String(cString: strerror(reason)))\n".utf8), to: 2)
        }
        Temporaries.unlinkAllAndExit(reason == EPIPE ? 0 : 74)
      }
      rest = rest.dropFirst(wrote)
    }
  }
}
