import Bytes

/// What is said beside results; who listens decides where it goes.
package enum Output {
  /// What is good to know.
  package static func note(_ text: String) { Listener.current.note(text) }

  /// What must not be overlooked.
  package static func complain(_ text: String) { Listener.current.warning(text) }

  /// Notes of passes, those that differ only in the layer as one.
  package static func notes(_ notes: [String]) {
    for text in collapsed(notes) { note("note: " + text) }
  }

  package static func collapsed(_ notes: [String]) -> [String] {
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

  /// `1.2 MB`, `345 bytes`: powers of 1000.
  package static func size(_ bytes: Int) -> String {
    if bytes < 10_000 { return "\(bytes) bytes" }
    let (value, unit) =
      bytes < 1_000_000
      ? (Double(bytes) / 1e3, "kB") : bytes < 1_000_000_000 ? (Double(bytes) / 1e6, "MB") : (Double(bytes) / 1e9, "GB")
    return "\(value.fixed(value < 10 ? 2 : value < 100 ? 1 : 0)) \(unit)"
  }
}
