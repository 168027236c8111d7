import Bytes
import Tensors

/// Llama and Mistral decoders. Embedders made of them often see both ways (`is_causal` false).
struct Llama: DecoderFamily {
  static let types = ["llama", "mistral"]

  let decoder: Decoder

  init(_ config: JSON, _ shapes: Shapes, notes: inout [String]) throws(Failure) {
    var window: (size: Int, isLocal: (Int) -> Bool)?
    // Mistral's configuration means 4,096 where it says nothing, and all where it says null.
    if try config.required("model_type").string("model_type") == "mistral",
      config["sliding_window"] == nil || config.optional("sliding_window") != nil
    {
      window = (try config.size("sliding_window", or: 4_096), { _ in true })
    }
    decoder = try Decoder(
      config, .init(name: "llama"), prefix: Decoder.prefix(shapes), shapes, window: window, notes: &notes)
  }
}
