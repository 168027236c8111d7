import Bytes

/// Names of files that other files mention. A name from a file's content is opened only when it stays below the
/// directory that holds the file.
enum RelativeName {
  /// `bytes` as a path below a directory.
  /// - Throws: `malformed` for absolute names, `.`, `..`, empty parts and control characters.
  static func checked(_ bytes: [UInt8]) throws(Failure) -> String {
    let shown = Failure.quoted(bytes)
    guard !bytes.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
      throw Failure(.malformed, "control character in file name \(shown)")
    }
    let parts = bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    let isBad = parts.contains { $0.isEmpty || $0.elementsEqual(".".utf8) || $0.elementsEqual("..".utf8) }
    guard !isBad, bytes.count <= Limits.nameBytes else {
      throw Failure(.malformed, "file name \(shown) must be a relative name below the directory")
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
