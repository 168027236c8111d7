import Bytes
import CKernels
import TestSupport
import Testing

/// Published vectors: FIPS 180-4 examples, the xxHash reference.
struct ChecksumTests {
  static let sha: [(String, String)] = [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    (String(repeating: "a", count: 1_000_000), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
  ]

  @Test("SHA-256 gives the published digests on every instruction set", arguments: [0, UInt32(LLV_CPU_ALL)])
  func sha256GivesThePublishedDigestsOnEveryInstructionSet(_ set: UInt32) {
    llv_cpu_allow(set)
    defer { llv_cpu_allow(UInt32(LLV_CPU_ALL)) }
    for (text, digest) in ChecksumTests.sha {
      for piece in [1, 63, 64, 65, 1 << 20] where text.utf8.count / piece < 100_000 {
        var hash = SHA256()
        let bytes = Array(text.utf8)
        for start in stride(from: 0, to: bytes.count, by: piece) {
          bytes[start..<min(start + piece, bytes.count)].withUnsafeBytes { hash.update($0) }
        }
        #expect(hash.text() == digest)
      }
    }
  }

  @Test("XXH64 gives the reference's values")
  func xxh64GivesTheReferenceSValues() {
    #expect(XXH64.text(XXH64.hash([])) == "ef46db3751d8e999")
    #expect(XXH64.text(XXH64.hash(Array("a".utf8))) == "d24ec4f1a98c6e5b")
    #expect(XXH64.text(XXH64.hash(Array("abc".utf8))) == "44bc2cf5ad770999")
    #expect(XXH64.text(XXH64.hash(Array("Nobody inspects the spammish repetition".utf8))) == "fbcea83c8a378bf1")
  }

  @Test("XXH64 does not depend on how the bytes are cut")
  func xxh64DoesNotDependOnHowTheBytesAreCut() {
    var random = Random(seed: 5)
    let bytes = (0..<1_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    for _ in 0..<200 {
      var hash = XXH64()
      var at = 0
      while at < bytes.count {
        let end = min(bytes.count, at + random.below(100))
        bytes[at..<end].withUnsafeBytes { hash.update($0) }
        at = end
      }
      #expect(hash.value() == XXH64.hash(bytes))
    }
  }
}
