import Bytes

/// How pictures become rows of the vision graph's input, and its results rows of the text graph's.
public struct Vision: Sendable, Equatable {
  /// Pixels of a view's side.
  public var tile: Int
  /// Pixels of a patch's side. Pixels of a view beyond the last whole patch are not seen.
  public var patch: Int
  /// Columns of the vision graph's result.
  public var width: Int
  /// Width and height of the canvases a picture may be laid out on, in tiles' pixels, in the checkpoint's order; empty
  /// when every picture is one view: the whole.
  public var grid: [Size]
  /// Features of the canvas at most, in views; larger maps are reduced. nil for no limit.
  public var maximumViews: Int?
  /// Side of the squares of a picture's features that become one, as those of a video do: 1 for none, or 2.
  public var pooling: Int
  /// Where the newline feature goes between the frames of a video.
  public var newline: Newline
  /// Frames taken from a video at most, and how many a second.
  public var maximumFrames: Int
  public var framesPerSecond: Double

  public struct Size: Sendable, Hashable {
    public var width, height: Int

    public init(_ width: Int, _ height: Int) {
      self.width = width
      self.height = height
    }
  }

  public enum Newline: String, Sendable, CaseIterable {
    /// After each row of each frame.
    case grid
    /// After each frame.
    case frame
    /// Once, at the end.
    case oneToken = "one_token"
    case none = "no_token"
  }

  public init(
    tile: Int, patch: Int, width: Int, grid: [Size] = [], maximumViews: Int? = nil, pooling: Int = 1,
    newline: Newline = .oneToken, maximumFrames: Int = 32, framesPerSecond: Double = 3
  ) {
    self.tile = tile
    self.patch = patch
    self.width = width
    self.grid = grid
    self.maximumViews = maximumViews
    self.pooling = pooling
    self.newline = newline
    self.maximumFrames = maximumFrames
    self.framesPerSecond = framesPerSecond
  }

  public static let poolings = 1...2

  /// Patches of a view's side at most.
  private static let longestSide = 256

  /// What keeps these numbers from describing views, nil when nothing does.
  var problem: String? {
    guard patch > 0, patch <= tile, tile <= Limits.imageSide / 4, side <= Vision.longestSide else {
      return "views of \(tile) pixels in patches of \(patch)"
    }
    guard
      grid.allSatisfy({ size in
        [size.width, size.height].allSatisfy { $0 > 0 && $0 % tile == 0 && $0 <= Limits.imageSide }
      })
    else { return "a canvas that is not whole views of \(tile) pixels, or larger than \(Limits.imageSide)" }
    guard Vision.poolings.contains(pooling) else { return "pictures pooled by \(pooling)" }
    guard maximumFrames > 0, framesPerSecond > 0 else { return "no frames" }
    return nil
  }

  /// Tiles of a canvas.
  public func tiles(_ canvas: Size) -> Int { canvas.width / tile * (canvas.height / tile) }

  /// How many views a picture may come to, the whole picture's included, from few to many.
  public var viewCounts: [Int] { Set(grid.map { 1 + tiles($0) } + [1]).sorted() }

  /// Patches of a view's side.
  public var side: Int { tile / patch }

  /// Values of one patch: three channels.
  public var patchColumns: Int { 3 * patch * patch }
}
