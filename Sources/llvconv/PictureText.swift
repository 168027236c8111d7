import Bytes
import Tensors

extension Vision {
  /// How pictures are laid out, in a line for people.
  var summary: String {
    let views = viewCounts.last ?? 1
    let each = views == 1 ? "one view" : "at most \(views) views, each"
    let pooled = pooling == 1 ? "" : ", features pooled \(pooling) x \(pooling)"
    return "\(each) of \(tile) x \(tile) pixels in \(side) x \(side) patches\(pooled)"
  }

  /// The same for programs.
  var json: JSONText {
    [
      "views": .int(viewCounts.last ?? 1), "grid": .array(grid.map { .array([.int($0.width), .int($0.height)]) }),
      "tile": .int(tile), "patch": .int(patch), "pool_pictures": .int(pooling),
    ]
  }
}
