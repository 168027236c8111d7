import Bytes

extension Embeddings {
  /// Opens a NumPy `.npy` file (format versions 1 to 3) of Float32 or Float16 `(rows, columns)` in C order; its rows
  /// are read when they are asked for.
  ///
  /// - Throws: `malformed` for what is no such file or is cut, `unsupported` for other element types and orders.
  public init(numPy path: String) throws(Failure) {
    try self.init(
      numPy: path, wanted: "Float32 '<f4' and Float16 '<f2' of two dimensions in C order are read"
    ) { type in Element(numPy: type) }
  }

  /// The same, or codes: int8, and bytes of bits.
  ///
  /// - Parameter precision: what bytes are codes of; nil where nobody said, then signed ones are 8-bit codes.
  public init(numPy path: String, codes precision: VectorForm.Precision?) throws(Failure) {
    try self.init(
      numPy: path,
      wanted: "Float32 '<f4', Float16 '<f2' and int8 '|i1' of two dimensions in C order are read, and bits '|u1' with "
        + "--precision binary or ternary"
    ) { type in Element(numPy: type) ?? Element(numPy: type, codes: precision) }
  }

  private init(numPy path: String, wanted: String, _ element: (String) -> Element?) throws(Failure) {
    let file = try InputFile(path)
    do throws(Failure) {
      let prefix = try ByteView(file, 0, min(12, file.count)).bytes()
      guard prefix.count == 12, prefix.starts(with: [0x93] + Array("NUMPY".utf8)), (1...3).contains(prefix[6]) else {
        throw Failure(.malformed, "not a .npy file: it does not start with \\x93NUMPY and a version from 1 to 3")
      }
      let isShort = prefix[6] == 1
      let length = Int(prefix[8]) | Int(prefix[9]) << 8 | (isShort ? 0 : Int(prefix[10]) << 16 | Int(prefix[11]) << 24)
      let start = isShort ? 10 : 12
      guard length <= 1 << 16, start + length <= file.count else {
        throw Failure(.malformed, "the header says \(length) bytes, the file has \(file.count)")
      }
      let header = String(decoding: try ByteView(file, start, length).bytes(), as: UTF8.self)
      guard let type = Embeddings.value("descr", in: header), let order = Embeddings.value("fortran_order", in: header),
        let shape = Embeddings.shape(in: header)
      else { throw Failure(.malformed, "the header \(Failure.quoted(header)) lacks descr, fortran_order or shape") }
      guard order == "False", shape.count == 2, let element = element(type) else {
        throw Failure(.unsupported, "found \(type) of shape \(shape), fortran_order \(order); \(wanted)")
      }
      guard shape[0] > 0, shape[1] > 0, let bytes = Checked.product([shape[0], shape[1], element.numPyBytes]),
        bytes == file.count - start - length, element != .ternary || shape[1] % 2 == 0,
        let width = element.columns(shape[1])
      else {
        throw Failure(.malformed, "shape \(shape) does not fit the \(file.count - start - length) bytes that follow")
      }
      self.init(width: width, count: shape[0], bytes: ByteView(file, start + length, bytes), element: element)
    } catch { throw error.inFile(path) }
  }

  /// What stands after `'key':`, up to the next comma outside parentheses.
  private static func value(_ key: String, in header: String) -> String? {
    guard
      let found = header.split(separator: "'\(key)':", maxSplits: 1, omittingEmptySubsequences: false).dropFirst().first
    else { return nil }
    let text = found.drop { $0 == " " }
    return String(text.first == "(" ? text.prefix { $0 != ")" } : text.prefix { $0 != "," && $0 != "}" })
  }

  private static func shape(in header: String) -> [Int]? {
    guard let text = value("shape", in: header), text.hasPrefix("(") else { return nil }
    var result: [Int] = []
    for part in text.dropFirst().split(separator: ",") {
      let word = part.drop { $0 == " " }
      if word.isEmpty { continue }
      guard let number = Int(word), number >= 0 else { return nil }
      result.append(number)
    }
    return result
  }
}

extension Embeddings.Element {
  /// Of numbers, as a header spells them.
  init?(numPy type: String) {
    switch type {
    case "'<f4'": self = .float32
    case "'<f2'": self = .float16
    default: return nil
    }
  }

  /// Of bytes, by what they are said to be.
  init?(numPy type: String, codes: VectorForm.Precision?) {
    switch (type, codes) {
    case ("'|i1'", nil), ("'|i1'", .int8): self = .int8
    case ("'|i1'", .binary): self = .bits(isTurned: true)
    case ("'|u1'", .binary): self = .bits(isTurned: false)
    case ("'|u1'", .ternary): self = .ternary
    default: return nil
    }
  }

  /// Bytes of an element of the array.
  var numPyBytes: Int {
    switch self {
    case .float32: 4
    case .float16: 2
    case .int8, .bits, .ternary: 1
    }
  }

  /// Columns of the vectors in rows of so many elements; nil where they are too many to count.
  func columns(_ elements: Int) -> Int? {
    switch self {
    case .float32, .float16, .int8: elements
    case .bits: Checked.product([elements, 8])
    case .ternary: Checked.product([elements, 4])
    }
  }
}

/// The first 128 bytes of a `.npy` file, version 1.
public enum NumPyHeader {
  public static let count = 128

  /// - Parameter type: as NumPy spells it, `<f4`.
  public static func bytes(_ type: String, rows: Int, columns: Int) -> [UInt8] {
    let text = "{'descr': '\(type)', 'fortran_order': False, 'shape': (\(rows), \(columns)), }"
    let room = count - 10
    let padding = [UInt8](repeating: UInt8(ascii: " "), count: max(0, room - 1 - text.utf8.count))
    return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(room & 255), UInt8(room >> 8)] + Array(text.utf8) + padding
      + [UInt8(ascii: "\n")]
  }
}

extension VectorCoding {
  /// The array that indexes take: its type as NumPy spells it, and its columns.
  public var numPyArray: (type: String, columns: Int) {
    switch form.precision {
    case .float32: ("<f4", width)
    case .float16: ("<f2", width)
    case .int8: ("|i1", width)
    case .binary: ("|u1", width / 8)
    case .ternary: ("|u1", width / 4)
    }
  }
}

extension ColumnRanges {
  /// A whole `.npy` file, as sentence-transformers takes ranges: float32 `(2, columns)`.
  public var numPyFile: [UInt8] {
    NumPyHeader.bytes("<f4", rows: 2, columns: width) + (low + high).withUnsafeBytes { Array($0) }
  }
}
