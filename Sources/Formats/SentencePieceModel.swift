import Bytes

/// A model of SentencePiece (`sentencepiece.bpe.model`, `tokenizer.model`): a protocol buffer with pieces, how they
/// were trained and how text is normalized.
///
/// Source: `sentencepiece_model.proto` of google/sentencepiece.
struct SentencePieceModel {
  enum Kind: UInt64 {
    case unigram = 1
    case bytePair = 2
  }

  struct Piece {
    var text = ""
    var score: Float = 0
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 a byte.
    var type: UInt64 = 1
  }

  private(set) var pieces: [Piece] = []
  private(set) var kind = Kind.unigram
  private(set) var unknown = 0
  private(set) var characterMap: [UInt8] = []

  /// - Throws: `malformed` for what is no such file, `unsupported` for models of words and characters.
  init(_ bytes: [UInt8]) throws(Failure) {
    try ProtocolBuffer.forEachField(bytes[...]) { (number, value) throws(Failure) in
      switch (number, value) {
      case (1, .bytes(let piece)): pieces.append(try SentencePieceModel.piece(piece))
      case (2, .bytes(let trainer)): try readTrainer(trainer)
      case (3, .bytes(let normalizer)):
        try ProtocolBuffer.forEachField(normalizer) { (number, value) throws(Failure) in
          if case (2, .bytes(let map)) = (number, value) { characterMap = Array(map) }
        }
      default: break
      }
      guard pieces.count <= Limits.arrayElements else {
        throw Failure(.limit, "more than \(Limits.arrayElements) pieces")
      }
    }
    guard !pieces.isEmpty else { throw Failure(.malformed, "holds no pieces: it is no model of SentencePiece") }
    guard pieces.indices.contains(unknown) else {
      throw Failure(.malformed, "the unknown piece is number \(unknown) of \(pieces.count)")
    }
    var seen = Set<[UInt8]>()
    for (index, piece) in pieces.enumerated() {
      guard piece.score.isFinite else { throw Failure(.malformed, "the score of piece \(index) is no finite number") }
      guard !piece.text.isEmpty, seen.insert(Array(piece.text.utf8)).inserted else {
        throw Failure(.malformed, "piece \(index), \(Failure.quoted(piece.text)), is empty or comes twice")
      }
    }
  }

  private static func piece(_ bytes: ArraySlice<UInt8>) throws(Failure) -> Piece {
    var piece = Piece()
    try ProtocolBuffer.forEachField(bytes) { (number, value) throws(Failure) in
      switch (number, value) {
      case (1, .bytes(let text)):
        guard let text = String(validating: text, as: UTF8.self) else {
          throw Failure(.malformed, "piece \(Failure.quoted(Array(text))) is not UTF-8")
        }
        piece.text = text
      case (2, .fixed32(let bits)): piece.score = Float(bitPattern: bits)
      case (3, .number(let type)): piece.type = type
      default: break
      }
    }
    return piece
  }

  private mutating func readTrainer(_ bytes: ArraySlice<UInt8>) throws(Failure) {
    try ProtocolBuffer.forEachField(bytes) { (number, value) throws(Failure) in
      switch (number, value) {
      case (3, .number(let number)):
        guard let kind = Kind(rawValue: number) else {
          throw Failure(.unsupported, "a model of kind \(number), unigram (1) and BPE (2) are read")
        }
        self.kind = kind
      case (40, .number(let number)):
        guard let unknown = Int(exactly: number) else { throw Failure(.malformed, "there is no unknown piece") }
        self.unknown = unknown
      default: break
      }
    }
  }
}

/// The fields of a protocol buffer's message, without its description.
enum ProtocolBuffer {
  enum Value {
    case number(UInt64)
    case fixed32(UInt32)
    case fixed64(UInt64)
    case bytes(ArraySlice<UInt8>)
  }

  /// - Throws: `malformed` where a field ends beyond its message, is of no kind, or is a group, which nobody writes.
  static func forEachField(
    _ message: ArraySlice<UInt8>, _ body: (_ number: UInt64, _ value: Value) throws(Failure) -> Void
  ) throws(Failure) {
    var rest = message
    func taken(_ count: Int) throws(Failure) -> ArraySlice<UInt8> {
      guard count <= rest.count else {
        throw Failure(.malformed, "a field ends beyond its message", place: "byte \(rest.startIndex)")
      }
      defer { rest = rest.dropFirst(count) }
      return rest.prefix(count)
    }
    func number() throws(Failure) -> UInt64 {
      var (result, shift): (UInt64, UInt64) = (0, 0)
      while true {
        let byte = try taken(1)[rest.startIndex - 1]
        guard shift < 64 else {
          throw Failure(.malformed, "a number of more than 64 bits", place: "byte \(rest.startIndex)")
        }
        result |= UInt64(byte & 127) << shift
        if byte < 128 { return result }
        shift += 7
      }
    }
    func fixed(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }
    while !rest.isEmpty {
      let at = rest.startIndex
      let key = try number()
      switch key & 7 {
      case 0: try body(key >> 3, .number(try number()))
      case 1: try body(key >> 3, .fixed64(fixed(try taken(8))))
      case 2:
        let count = try number()
        guard let count = Int(exactly: count) else {
          throw Failure(.malformed, "a field of \(count) bytes", place: "byte \(at)")
        }
        try body(key >> 3, .bytes(try taken(count)))
      case 5: try body(key >> 3, .fixed32(UInt32(truncatingIfNeeded: fixed(try taken(4)))))
      case let kind: throw Failure(.malformed, "a field of kind \(kind)", place: "byte \(at)")
      }
    }
  }
}
