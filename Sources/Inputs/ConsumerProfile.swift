import Tensors

/// How another program feeds pictures to a model of this family, where that differs from what it was trained with.
public enum ConsumerProfile: String, Sendable, CaseIterable {
  /// llama.cpp's multimodal library with a model's GGUF pair (tools/mtmd: mtmd-image.cpp, mtmd.cpp, models/llava.cpp,
  /// July 2026).
  case llamaCpp = "llama.cpp"

  /// What a user of the program should know, one line each.
  public var differences: [String] {
    [
      "a picture that fits one view is that view alone, squashed; larger ones are tiles, then the whole picture last",
      "tiles come one after the other: rows are not joined, padding is not cut away, no newline, no reduction of "
        + "many tiles",
      "the projector's GELU is the tanh form",
      "videos are not taken",
    ]
  }
}

/// A picture as llama.cpp lays it out. Sizes are computed in Float32, as there.
struct LlamaCppLayout {
  let vision: Vision

  func views(_ picture: Picture) -> [Picture] {
    let tile = vision.tile
    let whole = Bicubic.resize(picture, to: tile, tile)
    guard picture.width > tile || picture.height > tile, !vision.grid.isEmpty else { return [whole] }
    let canvas = canvas(picture.width, picture.height)
    let scale = scale(picture.width, picture.height, canvas)
    let resized =
      canvas.width == picture.width && canvas.height == picture.height
      ? picture
      : Bicubic.resize(
        picture, to: min(Int((Float(picture.width) * scale).rounded(.up)), canvas.width),
        min(Int((Float(picture.height) * scale).rounded(.up)), canvas.height))
    // Black as in training: its grey (122, 116, 104) is set for models without a grid alone.
    let padded = resized.centred(on: canvas)
    var views: [Picture] = []
    for y in stride(from: 0, to: canvas.height, by: tile) {
      for x in stride(from: 0, to: canvas.width, by: tile) { views.append(padded.cropped(x, y, tile, tile)) }
    }
    return views + [whole]
  }

  func viewCount(_ width: Int, _ height: Int) -> Int {
    guard width > vision.tile || height > vision.tile, !vision.grid.isEmpty else { return 1 }
    return 1 + vision.tiles(canvas(width, height))
  }

  private func scale(_ width: Int, _ height: Int, _ canvas: Vision.Size) -> Float {
    min(Float(canvas.width) / Float(width), Float(canvas.height) / Float(height))
  }

  private func canvas(_ width: Int, _ height: Int) -> Vision.Size {
    var best = vision.grid[0]
    var (most, least) = (0, Int.max)
    for size in vision.grid {
      let scale = scale(width, height, size)
      let effective = min(Int(Float(width) * scale) * Int(Float(height) * scale), width * height)
      let waste = size.width * size.height - effective
      if effective > most || effective == most && waste < least { (best, most, least) = (size, effective, waste) }
    }
    return best
  }

  /// Every patch of every view, in order.
  func features(views: Int) -> AnyRes.Blend {
    var blend = AnyRes.Blend()
    for patch in 0..<views * vision.side * vision.side { blend.take(patch) }
    return blend
  }
}
