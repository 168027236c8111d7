import Bytes
import Inference
import Tensors

/// A model whose embeddings can be gone back from: its parts one after the other, each a graph with gradients.
package struct Network: Sendable {
  private let embedder: Embedder
  private let device: CPUDevice
  private let parts: [(part: Embedder.Part, graph: GraphGradient)]

  /// - Parameters:
  ///   - embedder: of the same model without a shared prefix; says how samples become batches.
  ///   - trained: tensors that gradients are wanted by.
  ///   - mostKept: bytes of a batch's results up to which none is computed twice.
  package init(
    _ model: Model, _ embedder: Embedder, on device: CPUDevice, trained: Set<TensorName>, mostKept: Int = 768 << 20
  ) throws(Failure) {
    (self.embedder, self.device) = (embedder, device)
    var parts: [(part: Embedder.Part, graph: GraphGradient)] = []
    for part in Embedder.Part.allCases {
      guard let graph = model.graph(part.rawValue) else { continue }
      let isMoved = parts.last?.graph.isMoved ?? false
      let moved: Set<Graph.Input> = isMoved ? [part == .text ? .features : .hidden] : []
      let gradient = try GraphGradient(
        graph, of: model, on: device, trained: trained, moved: moved, mostKept: mostKept)
      parts.append((part, gradient))
    }
    self.parts = parts
  }

  /// Batches of samples that go through together.
  package func batches(_ samples: [Sample]) -> [Batch] { Batch.pack(samples, embedder) }

  /// A batch's embeddings, and the way back from them.
  package struct Trace {
    /// `[samples of the batch, width]`.
    package let embeddings: Floats
    fileprivate var traces: [GraphGradient.Trace?]
  }

  package func run(_ batch: Batch, _ weights: Weights) throws(Failure) -> Trace {
    var traces: [GraphGradient.Trace?] = []
    var last: DeviceBuffer?
    for (part, graph) in parts {
      guard let inputs = try batch.inputs(of: part, after: last, embedder) else {
        traces.append(nil)
        continue
      }
      let trace = try graph.run(inputs, weights)
      last = try graph.output(of: trace)
      traces.append(trace)
    }
    guard let last else { throw Failure(.internal, "a sample without pictures for a model of pictures alone") }
    return Trace(embeddings: try Floats(device.download(last), columns: last.columns), traces: traces)
  }

  /// Goes back.
  ///
  /// - Parameters:
  ///   - upstream: the gradient by the embeddings.
  ///   - found: is given that by each trained tensor, for every place where it is read.
  package func back(
    _ trace: consuming Trace, upstream: Floats, _ weights: Weights,
    found: (TensorName, Floats) throws(Failure) -> Void
  ) throws(Failure) {
    var (traces, last) = (trace.traces, Optional(upstream))
    while let trace = traces.popLast() {
      let (part, graph) = parts[traces.count]
      guard let trace, let own = last else { continue }
      last = try graph.back(trace, upstream: own, weights, found: found)[part == .text ? .features : .hidden]
    }
  }
}
