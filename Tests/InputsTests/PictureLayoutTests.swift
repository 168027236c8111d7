import Inputs
import Passes
import Tensors
import TestSupport
import Testing

/// Fewer views and pooled features, worked by hand.
struct PictureLayoutTests {
  /// Views of two by two patches on up to two by two tiles, in the order of checkpoints.
  static let small = Vision(
    tile: 4, patch: 2, width: 1, grid: [.init(4, 4), .init(4, 8), .init(8, 4), .init(8, 8)], maximumViews: 9,
    newline: .grid)

  static func layout(_ vision: Vision, views: Int? = nil, pooling: Int? = nil) -> AnyRes {
    AnyRes(PictureLayout(views: views, pooling: pooling).applied(to: vision))
  }

  /// The four patches of each feature with their weights; an empty list for a newline.
  static func features(_ blend: AnyRes.Blend) -> [[Int32: Float]] {
    (0..<blend.count).map { feature in
      var result: [Int32: Float] = [:]
      for tap in feature * Graph.tapCount..<(feature + 1) * Graph.tapCount where blend.weights[tap] != 0 {
        result[blend.taps[tap], default: 0] += blend.weights[tap]
      }
      return result == [-1: 1] ? [:] : result
    }
  }

  private static func mean(_ patches: [Int32]) -> [Int32: Float] {
    Dictionary(uniqueKeysWithValues: patches.map { ($0, 1 / Float(patches.count)) })
  }

  @Test("N counts the whole picture's view: canvases of at most N - 1 tiles stay")
  func nCountsTheWholePicturesView() {
    let small = PictureLayoutTests.small
    #expect(small.viewCounts == [1, 2, 3, 5])
    for (views, canvas, count, tokens) in [
      (5, (8, 8), 5, 24), (4, (4, 4), 2, 10), (3, (4, 4), 2, 10), (2, (4, 4), 2, 10), (9, (8, 8), 5, 24),
    ] {
      let layout = PictureLayoutTests.layout(small, views: views)
      let found = layout.canvas(8, 8)
      #expect((found.width, found.height) == canvas, "\(views)")
      #expect(layout.views(PictureTests.pattern(8, 8)).count == count)
      #expect(layout.features(8, 8).count == tokens)
    }
    // A wide picture keeps two tiles.
    #expect(PictureLayoutTests.layout(small, views: 3).views(PictureTests.pattern(8, 4)).count == 3)
    #expect(PictureLayoutTests.layout(small, views: 2).views(PictureTests.pattern(8, 4)).count == 2)
    // In the order of the grid, which decides between equals.
    let three = PictureLayout(views: 3).applied(to: small).grid
    #expect(three == Array(small.grid.prefix(3)))
  }

  @Test("one view is the whole picture and one newline, as the authors lay out a lone view")
  func oneViewIsTheWholePictureAndOneNewline() {
    let layout = PictureLayoutTests.layout(PictureLayoutTests.small, views: 1)
    #expect(layout.views(PictureTests.pattern(9, 5)).map(\.width) == [4])
    #expect(PictureLayoutTests.features(layout.features(9, 5)) == [[0: 1], [1: 1], [2: 1], [3: 1], [:]])
    let pooled = PictureLayoutTests.layout(PictureLayoutTests.small, views: 1, pooling: 2)
    #expect(PictureLayoutTests.features(pooled.features(9, 5)) == [PictureLayoutTests.mean([0, 1, 2, 3]), [:]])
  }

  @Test("pooled, each view's map and the canvas' map have half the rows and columns, newlines after each row")
  func pooledMapsHaveHalfTheRowsAndColumns() {
    let mean = PictureLayoutTests.mean
    let layout = PictureLayoutTests.layout(PictureLayoutTests.small, pooling: 2)
    #expect(
      PictureLayoutTests.features(layout.features(8, 8)) == [
        mean([0, 1, 2, 3]), mean([4, 5, 6, 7]), mean([8, 9, 10, 11]), [:], mean([12, 13, 14, 15]),
        mean([16, 17, 18, 19]), [:],
      ])
    // Half of the canvas is padding: two rows stay, one of each tile, and are pooled across the tiles' border.
    var wide = PictureLayoutTests.small
    wide.grid = [.init(8, 8)]
    #expect(
      PictureLayoutTests.features(PictureLayoutTests.layout(wide, pooling: 2).features(8, 4)) == [
        mean([0, 1, 2, 3]), mean([6, 7, 12, 13]), mean([10, 11, 16, 17]), [:],
      ])
    // Three patches a side become two, at a quarter and three quarters past the second.
    let odd = Vision(tile: 6, patch: 2, width: 1, grid: [.init(6, 6)], pooling: 2)
    let first = PictureLayoutTests.features(AnyRes(odd).features(6, 6))
    #expect(first.count == 4 + 2 * 3 && first[6] == [:] && first[9] == [:])
    #expect(first[0] == [0: 0.5625, 1: 0.1875, 3: 0.1875, 4: 0.0625])
    #expect(first[3] == [4: 0.0625, 5: 0.1875, 7: 0.1875, 8: 0.5625])
  }

  @Test("a view's pooling is that of a video's frame, and videos stay as they were")
  func aViewsPoolingIsThatOfAFrame() {
    var vision = PictureTests.so400m
    vision.newline = .none
    let frame = AnyRes(vision).videoFeatures(frames: 1)
    let pooled = PictureLayoutTests.layout(vision, pooling: 2)
    let whole = pooled.features(384, 384)
    #expect(Array(whole.taps.prefix(frame.taps.count)) == frame.taps)
    #expect(Array(whole.weights.prefix(frame.weights.count)) == frame.weights)
    #expect(pooled.videoFeatures(frames: 3) == AnyRes(vision).videoFeatures(frames: 3))
  }

  @Test("counts of full size: unpadded, reduced, pooled")
  func countsOfFullSize() {
    // 27 x 27 patches become 14 x 14; 40 x 54 unpadded ones 20 x 27; 81 x 81 that 162 x 162 are reduced to 41 x 41.
    for (size, side, tokens) in [
      ((640, 480), 2, 196 + 20 * 28), ((384, 384), 2, 196 + 14 * 15), ((2304, 2304), 6, 196 + 41 * 42),
      ((1000, 1), 2, 196 + 15),
    ] {
      var vision = PictureTests.so400m
      vision.grid = PictureTests.grid(side)
      let layout = PictureLayoutTests.layout(vision, pooling: 2)
      let blend = layout.features(size.0, size.1)
      #expect(blend.count == tokens, "\(size)")
      let patches = layout.canvas(size.0, size.1)
      let most = 729 * (1 + vision.tiles(patches))
      #expect(blend.taps.allSatisfy { $0 >= -1 && $0 < most })
      for feature in stride(from: 0, to: blend.weights.count, by: Graph.tapCount) {
        #expect(abs(blend.weights[feature..<feature + Graph.tapCount].reduce(0, +) - 1) < 1e-6)
      }
    }
  }

  @Test("extents are those of the samples that are built", arguments: [nil, 1, 2, 3], [nil, 2])
  func extentsAreThoseOfTheSamples(_ views: Int?, _ pooling: Int?) throws {
    let model = try TinyLlave.model()
    let vision = try #require(model.configuration.vision)
    let builder = try TinyLlave.builder(model).seeing(
      PictureLayout(views: views, pooling: pooling).applied(to: vision))
    for name in ["square.png", "large.png", "wide.png", "tall.png", "odd.png", "thin.png", "example.jpg"] {
      var item = Item(text: "<image>\nWhat?")
      item.images = [name]
      let picture = try builder.build(item, folder: TinyLlave.folder).sample.pictures[0]
      let (width, height) = try Picture.size(path: TinyLlave.folder + name)
      let extent = try builder.extent(width, height)
      #expect(extent.views == picture.views && extent.tokens == picture.featureCount, "\(name)")
    }
  }
}
