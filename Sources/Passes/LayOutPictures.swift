import Bytes
import Tensors

/// Fewer tokens for a picture than its model was trained with: what is left of the grid, and of the features.
public struct PictureLayout: Sendable, Equatable {
  /// Views of a picture at most, the whole picture's included; nil for as many as the grid has.
  public var views: Int?
  /// Side of the squares of features that become one; nil for what the model has.
  public var pooling: Int?

  /// No grid has more: what an option or a file may say.
  public static let mostViews = 10_000

  public init(views: Int? = nil, pooling: Int? = nil) { (self.views, self.pooling) = (views, pooling) }

  /// Whether nothing is asked for.
  public var isEmpty: Bool { self == PictureLayout() }

  /// What the passes change.
  public func applied(to vision: Vision) -> Vision {
    var result = vision
    if let views { result.grid = vision.grid.filter { vision.tiles($0) < views } }
    result.pooling = pooling ?? vision.pooling
    return result
  }

  public var passes: [Pass] {
    [views.map { Pass.limitViews($0) }, pooling.map { Pass.poolPictures(by: $0) }].compactMap { $0 }
  }

  /// As containers' histories and plans have it: what is asked for alone.
  public var json: [(String, JSONText)] {
    [("views", views), ("pool_pictures", pooling)].compactMap { name, value in value.map { (name, .int($0)) } }
  }
}

extension Pass {
  /// Leaves out canvases of more tiles than `views - 1`; the whole picture's view stays in any case. Canvases keep
  /// their order, which decides between equals.
  ///
  /// - Throws: `usage` for a model whose pictures are not laid out on canvases.
  public static func limitViews(_ views: Int) -> Pass {
    Pass("limit-views") { (model, notes) throws(Failure) in
      let old = try model.laidOut("--views")
      guard views >= 1 else { throw Failure(.usage, "a picture has at least one view; found \(views)") }
      let new = PictureLayout(views: views).applied(to: old)
      model.configuration.vision = new
      if new.grid == old.grid {
        notes.append("no picture has more than \(old.viewCounts.last ?? 1) views, so --views \(views) changes nothing")
      } else if new.grid.isEmpty, views > 1 {
        notes.append("no canvas has at most \(views - 1) tiles, so every picture becomes one view")
      }
    }
  }

  /// Pools the features of pictures as those of videos are: bilinear, to half the rows and columns; newlines stay at
  /// the end of each row.
  ///
  /// - Throws: `usage` for a model that takes no pictures among text.
  public static func poolPictures(by pooling: Int) -> Pass {
    Pass("pool-pictures") { (model, notes) throws(Failure) in
      let old = try model.laidOut("--pool-pictures")
      guard Vision.poolings.contains(pooling) else {
        throw Failure(.usage, "pictures are pooled by 2; found \(pooling)")
      }
      model.configuration.vision = PictureLayout(pooling: pooling).applied(to: old)
      if old.pooling == pooling, pooling > 1 { notes.append("pictures are pooled by \(pooling) already") }
    }
  }
}

extension Model {
  /// How pictures are laid out, of a model that lays them out.
  fileprivate func laidOut(_ option: String) throws(Failure) -> Vision {
    guard let vision = configuration.vision else {
      throw Failure(
        .usage, "\(option) is for models of text and pictures; this one (\(configuration.architecture)) is of text")
    }
    guard graph("projector") != nil else {
      throw Failure(
        .usage, "\(option) is for models of text and pictures; this one (\(configuration.architecture)) sees one view")
    }
    return vision
  }
}
