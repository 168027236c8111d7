import Bytes
import Glibc
import Synchronization

/// Everything the program prints. Results go to standard output, everything else to standard error.
enum Output {
  static func print(_ text: String) { write(Array((text + "\n").utf8), to: 1) }

  static func print(_ json: JSONText) { print(json.text(pretty: true)) }

  /// Errors, which are always said.
  static func complain(_ text: String) { write(Array((text + "\n").utf8), to: 2) }

  static let isQuiet = Atomic(false)
  private static let isTerminal = isatty(2) == 1

  /// What is good to know; nothing with --quiet.
  static func note(_ text: String) {
    guard !isQuiet.load(ordering: .relaxed) else { return }
    complain(isTerminal ? text.wrapped(Command.columns) : text)
  }

  /// Notes of passes, those that differ only in the layer as one.
  static func notes(_ notes: [String]) {
    for text in collapsed(notes) { note("note: " + text) }
  }

  static func collapsed(_ notes: [String]) -> [String] {
    var kinds: [(pattern: String, notes: [String])] = []
    for note in notes {
      let pattern = note.replacing(#/\.\d+\./#, with: ".*.")
      if let place = kinds.firstIndex(where: { $0.pattern == pattern }) {
        kinds[place].notes.append(note)
      } else {
        kinds.append((pattern, [note]))
      }
    }
    return kinds.map { $0.notes.count == 1 ? $0.notes[0] : "\($0.notes.count) layers: \($0.pattern)" }
  }

  /// What somebody does next.
  static func next(_ command: String) { note("next: \(command)") }

  /// A reader that has gone away (`| head`) ends the program quietly.
  static func write(_ bytes: [UInt8], to descriptor: Int32) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let wrote = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if wrote < 0 && errno == EINTR { continue }
      guard wrote > 0 else {
        Temporaries.unlinkAllAndExit(errno == EPIPE ? 0 : 74)
      }
      rest = rest.dropFirst(wrote)
    }
  }

  /// `1.2 MB`, `345 bytes`: powers of 1000.
  static func size(_ bytes: Int) -> String {
    if bytes < 10_000 { return "\(bytes) bytes" }
    let (value, unit) =
      bytes < 1_000_000
      ? (Double(bytes) / 1e3, "kB") : bytes < 1_000_000_000 ? (Double(bytes) / 1e6, "MB") : (Double(bytes) / 1e9, "GB")
    return "\(value.fixed(value < 10 ? 2 : value < 100 ? 1 : 0)) \(unit)"
  }
}
