import Bytes
import Foundation
import Inference
import Inputs
import Tensors
import TestSupport
import Testing

/// Golden values computed with the authors' code and Pillow 10.3.
struct PictureTests {
  static let so400m = Vision(
    tile: 384, patch: 14, width: 1152, grid: grid(2), maximumViews: 9, newline: .grid)

  static func grid(_ side: Int) -> [Vision.Size] {
    (1...side).flatMap { width in (1...side).map { Vision.Size(width * 384, $0 * 384) } }
  }

  static func sha256(_ bytes: [UInt8]) throws -> String { try SHA256.text(of: ByteView(try Buffer(bytes))) }

  /// The formula of the decoder-free patterns.
  static func pattern(_ width: Int, _ height: Int) -> Picture {
    var pixels: [UInt8] = []
    for y in 0..<height {
      for x in 0..<width {
        for c in 0..<3 { pixels.append(UInt8((7 * x + 13 * y + 29 * c + x * y / 16) % 256)) }
      }
    }
    return Picture(width: width, height: height, pixels: pixels)
  }

  /// Views as the processor gives them to the network: `[views, 3, side, side]`, Float32.
  static func scaled(_ views: [Picture]) throws -> [UInt8] {
    let side = views[0].width
    var planes: [UInt8] = []
    for view in views {
      for channel in 0..<3 { planes += stride(from: channel, to: view.pixels.count, by: 3).map { view.pixels[$0] } }
    }
    let device = CPUDevice()
    let tensor = Tensor(
      "x", shape: [views.count, 3 * side * side], encoding: .plain(.U8), content: .bytes(ByteView(try Buffer(planes))))
    let rescale = Op.Rescale(factor: 1 / 255.0, mean: [0.5, 0.5, 0.5], deviation: [0.5, 0.5, 0.5])
    let values = try device.download(try device.run(.rescale(rescale), [try device.upload(tensor)]))
    return values.withUnsafeBytes { Array($0) }
  }

  struct Row: Sendable {
    let width, height: Int
    let source, base, views, scaled: String
  }

  static let rows = [
    Row(
      width: 640, height: 480, source: "9f557ddb4fd0d2fff82372fa049da1485193e6494da5df4c58e69828ed502a3c",
      base: "0919301c1eaecd69b6f798cc532274c00e8ae177e8b867d2a90d560f5004ad78",
      views: "d6c405a915afbfad125bc1e6a8e9166815f151e0a938908566308c55b095a67c",
      scaled: "06a7c44b229d06c2fd899f20594e44c65736406297418833d4c58844a0a7ae23"),
    Row(
      width: 384, height: 384, source: "86bdd978fa6e018fd76d23052eb7ad793ecd1aa1190b3610d1027e83e35f0cd7",
      base: "86bdd978fa6e018fd76d23052eb7ad793ecd1aa1190b3610d1027e83e35f0cd7", views: "",
      scaled: "3e76c3b46fd6b0281c032511f7a2731ddca7aa5dd2d0e9d9dfaa54b164a5b7aa"),
    Row(
      width: 1000, height: 300, source: "a3e404f70d6d5aa3bb5b9ee1835cb8c7564b7073a7379f69d7aaffdf0fc88b26",
      base: "b36a2144ee479094c2ef4563e6a36acc17b30116d916d425fe4e6c38b4b09930",
      views: "c3c69e26caeae4c0790cb78cf4ac96d88710750e5de10a593765c553f8226a95",
      scaled: "71e391876df4e4d44d0393fdb1ab42e989e85487b0d371173e9b1f13be40dfe1"),
    Row(
      width: 300, height: 1200, source: "443645ab63a7dbc899b92a99856bc783e334edaf4eb190a6cbe3e77882446be2",
      base: "ac1a4eccdaf96e22cebee14a9546f2c58266916aa78c22ce9e21417b362b6bae",
      views: "516ed59671b580fa7f86ecc8a13315d00a54af0344ef7456eb27524108422b6c",
      scaled: "497611be9affc96c1c64e3cc16e24f71e472511635fbefd350846dfdf045b2be"),
    Row(
      width: 333, height: 500, source: "0c764dfa82f0355dbe9d6467a7fd538aa22a5bb9231e9aee9b202f5ed9197650",
      base: "4a646cfa1d64e8f39dba90fcfa56279f9a7d277f6e1697c160d7e0c7d8ad61b9",
      views: "f8e842c560d350593e2ff1ec6363d2f8693a0a8285cd148d905e78d0272bcba5",
      scaled: "5956a44f641a4800b205405d93039349dd39177ece64268221cea3a132f90d54"),
    Row(
      width: 37, height: 61, source: "0d8866e2f59633c143c58170198b114341f240ab14027ef4ba1a63d4957a3946",
      base: "bfde0fb5f6c8c728d33ab6be688032375b2fe5883737afe6581315dffbaccb49",
      views: "833bb6f33432944002556bf238e6d1b6c889ab4f93086d90c6da5eaa84e98a0e",
      scaled: "b11d9a056601dc227de17b07e18ff2786da390c88cddaa294be45fb7031c8829"),
  ]

  @Test("views of patterns are the authors', to the bit", arguments: rows.indices)
  func viewsOfPatternsAreTheAuthors(_ index: Int) throws {
    let row = PictureTests.rows[index]
    let source = PictureTests.pattern(row.width, row.height)
    #expect(try PictureTests.sha256(source.pixels) == row.source)
    let views = AnyRes(PictureTests.so400m).views(source)
    #expect(try PictureTests.sha256(views[0].pixels) == row.base)
    if !row.views.isEmpty { #expect(try PictureTests.sha256(views.flatMap(\.pixels)) == row.views) }
    #expect(try PictureTests.sha256(try PictureTests.scaled(views)) == row.scaled)
  }

  @Test("the model card's picture becomes the authors' views, to the bit")
  func theModelCardsPictureBecomesTheAuthorsViews() throws {
    let picture = try Picture(path: Repository.root + "/Tests/Goldens/llave/example.jpg")
    #expect(picture.width == 400 && picture.height == 300)
    #expect(
      try PictureTests.sha256(picture.pixels) == "20b4a3ae0d88b9d9f50ca396ef82fe6a57e99b0f9b2126b907be639d94a12e24")
    func pixel(_ row: Int, _ column: Int) -> [UInt8] { Array(picture.pixels[((row * 400 + column) * 3)...].prefix(3)) }
    #expect(pixel(0, 0) == [3, 2, 7] && pixel(150, 200) == [121, 116, 52] && pixel(299, 399) == [77, 90, 36])
    let views = AnyRes(PictureTests.so400m).views(picture)
    let hashes = try views.map { try PictureTests.sha256($0.pixels) }
    #expect(
      hashes == [
        "a7ffaf65ed3275998ca1b48ef95eef18e8afe444f482c79c2b3e8c61b9a15b78",
        "35f41d7f50797ba7ca28db949fff726989520d132359739baf4d103f8236b747",
        "d94f9f8f92999383752eb1b1d3cfa53eea0d4ac362b1c08df41bf31d094febc6",
      ])
    let scaled = try views.map { try PictureTests.sha256(try PictureTests.scaled([$0])) }
    #expect(
      scaled == [
        "b7d07e656b95a152c4cb5fa588b2eb37bf4afcdd96baa92f570566ea17ab4b19",
        "2577455108d47baedc8d2cbf9634cd9ba5a2dbbe927a4214f9612dc50c0965d8",
        "fd051436310f15512bc0705623629e946b973d25b66c6702c7d472c1fc7bbafa",
      ])
  }

  struct Geometry: Sendable {
    let size: (Int, Int)
    /// Chosen canvas, views, features: with the 2 × 2 grid, with the 6 × 6 grid.
    let small, large: (Int, Int, Int, Int)
  }

  static let table = [
    Geometry(size: (640, 480), small: (768, 768, 5, 2929), large: (768, 768, 5, 2929)),
    Geometry(size: (384, 384), small: (384, 384, 2, 1485), large: (384, 384, 2, 1485)),
    Geometry(size: (1000, 300), small: (768, 384, 3, 1664), large: (1152, 384, 4, 2779)),
    Geometry(size: (300, 1200), small: (384, 768, 3, 1485), large: (384, 1536, 5, 3753)),
    Geometry(size: (2304, 2304), small: (768, 768, 5, 3699), large: (2304, 2304, 37, 7371)),
    Geometry(size: (400, 300), small: (768, 384, 3, 1728), large: (768, 384, 3, 1728)),
    Geometry(size: (500, 375), small: (768, 384, 3, 1728), large: (768, 384, 3, 1728)),
    Geometry(size: (375, 500), small: (384, 768, 3, 1737), large: (384, 768, 3, 1737)),
    Geometry(size: (333, 500), small: (384, 768, 3, 1849), large: (384, 768, 3, 1849)),
    Geometry(size: (1920, 1080), small: (768, 768, 5, 2379), large: (1920, 1152, 16, 7269)),
    Geometry(size: (4000, 3000), small: (768, 768, 5, 2929), large: (2304, 1920, 31, 7309)),
    Geometry(size: (100, 100), small: (384, 384, 2, 1485), large: (384, 384, 2, 1485)),
    Geometry(size: (336, 336), small: (384, 384, 2, 1485), large: (384, 384, 2, 1485)),
    Geometry(size: (1000, 1), small: (384, 384, 2, 757), large: (1152, 384, 4, 811)),
    Geometry(size: (1, 1000), small: (384, 384, 2, 783), large: (384, 1152, 4, 891)),
    // Sizes where rounding before truncation, as transformers does it, gives others.
    Geometry(size: (748, 792), small: (768, 768, 5, 3483), large: (768, 1152, 7, -1)),
    Geometry(size: (846, 799), small: (768, 768, 5, 3479), large: (1152, 1152, 10, -1)),
  ]

  @Test("canvases, views and features are the worked table's", arguments: table.indices)
  func canvasesViewsAndFeaturesAreTheWorkedTables(_ index: Int) {
    let row = PictureTests.table[index]
    for (side, wanted) in [(2, row.small), (6, row.large)] where wanted.3 > 0 {
      var vision = PictureTests.so400m
      vision.grid = PictureTests.grid(side)
      let layout = AnyRes(vision)
      let canvas = layout.canvas(row.size.0, row.size.1)
      #expect((canvas.width, canvas.height) == (wanted.0, wanted.1), "\(row.size) \(side)")
      #expect(1 + canvas.width / 384 * (canvas.height / 384) == wanted.2)
      #expect(layout.features(row.size.0, row.size.1).count == wanted.3, "\(row.size) \(side)")
    }
  }

  @Test("maps are reduced by Python's floor division, not by the floor of the quotient")
  func mapsAreReducedByPythonsFloorDivision() {
    let layout = AnyRes(PictureTests.so400m)
    for (rows, columns, height, width) in [
      (100, 81, 89, 72), (162, 50, 145, 44), (150, 54, 134, 48), (135, 60, 121, 53),
    ] {
      let found = layout.reduced(rows, columns)
      #expect(found?.rows == height && found?.columns == width, "\(rows) × \(columns)")
    }
    #expect(layout.reduced(54, 54) == nil)
  }

  @Test("a frame is halved at the worked positions, and newlines go where the model has them")
  func aFrameIsHalvedAtTheWorkedPositions() {
    let positions: [Float] = [
      0.464286, 2.392857, 4.321429, 6.25, 8.178571, 10.107143, 12.035714, 13.964286, 15.892857, 17.821429, 19.75,
      21.678571, 23.607143, 25.535714,
    ]
    for (newline, count) in [(Vision.Newline.grid, 6720), (.frame, 6304), (.oneToken, 6273), (.none, 6272)] {
      var vision = PictureTests.so400m
      vision.newline = newline
      #expect(AnyRes(vision).videoFeatures(frames: 32).count == count)
    }
    var vision = PictureTests.so400m
    vision.newline = .none
    let blend = AnyRes(vision).videoFeatures(frames: 1)
    // A ramp over the columns gives back the positions.
    var row = [Float](repeating: 0, count: 14)
    for tap in 0..<14 * 4 { row[tap / 4] += blend.weights[tap] * Float(blend.taps[tap] % 27) }
    #expect(zip(row, positions).allSatisfy { abs($0 - $1) < 2e-5 })
  }

  static let cases = ["png", "jpeg", "webp", "avif", "gif", "bmp", "tiff"].flatMap { (try? Case.load($0)) ?? [] }

  @Test("every picture is judged as its row says, and has Pillow's pixels where they are known", arguments: cases)
  func everyPictureIsJudgedAsItsRowSays(_ row: Case) throws {
    #expect(PictureTests.cases.count > 180)
    let bytes = try Case.bytes(try row.json.required("bytes"))
    var pixels: [UInt8] = []
    let result = outcome { () throws(Failure) in
      pixels = try Picture(encoded: bytes).pixels
      return [String]()
    }
    let complaint = row.complaint(result)
    #expect(complaint == nil, "\(complaint ?? "")")
    guard let known = row.json["pixels"], !pixels.isEmpty else { return }
    let expected = try Case.bytes(known)
    #expect(pixels.count == expected.count)
    let off = zip(pixels, expected).map { abs(Int($0) - Int($1)) }.max() ?? 0
    #expect(try off <= row.json.required("off").integer(in: 0...1), "off by \(off)")
  }

  @Test("the size of a picture comes from its header alone, without a decoder")
  func theSizeOfAPictureComesFromItsHeaderAlone() throws {
    let directory = try TemporaryDirectory()
    for (folder, id) in [("gif", "G10"), ("tiff", "strips"), ("bmp", "B08"), ("webp", "lossy"), ("avif", "4:2:0")] {
      let row = try #require(try Case.load(folder).first { $0.id == id })
      let path = try directory.write("x." + folder, try Case.bytes(try row.json.required("bytes")))
      let size = try Picture.size(path: path)
      #expect(size.width == 13 && size.height == 9, "\(folder)")
    }
  }
}
