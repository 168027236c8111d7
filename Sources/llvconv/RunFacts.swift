import Bytes
import Fidelity
import LLVConv

extension Program {
  /// What a report says of the run that made it: how to make it again.
  static func facts() -> [(name: String, value: String)] {
    [("command", CommandLine.arguments.map(shellQuoted).joined(separator: " ")), ("llvconv", version)]
  }

  /// A word as a shell takes it.
  static func shellQuoted(_ word: String) -> String {
    let plain =
      !word.isEmpty && word.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "-_./:=,+@%".contains($0)) }
    return plain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
  }
}
