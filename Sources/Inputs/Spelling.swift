/// How a text with picture markers is prepared before it goes into a prompt.
public enum Spelling: String, Sendable, CaseIterable {
  /// As it stands, as in the model card's examples.
  case verbatim
  /// As the authors' MMEB evaluation does: `<|image_1|>` is `<image>`; a single marker that does not stand first is moved to
  /// the front, on a line of its own.
  case mmeb

  func apply(_ text: String) -> String {
    guard self == .mmeb else { return text }
    let text = text.replacing("<|image_1|>", with: SampleBuilder.marker)
    guard text.ranges(of: SampleBuilder.marker).count == 1, !text.hasPrefix(SampleBuilder.marker) else { return text }
    let rest = Spelling.stripped(text.replacing(SampleBuilder.marker, with: ""))
    return Spelling.stripped(SampleBuilder.marker + "\n" + rest)
  }

  /// Without white space at both ends.
  private static func stripped(_ text: String) -> String {
    let scalars = text.unicodeScalars
    guard let first = scalars.firstIndex(where: { !$0.properties.isWhitespace }),
      let last = scalars.lastIndex(where: { !$0.properties.isWhitespace })
    else { return "" }
    return String(scalars[first...last])
  }
}
