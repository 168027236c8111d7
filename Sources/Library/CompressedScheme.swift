import Passes

/// What llm-compressor calls its presets (compressed_tensors.quantization.quant_scheme).
package enum CompressedScheme {
  package static let names = ["W4A16", "W4A16_ASYM", "W8A16", "W8A8", "W4A8"]

  /// What the weights of linear operations become, and whether inputs are rounded to 8 bits, token by token.
  package static func named(_ name: String) -> (choice: WeightChoice, roundsInputs: Bool)? {
    switch name {
    case "W4A16": (.integers(bits: 4, group: 128, form: .symmetric), false)
    case "W4A16_ASYM": (.integers(bits: 4, group: 128, form: .asymmetric), false)
    case "W8A16": (.integers(bits: 8, group: nil, form: .symmetric), false)
    case "W8A8": (.integers(bits: 8, group: nil, form: .symmetric), true)
    case "W4A8": (.integers(bits: 4, group: 128, form: .symmetric), true)
    default: nil
    }
  }
}
