/// One input of a model as numbers: tokens, and the pictures that stand among them.
public struct Sample: Sendable, Hashable {
  /// Token ids. A negative one, -1 - k, stands for feature k of the sample's pictures, counted through all of them.
  public var ids: [Int32]
  public var pictures: [Picture]

  /// A picture or a video: views cut into patches, and how the features of its patches become features of the sample.
  public struct Picture: Sendable, Hashable {
    public var views: Int
    /// Values 0 to 255, `[views · patches, channels · patch²]`, patches row by row, a patch channel by channel.
    public var pixels: [UInt8]
    /// Patches of this picture to blend, -1 for the newline, `[features, Graph.tapCount]`. Empty where the model has no
    /// projector.
    public var taps: [Int32]
    public var weights: [Float]

    public init(views: Int, pixels: [UInt8], taps: [Int32] = [], weights: [Float] = []) {
      self.views = views
      self.pixels = pixels
      self.taps = taps
      self.weights = weights
    }

    public var featureCount: Int { taps.count / Graph.tapCount }
  }

  public init(ids: [Int32], pictures: [Picture] = []) {
    self.ids = ids
    self.pictures = pictures
  }
}
