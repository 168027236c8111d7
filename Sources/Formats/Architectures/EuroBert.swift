import Bytes
import Tensors

/// EuroBERT encoders (Boizard et al. 2025): Llama's layers, seeing both ways.
struct EuroBert: DecoderFamily {
  static let types = ["eurobert"]
  static let pooling = Op.Pooling.mean

  let decoder: Decoder

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    decoder = try Decoder(
      config, .init(name: "eurobert", isCausal: false, theta: 250_000), prefix: Decoder.prefix(shapes), shapes,
      notes: &notes)
  }
}
