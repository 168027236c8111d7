/// The scalar values of a text in UTF-8.
func scalars(_ bytes: [UInt8]) -> [UInt32] { String(decoding: bytes, as: UTF8.self).unicodeScalars.map(\.value) }

/// Appends one scalar value in UTF-8. `code` came from a valid string.
func appendUTF8(_ code: UInt32, to bytes: inout [UInt8]) {
  if code < 0x80 {
    bytes.append(UInt8(code))
  } else if let scalar = Unicode.Scalar(code), let encoded = UTF8.encode(scalar) {
    bytes += encoded
  }
}

/// The bytes that `code` has in UTF-8.
func utf8Length(_ code: UInt32) -> Int { code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4 }
