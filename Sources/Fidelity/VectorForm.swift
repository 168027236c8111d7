import Bytes

/// What an index keeps of a vector: how many of its columns, how precisely, and how many more documents than asked for
/// are found by that before float queries rank them again.
///
/// Written `WIDTH:PRECISION+rescoreFACTOR`, of which any but one may be left out: `float32`, `256`, `int8`,
/// `256:binary`, `binary+rescore4`.
public struct VectorForm: Sendable, Hashable, CustomStringConvertible {
  public enum Precision: String, Sendable, CaseIterable {
    case float32, float16
    /// 256 equal steps between the least and the largest value of each column.
    case int8
    /// A bit a column: whether the value is above zero.
    case binary
    /// -1, 0 or 1 a column, 0 up to 0.7 times the vector's mean magnitude (Li and Liu 2016); two bits.
    case ternary

    /// Whether an index of this holds codes, which are compared as they are, and not numbers.
    public var isCoded: Bool { self != .float32 && self != .float16 }
    var isBits: Bool { self == .binary || self == .ternary }
  }

  /// The first columns alone, brought to length 1 again; nil for all, as they are.
  public var width: Int?
  public var precision: Precision
  /// Of codes: this many times as many documents as asked for are ranked again by the float query.
  public var rescoring: Int?

  public static let mostColumns = 1 << 20
  public static let mostRescored = 100
  /// Forms in one list.
  private static let most = 32

  public init(width: Int? = nil, precision: Precision = .float32, rescoring: Int? = nil) {
    (self.width, self.precision, self.rescoring) = (width, precision, rescoring)
  }

  /// - Throws: `usage` for what is no form.
  public init(_ text: String) throws(Failure) {
    func refused(_ problem: String) -> Failure {
      Failure(
        .usage,
        "\(Failure.quoted(text)) is no form of vectors: \(problem); one is a width, a precision ("
          + Precision.allCases.map(\.rawValue).joined(separator: ", ") + ") or both, as 256, int8, 256:binary, "
          + "binary+rescore4")
    }
    let parts = text.split(separator: "+", omittingEmptySubsequences: false)
    var words = parts[0].split(separator: ":", omittingEmptySubsequences: false)[...]
    guard parts.count <= 2, words.count <= 2 else { throw refused("it has too many parts") }
    var form = VectorForm()
    if let first = words.first, first.first?.isNumber ?? false {
      guard let width = VectorForm.number(first), (1...VectorForm.mostColumns).contains(width) else {
        throw refused("the width must be from 1 to \(VectorForm.mostColumns)")
      }
      form.width = width
      words.removeFirst()
    } else if words.count == 2 {
      throw refused("before the colon stands a width")
    }
    if let word = words.first {
      guard let precision = Precision(rawValue: String(word)) else {
        throw refused("\(Failure.quoted(String(word))) is no precision")
      }
      form.precision = precision
    }
    if parts.count == 2 {
      guard parts[1].hasPrefix("rescore"), let factor = VectorForm.number(parts[1].dropFirst(7)),
        (1...VectorForm.mostRescored).contains(factor)
      else { throw refused("after + stands rescore and a factor from 1 to \(VectorForm.mostRescored)") }
      guard form.precision.isCoded else { throw refused("only codes are scored again, not \(form.precision.rawValue)") }
      form.rescoring = factor
    }
    self = form
  }

  /// Forms with commas between them.
  public static func list(_ text: String) throws(Failure) -> [VectorForm] {
    let words = text.split(separator: ",", omittingEmptySubsequences: false)
    guard words.count <= most else {
      throw Failure(.usage, "\(words.count) forms of vectors; \(most) go into one table")
    }
    var forms: [VectorForm] = []
    for word in words {
      let form = try VectorForm(String(word))
      guard !forms.contains(form) else { throw Failure(.usage, "the form \(form) is listed twice") }
      forms.append(form)
    }
    return forms
  }

  /// Digits alone: no sign, no other script's.
  private static func number(_ text: Substring) -> Int? {
    text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Int(text) : nil
  }

  public var description: String {
    let name =
      switch (width, precision) {
      case (let width?, .float32): String(width)
      case (let width?, _): "\(width):\(precision.rawValue)"
      case (nil, _): precision.rawValue
      }
    return name + (rescoring.map { "+rescore\($0)" } ?? "")
  }

  /// - Throws: `usage` where vectors have fewer columns than are kept.
  public func check(columns: Int) throws(Failure) {
    guard let width, width > columns else { return }
    throw Failure(.usage, "the form \(self) keeps \(width) columns, the vectors have \(columns)")
  }

  /// Bytes that an index holds of a vector of `columns`.
  public func bytes(columns: Int) -> Int {
    let kept = width ?? columns
    return switch precision {
    case .float32: kept * 4
    case .float16: kept * 2
    case .int8: kept
    case .binary: Checked.ceilDivide(kept, 8)
    case .ternary: 2 * Checked.ceilDivide(kept, 8)
    }
  }
}
