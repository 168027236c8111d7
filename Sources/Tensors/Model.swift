import Bytes

/// What a model is, independent of any file or machine: configuration, tensors, graphs, and the files that came with
/// them. A value.
public struct Model: Sendable {
  public var configuration: Configuration
  /// In the order of the checkpoint.
  public private(set) var tensors: [Tensor] = []
  private var indices: [TensorName: Int] = [:]
  /// Named parts that run one after the other: `vision` (pixels to hidden), `projector` (hidden to features), `text`
  /// (tokens and features to the embedding). A text encoder has `text` alone, a plain vision tower `vision`, which then
  /// ends in the embedding.
  public var graphs: [(name: String, graph: Graph)] = []
  /// Tokenizer and processor files, by the name they had beside the checkpoint.
  public var files: [(name: String, content: Tensor.Content, count: Int)] = []
  /// What was done to make this model, oldest first.
  public var history: [JSONText] = []

  public init(configuration: Configuration) { self.configuration = configuration }

  public subscript(name: TensorName) -> Tensor? { indices[name].map { tensors[$0] } }

  /// Adds a tensor, or puts it in the place of the one with its name.
  public mutating func set(_ tensor: Tensor) {
    if let index = indices[tensor.name] {
      tensors[index] = tensor
    } else {
      indices[tensor.name] = tensors.count
      tensors.append(tensor)
    }
  }

  public mutating func removeTensors(where isRemoved: (Tensor) -> Bool) {
    tensors.removeAll(where: isRemoved)
    indices = [:]
    for (index, tensor) in tensors.enumerated() { indices[tensor.name] = index }
  }

  public func graph(_ name: String) -> Graph? { graphs.first { $0.name == name }?.graph }

  /// Tensors that no graph reads.
  public var unused: [TensorName] {
    let used = Set(graphs.flatMap { $0.graph.tensors })
    return tensors.map(\.name).filter { !used.contains($0) }
  }

  /// The bytes of the file called `name`, nil when the model has none.
  public func file(_ name: String) throws(Failure) -> [UInt8]? {
    guard let file = files.first(where: { $0.name == name }) else { return nil }
    let tensor = Tensor(TensorName(name), shape: [file.count], encoding: .plain(.U8), content: file.content)
    return try tensor.load().array(of: UInt8.self)
  }
}
