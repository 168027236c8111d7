import Bytes
import Tensors

/// Turns items into what a model's graphs take: prompt, tokens, views.
public struct SampleBuilder: Sendable {
  /// What stands in a text for the next picture or video.
  public static let marker = "<image>"

  /// nil for a model of pictures alone.
  public internal(set) var tokenizer: Tokenizer?
  var configuration: Configuration
  /// Ids at the start of every prompt, empty without a template.
  public internal(set) var prefix: [Int32]
  /// Tokens of one sample at most.
  public internal(set) var maximumTokens: Int
  private let spelling: Spelling
  private let profile: ConsumerProfile?
  /// Whether the instructions of items go unread, or are said twice: faults of other programs.
  var ignoresInstructions = false
  var doublesInstructions = false

  /// - Parameters:
  ///   - tokenizer: nil for a model of pictures alone.
  ///   - maximumTokens: in the place of the model's own limit.
  ///   - profile: pictures as another program has them; nil for the authors' way.
  public init(
    _ configuration: Configuration, tokenizer: Tokenizer?, maximumTokens: Int? = nil,
    spelling: Spelling = .verbatim, profile: ConsumerProfile? = nil
  ) {
    self.tokenizer = tokenizer
    self.spelling = spelling
    self.profile = profile
    self.configuration = configuration
    self.maximumTokens = maximumTokens ?? configuration.maximumTokens
    prefix = configuration.template.flatMap { template in tokenizer?.ids(template.before) } ?? []
  }

  /// The same with pictures laid out otherwise.
  public func seeing(_ vision: Vision?) -> SampleBuilder {
    var result = self
    result.configuration.vision = vision
    return result
  }

  public struct Built: Sendable {
    public var sample: Sample
    /// Tokens left out at the end because there were too many.
    public var cut: Int
  }

  /// - Parameters:
  ///   - prompt: name of the prompt put before a text that brings no instruction; nil for the model's default.
  ///   - folder: where relative paths of pictures start, with a final slash, or empty.
  /// - Throws: `malformed` when markers and pictures do not match, and what is wrong with a picture.
  public func build(_ item: Item, prompt: String? = nil, folder: String = "") throws(Failure) -> Built {
    guard let tokenizer else { return try picture(item, folder) }
    let name = prompt ?? configuration.defaultPrompt
    let own = ignoresInstructions ? nil : item.instruction
    let once = own ?? configuration.prompts.first { $0.name == name }?.text ?? ""
    let instruction = doublesInstructions ? once + once : once
    guard let template = configuration.template else {
      guard item.pictureCount == 0 else {
        throw Failure(.unsupported, "the model (\(configuration.architecture)) takes text only")
      }
      let encoding = tokenizer.encode(instruction + (item.text ?? ""), maximum: maximumTokens)
      return Built(sample: Sample(ids: encoding.ids), cut: encoding.cut)
    }
    let said = spelling.apply(SampleBuilder.spelled(item, instruction))
    let text = template.before + said + template.after
    return try build(item, Spelling.pieces(of: text, around: SampleBuilder.marker), tokenizer, folder)
  }

  /// What the user says: instruction and text as they are; for an item without text a marker for each picture and
  /// MMEB's words for one.
  static func spelled(_ item: Item, _ instruction: String) -> String {
    if let text = item.text { return instruction + text }
    let markers = String(repeating: marker + "\n", count: item.pictureCount)
    if !instruction.isEmpty { return markers + instruction }
    return markers + (item.video == nil ? "Represent the given image.\n" : "Represent the given video.")
  }

  private func build(_ item: Item, _ parts: [String], _ tokenizer: Tokenizer, _ folder: String) throws(Failure) -> Built
  {
    let pictureCount = item.pictureCount
    guard parts.count - 1 == pictureCount else {
      throw Failure(
        .malformed,
        parts.count - 1 > pictureCount
          ? "the text has \(parts.count - 1) \(SampleBuilder.marker) markers for \(pictureCount) pictures: a marker "
            + "without an image"
          : "the text has \(parts.count - 1) \(SampleBuilder.marker) markers for \(pictureCount) pictures: an image "
            + "without a marker"
      )
    }
    var sample = Sample(ids: [])
    var features: Int32 = 0
    for (index, part) in parts.enumerated() {
      if index > 0 {
        let picture =
          index <= item.images.count + item.pictures.count
          ? try self.sample(of: try item.picture(index - 1, folder))
          : try video(Item.path(item.video ?? "", in: folder))
        let count = Int32(picture.featureCount)
        sample.ids += (features..<features + count).map { -1 - $0 }
        features += count
        sample.pictures.append(picture)
      }
      sample.ids += tokenizer.ids(part)
    }
    if let end = tokenizer.addedToken("<|endoftext|>"), sample.ids.contains(end) {
      throw Failure(.malformed, "the text holds <|endoftext|>, which the model takes for padding")
    }
    let cut = max(0, sample.ids.count - maximumTokens)
    sample.ids.removeLast(cut)
    return Built(sample: sample, cut: cut)
  }

  // MARK: Pictures

  /// A sample of these tokens, after the prompt's beginning and the pictures; for a model of pictures alone of the
  /// pictures. For measuring: no text makes it.
  public func sample(tokens: [Int32], pictures: [Picture]) throws(Failure) -> Sample {
    var sample = Sample(ids: prefix)
    var features: Int32 = 0
    for picture in pictures {
      let picture = try self.sample(of: picture)
      let count = Int32(picture.featureCount)
      sample.ids += (features..<features + count).map { -1 - $0 }
      features += count
      sample.pictures.append(picture)
    }
    sample.ids += tokens
    return sample
  }

  private func vision() throws(Failure) -> Vision {
    guard let vision = configuration.vision else {
      throw Failure(.unsupported, "the model (\(configuration.architecture)) takes text only")
    }
    return vision
  }

  /// What a picture of this size comes to, without a look at its pixels.
  public func extent(_ width: Int, _ height: Int) throws(Failure) -> Extent {
    let layout = AnyRes(try vision())
    if profile == .llamaCpp {
      let views = LlamaCppLayout(vision: layout.vision).viewCount(width, height)
      return Extent(canvas: nil, views: views, tokens: views * layout.vision.side * layout.vision.side)
    }
    let canvas = layout.vision.grid.isEmpty ? nil : layout.canvas(width, height)
    return Extent(
      canvas: canvas, views: 1 + (canvas.map { layout.vision.tiles($0) } ?? 0),
      tokens: tokenizer == nil ? 0 : layout.features(width, height).count)
  }

  /// How much of a model's input a picture is.
  public struct Extent: Sendable, Hashable {
    /// nil where the picture is one view, or laid out as another program does.
    public let canvas: Vision.Size?
    public let views: Int
    /// Features and newlines; 0 for a model of pictures alone.
    public let tokens: Int
  }

  private func sample(of picture: Picture) throws(Failure) -> Sample.Picture {
    let layout = AnyRes(try vision())
    if let profile {
      guard layout.vision.pooling == 1 else {
        throw Failure(.unsupported, "\(profile.rawValue) pools no pictures' features, as this model wants it")
      }
      let other = LlamaCppLayout(vision: layout.vision)
      let views = other.views(picture)
      return sample(views, other.features(views: views.count), layout.vision)
    }
    // Without a tokenizer the model is one of pictures alone, which has no features to lay out.
    let blend = tokenizer == nil ? AnyRes.Blend() : layout.features(picture.width, picture.height)
    return sample(layout.views(picture), blend, layout.vision)
  }

  private func video(_ path: String) throws(Failure) -> Sample.Picture {
    let layout = AnyRes(try vision())
    if let profile { throw Failure(.unsupported, "\(profile.rawValue) takes no videos", file: path) }
    let frames = try Video.frames(path, layout.vision)
    return sample(frames, layout.videoFeatures(frames: frames.count), layout.vision)
  }

  private func sample(_ views: [Picture], _ blend: AnyRes.Blend, _ vision: Vision) -> Sample.Picture {
    Sample.Picture(
      views: views.count, pixels: views.flatMap { $0.patches(of: vision.patch) }, taps: blend.taps,
      weights: blend.weights)
  }

  /// For a model of pictures alone: one picture, one view.
  private func picture(_ item: Item, _ folder: String) throws(Failure) -> Built {
    guard item.pictureCount == 1, item.video == nil, item.text == nil else {
      throw Failure(.unsupported, "the model (\(configuration.architecture)) takes one image and nothing else")
    }
    return Built(sample: Sample(ids: [], pictures: [try sample(of: try item.picture(0, folder))]), cut: 0)
  }
}

extension Item {
  /// Pictures, and the video.
  fileprivate var pictureCount: Int { images.count + pictures.count + (video == nil ? 0 : 1) }

  /// One of the files and of those in memory.
  fileprivate func picture(_ place: Int, _ folder: String) throws(Failure) -> Picture {
    place < images.count
      ? try Picture(path: Item.path(images[place], in: folder)) : try Picture(pictures[place - images.count])
  }
}
