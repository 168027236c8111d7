import Glibc
import Tensors

/// Pictures to views and features, as LLaVA-OneVision's `anyres_max_K` with `spatial_unpad` has them: the whole picture
/// squashed to one view, and the picture on a canvas of tiles, padding cut away again from its features.
///
/// Geometry is computed in doubles in the order the authors' code does, because its roundings differ from step to step:
/// truncation when choosing, ceiling when resizing, truncation and flooring when cutting.
public struct AnyRes: Sendable {
  let vision: Vision

  public init(_ vision: Vision) { self.vision = vision }

  // MARK: Views

  /// The canvas that keeps most of the picture, and of equal ones the one that wastes least; the first of full ties.
  public func canvas(_ width: Int, _ height: Int) -> Vision.Size {
    var best = vision.grid[0]
    var (most, least) = (-1, 0)
    for size in vision.grid {
      let scale = min(Double(size.width) / Double(width), Double(size.height) / Double(height))
      let effective = min(Int(Double(width) * scale) * Int(Double(height) * scale), width * height)
      let waste = size.width * size.height - effective
      if effective > most || effective == most && waste < least { (best, most, least) = (size, effective, waste) }
    }
    return best
  }

  /// The picture's size on its canvas.
  public func fitted(_ width: Int, _ height: Int, in canvas: Vision.Size) -> Vision.Size {
    let across = Double(canvas.width) / Double(width)
    let down = Double(canvas.height) / Double(height)
    return across < down
      ? Vision.Size(canvas.width, min(Int((Double(height) * across).rounded(.up)), canvas.height))
      : Vision.Size(min(Int((Double(width) * down).rounded(.up)), canvas.width), canvas.height)
  }

  /// The whole picture as one view, then the canvas' tiles row by row.
  public func views(_ picture: Picture) -> [Picture] {
    let tile = vision.tile
    let whole = Bicubic.resize(picture, to: tile, tile)
    guard !vision.grid.isEmpty else { return [whole] }
    let canvas = canvas(picture.width, picture.height)
    let size = fitted(picture.width, picture.height, in: canvas)
    let resized = Bicubic.resize(picture, to: size.width, size.height)
    let padded = resized.centred(on: canvas)
    var views = [whole]
    for y in stride(from: 0, to: canvas.height, by: tile) {
      for x in stride(from: 0, to: canvas.width, by: tile) { views.append(padded.cropped(x, y, tile, tile)) }
    }
    return views
  }

  // MARK: Features

  /// Which patches each feature blends, `[features, Graph.tapCount]`, -1 for the newline.
  public struct Blend: Equatable {
    public private(set) var taps: [Int32] = []
    public private(set) var weights: [Float] = []
    public var count: Int { taps.count / Graph.tapCount }

    mutating func take(_ patch: Int) {
      taps += [Int32(patch), 0, 0, 0]
      weights += [1, 0, 0, 0]
    }

    mutating func newline() { take(-1) }

    private mutating func add(_ taps: [Int], _ weights: [Float]) {
      self.taps += taps.map(Int32.init)
      self.weights += weights
    }

    /// A map of patches, brought to another size by bilinear interpolation where that differs.
    ///
    /// - Parameters:
    ///   - endsRows: whether a newline follows each row.
    ///   - patch: which patch is at a row and column of the map.
    mutating func take(
      _ map: (rows: Int, columns: Int), as size: (rows: Int, columns: Int), endsRows: Bool, _ patch: (Int, Int) -> Int
    ) {
      guard map != size else {
        for row in 0..<map.rows {
          for column in 0..<map.columns { take(patch(row, column)) }
          if endsRows { newline() }
        }
        return
      }
      let (down, right) = (AnyRes.axis(map.rows, to: size.rows), AnyRes.axis(map.columns, to: size.columns))
      for y in down {
        for x in right {
          add(
            [patch(y.low, x.low), patch(y.low, x.high), patch(y.high, x.low), patch(y.high, x.high)],
            [(1 - y.part) * (1 - x.part), (1 - y.part) * x.part, y.part * (1 - x.part), y.part * x.part])
        }
        if endsRows { newline() }
      }
    }
  }

  /// Features of a picture of this size: the first view's patches, then the map of the tiles' patches with the padding
  /// cut away, reduced when it is too large, and a newline after each row; of a picture that is one view its patches
  /// and a newline. Both maps are halved where the model pools pictures.
  public func features(_ width: Int, _ height: Int) -> Blend {
    var blend = Blend()
    let side = vision.side
    blend.take((side, side), as: pooled((side, side)), endsRows: false) { $0 * side + $1 }
    guard !vision.grid.isEmpty else {
      blend.newline()
      return blend
    }
    let canvas = canvas(width, height)
    let across = canvas.width / vision.tile
    let (rows, columns) = unpadded(
      width, height, rows: side * (canvas.height / vision.tile), columns: side * across)
    let size = (rows.count, columns.count)
    blend.take(size, as: pooled(reduced(rows.count, columns.count) ?? size), endsRows: true) { row, column in
      let (r, c) = (rows.lowerBound + row, columns.lowerBound + column)
      return (1 + r / side * across + c / side) * side * side + r % side * side + c % side
    }
    return blend
  }

  /// The size of a map of a picture's features after pooling: half its rows and columns, and the odd one. A map that is
  /// reduced too goes to its final size in one step.
  func pooled(_ size: (rows: Int, columns: Int)) -> (rows: Int, columns: Int) {
    let step = vision.pooling
    return ((size.rows + step - 1) / step, (size.columns + step - 1) / step)
  }

  /// Rows and columns of the map that are not padding. One more than the picture's share may stay, because half of the
  /// padding is rounded down.
  public func unpadded(_ width: Int, _ height: Int, rows: Int, columns: Int) -> (rows: Range<Int>, columns: Range<Int>)
  {
    let (w, h, r, c) = (Double(width), Double(height), Double(rows), Double(columns))
    if w / h > c / r {
      let padding = (rows - Int(h * (c / w))) / 2
      return (padding..<rows - padding, 0..<columns)
    }
    let padding = (columns - Int(w * (r / h))) / 2
    return (0..<rows, padding..<columns - padding)
  }

  /// The size a map of features is reduced to; nil when it is small enough.
  public func reduced(_ rows: Int, _ columns: Int) -> (rows: Int, columns: Int)? {
    guard let views = vision.maximumViews else { return nil }
    let times = (Double(rows * columns) / Double(views * vision.side * vision.side)).squareRoot()
    guard times > 1.1 else { return nil }
    return (AnyRes.floorDivide(Double(rows), times), AnyRes.floorDivide(Double(columns), times))
  }

  /// Python's `//` on floats, which is not the floor of the quotient: it divides what `fmod` leaves.
  public static func floorDivide(_ a: Double, _ b: Double) -> Int {
    let quotient = (a - fmod(a, b)) / b
    let floor = quotient.rounded(.down)
    return Int(quotient - floor > 0.5 ? floor + 1 : floor)
  }

  /// Bilinear interpolation of one axis, align_corners false, no antialiasing: two neighbours and the second's part.
  static func axis(_ count: Int, to target: Int) -> [(low: Int, high: Int, part: Float)] {
    // PyTorch computes scale and place in Float32.
    let scale = Float(count) / Float(target)
    return (0..<target).map { index in
      let place = max(scale * (Float(index) + 0.5) - 0.5, 0)
      let low = min(Int(place), count - 1)
      return (low, min(low + 1, count - 1), place - Float(low))
    }
  }

  /// Features of a video: each frame's map halved, and newlines where the model has them.
  public func videoFeatures(frames: Int) -> Blend {
    let side = vision.side
    let half = (side + 1) / 2
    var blend = Blend()
    for frame in 0..<frames {
      blend.take((side, side), as: (half, half), endsRows: vision.newline == .grid) { row, column in
        frame * side * side + row * side + column
      }
      if vision.newline == .frame { blend.newline() }
    }
    if vision.newline == .oneToken { blend.newline() }
    return blend
  }
}

extension Picture {
  /// The picture in the middle of a black canvas.
  func centred(on canvas: Vision.Size) -> Picture {
    var result = [UInt8](repeating: 0, count: canvas.width * canvas.height * 3)
    let (left, top) = ((canvas.width - width) / 2, (canvas.height - height) / 2)
    for row in 0..<height {
      let to = ((top + row) * canvas.width + left) * 3
      result.replaceSubrange(to..<to + width * 3, with: pixels[row * width * 3..<(row + 1) * width * 3])
    }
    return Picture(width: canvas.width, height: canvas.height, pixels: result)
  }

  func cropped(_ x: Int, _ y: Int, _ width: Int, _ height: Int) -> Picture {
    var result: [UInt8] = []
    result.reserveCapacity(width * height * 3)
    for row in y..<y + height {
      let from = (row * self.width + x) * 3
      result += pixels[from..<from + width * 3]
    }
    return Picture(width: width, height: height, pixels: result)
  }

  /// Whole patches row by row, each channel by channel: `[patches, 3 · patch²]`.
  func patches(of patch: Int) -> [UInt8] {
    let (across, down) = (width / patch, height / patch)
    return [UInt8](unsafeUninitializedCapacity: across * down * 3 * patch * patch) { target, count in
      pixels.withUnsafeBufferPointer { source in
        var at = 0
        for y in 0..<down {
          for x in 0..<across {
            for channel in 0..<3 {
              for row in 0..<patch {
                var from = ((y * patch + row) * width + x * patch) * 3 + channel
                for _ in 0..<patch {
                  target[at] = source[from]
                  at += 1
                  from += 3
                }
              }
            }
          }
        }
        count = at
      }
    }
  }
}
