import Bytes
import Inference
import Tensors

extension Embedder {
  /// Embeddings of texts given as token ids.
  public func embed(_ lists: [[Int32]]) throws(Failure) -> [Float] { try embed(lists.map { Sample(ids: $0) }) }
}
