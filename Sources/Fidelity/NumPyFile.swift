import Bytes

extension Embeddings {
  /// Opens a NumPy `.npy` file (format versions 1 to 3) of Float32 or Float16 `(rows, columns)` in C order; its rows
  /// are read when they are asked for.
  ///
  /// - Throws: `malformed` for what is no such file or is cut, `unsupported` for other element types and orders.
  public init(numPy path: String) throws(Failure) {
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
      let isHalf = type == "'<f2'"
      guard isHalf || type == "'<f4'", order == "False", shape.count == 2 else {
        throw Failure(
          .unsupported,
          "found \(type) of shape \(shape), fortran_order \(order); Float32 '<f4' and Float16 '<f2' of two dimensions in C "
            + "order are read")
      }
      guard shape[0] > 0, shape[1] > 0, let bytes = Checked.product([shape[0], shape[1], isHalf ? 2 : 4]),
        bytes == file.count - start - length
      else {
        throw Failure(.malformed, "shape \(shape) does not fit the \(file.count - start - length) bytes that follow")
      }
      self.init(width: shape[1], count: shape[0], bytes: ByteView(file, start + length, bytes), isHalf: isHalf)
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
