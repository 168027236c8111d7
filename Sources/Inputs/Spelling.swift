/// How a text with picture markers is prepared before it goes into a prompt.
public enum Spelling: String, Sendable, CaseIterable {
  /// As it stands, as in the model card's examples.
  case verbatim
  /// As the authors' MMEB evaluation does: `<|image_1|>` is `<image>`; a single marker that does not stand first is
  /// moved to the front, on a line of its own.
  case mmeb

  func apply(_ text: String) -> String {
    guard self == .mmeb else { return text }
    let marker = SampleBuilder.marker
    let text = Spelling.pieces(of: text, around: "<|image_1|>").joined(separator: marker)
    let pieces = Spelling.pieces(of: text, around: marker)
    guard pieces.count == 2, !pieces[0].isEmpty else { return text }
    return Spelling.stripped(marker + "\n" + Spelling.stripped(pieces.joined()))
  }

  /// The parts of `text` before, between and after each `marker`. Compares bytes: to Swift's strings a marker with an
  /// accent after it would be another text.
  static func pieces(of text: String, around marker: String) -> [String] {
    let (bytes, marker) = (Array(text.utf8), Array(marker.utf8))
    var pieces: [String] = []
    var start = 0
    var at = 0
    while at + marker.count <= bytes.count {
      if bytes[at] == marker[0], bytes[at..<at + marker.count].elementsEqual(marker) {
        pieces.append(String(decoding: bytes[start..<at], as: UTF8.self))
        at += marker.count
        start = at
      } else {
        at += 1
      }
    }
    return pieces + [String(decoding: bytes[start...], as: UTF8.self)]
  }

  /// Without white space at both ends, as Python's `strip` has it.
  private static func stripped(_ text: String) -> String {
    func isSpace(_ scalar: Unicode.Scalar) -> Bool {
      scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
    }
    let scalars = text.unicodeScalars
    guard let first = scalars.firstIndex(where: { !isSpace($0) }), let last = scalars.lastIndex(where: { !isSpace($0) })
    else { return "" }
    return String(scalars[first...last])
  }
}
