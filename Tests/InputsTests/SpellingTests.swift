import Bytes
import Inputs
import Tensors
import TestSupport
import Testing

/// What becomes of texts with markers, seen through the ids of the tiny LLaVE.
struct SpellingTests {
  static func ids(_ text: String, _ spelling: Spelling, images: [String] = ["square.png"]) throws -> [Int32] {
    let model = try TinyLlave.model()
    let tokenizer = try Tokenizer.load { (name) throws(Failure) in try model.file(name) }
    let builder = SampleBuilder(model.configuration, tokenizer: tokenizer, spelling: spelling)
    var item = Item(text: text)
    item.images = images
    return try builder.build(item, folder: TinyLlave.folder).sample.ids
  }

  /// Text as it is given, and the text that MMEB's preparation makes of it.
  static let rows = [
    ("<|image_1|>\nRepresent the given image.\n", "<image>\nRepresent the given image.\n"),
    ("Represent <|image_1|> now \n", "<image>\nRepresent  now"),
    ("  <image> x\n", "<image>\nx"),
    ("<image> x \n", "<image> x \n"),
    ("What is it? <image>\u{301}", "<image>\nWhat is it? \u{301}"),
  ]

  @Test("MMEB's preparation moves a single marker to the front", arguments: rows.indices)
  func mmebsPreparationMovesASingleMarkerToTheFront(_ index: Int) throws {
    let (text, wanted) = SpellingTests.rows[index]
    #expect(try SpellingTests.ids(text, .mmeb) == SpellingTests.ids(wanted, .verbatim))
  }

  @Test("two markers stay where they are")
  func twoMarkersStayWhereTheyAre() throws {
    let text = "Compare <image> with <|image_1|>."
    let images = ["square.png", "odd.png"]
    #expect(
      try SpellingTests.ids(text, .mmeb, images: images)
        == SpellingTests.ids("Compare <image> with <image>.", .verbatim, images: images))
  }

  @Test("frames are taken as the authors take them")
  func framesAreTakenAsTheAuthorsTakeThem() {
    let vision = Vision(tile: 18, patch: 4, width: 8)
    #expect(Video.places(total: 10, rate: 3, vision) == Array(0..<10))
    #expect(Video.places(total: 50, rate: 25, vision) == [0, 8, 16, 24, 32, 40, 48])
    // 7.5 rounds to 8, 10.5 to 10: ties to even.
    #expect(Video.places(total: 20, rate: 22.5, vision) == [0, 8, 16])
    #expect(Video.places(total: 21, rate: 31.5, vision) == [0, 10, 20])
    #expect(Video.places(total: 5, rate: 1, vision) == Array(0..<5))
    let many = Video.places(total: 1_000, rate: 3, vision)
    #expect(many.count == 32 && many[1] == 32 && many[30] == 966 && many[31] == 999)
  }
}
