import Bytes

/// What the groups of a compressed-tensors configuration say of weights that are stored in one way.
///
/// A group names its modules by patterns, a language of its own. The way in which codes are stored names them as well:
/// programs write one kind of groups in each. Where groups of one way differ, what they differ in is not taken over.
struct CompressedGroups {
  /// How codes are stored: several in a word, or each in a byte.
  enum Storage: String, CaseIterable { case packed = "pack-quantized", bytes = "int-quantized" }

  /// Whose inputs are rounded as `Op.LinearInput.int8` has it: eight bits, symmetric, scales that each token brings.
  private(set) var roundedInputs: Set<Storage> = []
  /// Bits of a code, where all groups have the same.
  private(set) var bits: [Storage: Int] = [:]

  private enum Inputs { case plain, rounded, other }

  init(_ quantization: JSON, notes: inout [String]) throws(Failure) {
    var found: [Storage: (inputs: Set<Inputs>, bits: Set<Int>)] = [:]
    for (_, group) in try quantization.optional("config_groups")?.members("config_groups") ?? [] {
      let holder = group.optional("format") == nil ? quantization : group
      let format = try holder.required("format")
      guard let storage = Storage(rawValue: try format.string("format")) else { continue }
      let bits = try group.optional("weights")?.optional("num_bits")?.integer("num_bits", in: 1...64) ?? 8
      found[storage, default: ([], [])].bits.insert(bits)
      found[storage, default: ([], [])].inputs.insert(try CompressedGroups.inputs(group))
    }
    for storage in Storage.allCases {
      guard let (inputs, bits) = found[storage] else { continue }
      if bits.count == 1 { self.bits[storage] = bits.first }
      if inputs == [.rounded] {
        roundedInputs.insert(storage)
      } else if inputs != [.plain] {
        let what = inputs.contains(.other) ? "otherwise than to 8 bits for each token" : "for some weights alone"
        notes.append("the checkpoint has inputs of \(storage.rawValue) weights rounded \(what): they stay as they are")
      }
    }
  }

  private static func inputs(_ group: JSON) throws(Failure) -> Inputs {
    guard let inputs = group.optional("input_activations") else { return .plain }
    let bits = try inputs.required("num_bits").integer("num_bits", in: 1...64)
    let type = try inputs.optional("type")?.string("type") ?? "int"
    let isSymmetric = try inputs.optional("symmetric")?.bool("symmetric") ?? true
    let strategy = try inputs.optional("strategy")?.string("strategy")
    // `dynamic` may also be a word.
    let isDynamic = inputs["dynamic"]?.kind == .true
    return bits == 8 && type == "int" && isSymmetric && isDynamic && strategy == "token" ? .rounded : .other
  }
}
