import Bytes
import TestSupport
import Testing

struct JSONTests {
  @Test("every case is judged as its row says", arguments: try Case.load("json"))
  func everyCaseIsJudgedAsItsRowSays(_ row: Case) throws {
    let bytes = try Case.bytes(try row.json.required("bytes"))
    let result = outcome { () throws(Failure) in
      _ = try JSON.parse(bytes)
      return [String]()
    }
    #expect(row.complaint(result) == nil)
  }

  @Test("numbers are exact, and fields hold their range")
  func numbersAreExactAndFieldsHoldTheirRange() throws {
    let json = try JSON.parse(Array("[9007199254740993, -0, 9223372036854775808, 18446744073709551615, 1.5]".utf8))
    let values = try json.elements()
    #expect(try values[0].integer(in: 0...Int.max) == 9_007_199_254_740_993)
    #expect(try values[1].unsigned() == 0)
    #expect(try values[3].unsigned() == .max)
    #expect(try values[4].double() == 1.5)
    #expect(throws: Failure.self) { try values[2].integer(in: Int.min...Int.max) }
    #expect(throws: Failure.self) { try values[4].unsigned() }
  }

  @Test("names that look alike are different bytes")
  func namesThatLookAlikeAreDifferentBytes() throws {
    let json = try JSON.parse(Array(#"{"\u00e9":1,"e\u0301":2}"#.utf8))
    #expect(try json.members().count == 2)
  }

  @Test("what is written reads back as the same value")
  func whatIsWrittenReadsBackAsTheSameValue() throws {
    let value: JSONText = [
      "text": "a\"b\\c\n\u{1}é😀", "numbers": [0, -1, 1.5, 1e-7, .number(.infinity)], "nothing": .null,
      "deep": [["x": true]],
    ]
    for pretty in [false, true] {
      let json = try JSON.parse(value.bytes(pretty: pretty))
      #expect(try json.required("text").string() == "a\"b\\c\n\u{1}é😀")
      #expect(try JSONText(json).bytes() == value.bytes())
    }
  }

  @Test("nothing that follows from any byte string traps")
  func nothingThatFollowsFromAnyByteStringTraps() {
    var random = Random(seed: 3)
    let alphabet = Array(#"{}[]:,"\u0e1-+. tfn"#.utf8) + [0xC3, 0xA9, 0xFF, 0]
    for _ in 0..<50_000 {
      let bytes = (0..<random.below(24)).map { _ in alphabet[random.below(alphabet.count)] }
      _ = outcome { () throws(Failure) in try JSON.parse(bytes) }
    }
  }
}
