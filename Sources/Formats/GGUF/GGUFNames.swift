/// How ggml calls tensors, and how the checkpoints do that our architectures describe. Used both ways.
///
/// Source: `gguf-py/gguf/constants.py` and `tensor_mapping.py`, and `tools/mtmd/clip-impl.h`, of ggml-org/llama.cpp.
struct GGUFNames {
  /// Stems, to be followed by `.weight` or `.bias`; `{layer}` stands for 0, 1, 2, …
  let pairs: [(ggml: String, checkpoint: String)]

  private static let decoder = [
    ("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head"),
    ("blk.{layer}.attn_norm", "model.layers.{layer}.input_layernorm"),
    ("blk.{layer}.attn_q", "model.layers.{layer}.self_attn.q_proj"),
    ("blk.{layer}.attn_k", "model.layers.{layer}.self_attn.k_proj"),
    ("blk.{layer}.attn_v", "model.layers.{layer}.self_attn.v_proj"),
    ("blk.{layer}.attn_output", "model.layers.{layer}.self_attn.o_proj"),
    ("blk.{layer}.ffn_gate", "model.layers.{layer}.mlp.gate_proj"),
    ("blk.{layer}.ffn_up", "model.layers.{layer}.mlp.up_proj"),
    ("blk.{layer}.ffn_down", "model.layers.{layer}.mlp.down_proj"),
  ]
  private static let headNorms = [
    ("blk.{layer}.attn_q_norm", "model.layers.{layer}.self_attn.q_norm"),
    ("blk.{layer}.attn_k_norm", "model.layers.{layer}.self_attn.k_norm"),
  ]
  private static let innerNorm = [("blk.{layer}.ffn_norm", "model.layers.{layer}.post_attention_layernorm")]

  static let qwen2 = GGUFNames(pairs: decoder + innerNorm)
  static let qwen3 = GGUFNames(pairs: decoder + innerNorm + headNorms)
  static let gemmaEmbedding = GGUFNames(
    pairs: decoder + headNorms + [
      ("blk.{layer}.post_attention_norm", "model.layers.{layer}.post_attention_layernorm"),
      ("blk.{layer}.ffn_norm", "model.layers.{layer}.pre_feedforward_layernorm"),
      ("blk.{layer}.post_ffw_norm", "model.layers.{layer}.post_feedforward_layernorm"),
      ("dense_2", "2_Dense.linear"), ("dense_3", "3_Dense.linear"),
    ])

  static let nomicBert = GGUFNames(pairs: [
    ("token_embd", "embeddings.word_embeddings"), ("token_types", "embeddings.token_type_embeddings"),
    ("token_embd_norm", "emb_ln"), ("blk.{layer}.attn_qkv", "encoder.layers.{layer}.attn.Wqkv"),
    ("blk.{layer}.attn_output", "encoder.layers.{layer}.attn.out_proj"),
    ("blk.{layer}.attn_output_norm", "encoder.layers.{layer}.norm1"),
    ("blk.{layer}.ffn_up", "encoder.layers.{layer}.mlp.fc11"),
    ("blk.{layer}.ffn_gate", "encoder.layers.{layer}.mlp.fc12"),
    ("blk.{layer}.ffn_down", "encoder.layers.{layer}.mlp.fc2"),
    ("blk.{layer}.layer_output_norm", "encoder.layers.{layer}.norm2"),
  ])

  /// The second version of Nomic's, with experts in some layers.
  static let nomicBertMoE = GGUFNames(
    pairs: nomicBert.pairs.filter { !$0.ggml.contains("ffn_") } + [
      ("blk.{layer}.ffn_up", "encoder.layers.{layer}.mlp.fc1"),
      ("blk.{layer}.ffn_down", "encoder.layers.{layer}.mlp.fc2"),
      ("blk.{layer}.ffn_gate_inp", "encoder.layers.{layer}.mlp.router.layer"),
      ("blk.{layer}.ffn_up_exps", "encoder.layers.{layer}." + ExpertWeights.widening),
      ("blk.{layer}.ffn_down_exps", "encoder.layers.{layer}." + ExpertWeights.narrowing),
    ])

  private static let jina = bert.pairs.filter { pair in
    !["position_embd", "ffn_", "layer_output_norm"].contains { pair.ggml.contains($0) }
  }

  static let jinaBert = GGUFNames(
    pairs: jina + [
      ("blk.{layer}.ffn_up", "encoder.layer.{layer}.mlp.gated_layers"),
      ("blk.{layer}.ffn_down", "encoder.layer.{layer}.mlp.wo"),
      ("blk.{layer}.layer_output_norm", "encoder.layer.{layer}.mlp.layernorm"),
    ])
  static let laterJinaBert = GGUFNames(
    pairs: jina + [
      ("blk.{layer}.attn_q_norm", "encoder.layer.{layer}.attention.self.layer_norm_q"),
      ("blk.{layer}.attn_k_norm", "encoder.layer.{layer}.attention.self.layer_norm_k"),
      ("blk.{layer}.attn_norm_2", "encoder.layer.{layer}.layer_norm_1"),
      ("blk.{layer}.ffn_up", "encoder.layer.{layer}.mlp.up_gated_layer"),
      ("blk.{layer}.ffn_down", "encoder.layer.{layer}.mlp.down_layer"),
      ("blk.{layer}.layer_output_norm", "encoder.layer.{layer}.layer_norm_2"),
    ])

  static let modernBert = GGUFNames(pairs: [
    ("token_embd", "embeddings.tok_embeddings"), ("token_embd_norm", "embeddings.norm"), ("output_norm", "final_norm"),
    ("blk.{layer}.attn_norm", "layers.{layer}.attn_norm"), ("blk.{layer}.attn_qkv", "layers.{layer}.attn.Wqkv"),
    ("blk.{layer}.attn_output", "layers.{layer}.attn.Wo"), ("blk.{layer}.ffn_norm", "layers.{layer}.mlp_norm"),
    ("blk.{layer}.ffn_up", "layers.{layer}.mlp.Wi"), ("blk.{layer}.ffn_down", "layers.{layer}.mlp.Wo"),
  ])

  static let bert = GGUFNames(pairs: [
    ("token_embd", "embeddings.word_embeddings"), ("position_embd", "embeddings.position_embeddings"),
    ("token_types", "embeddings.token_type_embeddings"), ("token_embd_norm", "embeddings.LayerNorm"),
    ("blk.{layer}.attn_q", "encoder.layer.{layer}.attention.self.query"),
    ("blk.{layer}.attn_k", "encoder.layer.{layer}.attention.self.key"),
    ("blk.{layer}.attn_v", "encoder.layer.{layer}.attention.self.value"),
    ("blk.{layer}.attn_output", "encoder.layer.{layer}.attention.output.dense"),
    ("blk.{layer}.attn_output_norm", "encoder.layer.{layer}.attention.output.LayerNorm"),
    ("blk.{layer}.ffn_up", "encoder.layer.{layer}.intermediate.dense"),
    ("blk.{layer}.ffn_down", "encoder.layer.{layer}.output.dense"),
    ("blk.{layer}.layer_output_norm", "encoder.layer.{layer}.output.LayerNorm"),
  ])

  private static let tower = "model.vision_tower.vision_tower.vision_model."

  /// The tower and projector of the LLaVE family.
  static let clip = GGUFNames(pairs: [
    ("v.patch_embd", tower + "embeddings.patch_embedding"),
    ("v.position_embd", tower + "embeddings.position_embedding"), ("v.post_ln", tower + "post_layernorm"),
    ("v.blk.{layer}.ln1", tower + "encoder.layers.{layer}.layer_norm1"),
    ("v.blk.{layer}.ln2", tower + "encoder.layers.{layer}.layer_norm2"),
    ("v.blk.{layer}.attn_q", tower + "encoder.layers.{layer}.self_attn.q_proj"),
    ("v.blk.{layer}.attn_k", tower + "encoder.layers.{layer}.self_attn.k_proj"),
    ("v.blk.{layer}.attn_v", tower + "encoder.layers.{layer}.self_attn.v_proj"),
    ("v.blk.{layer}.attn_out", tower + "encoder.layers.{layer}.self_attn.out_proj"),
    ("v.blk.{layer}.ffn_up", tower + "encoder.layers.{layer}.mlp.fc1"),
    ("v.blk.{layer}.ffn_down", tower + "encoder.layers.{layer}.mlp.fc2"),
    ("mm.0", "model.mm_projector.0"), ("mm.2", "model.mm_projector.2"),
  ])

  /// The newline is a vector of its own, without a suffix.
  static let newline = (ggml: ["v.image_newline", "model.image_newline"], checkpoint: "model.image_newline")

  /// The checkpoint's name for ggml's; nil for a name that is not in the table.
  func checkpoint(_ name: String) -> String? {
    GGUFNames.translate(name, pairs.lazy.map { ($0.ggml, $0.checkpoint) })
  }

  /// ggml's name for the checkpoint's.
  func ggml(_ name: String) -> String? { GGUFNames.translate(name, pairs.lazy.map { ($0.checkpoint, $0.ggml) }) }

  private static func translate(_ name: String, _ pairs: some Sequence<(String, String)>) -> String? {
    guard let dot = name.utf8.lastIndex(of: UInt8(ascii: ".")) else { return nil }
    let suffix = name[dot...]
    guard suffix == ".weight" || suffix == ".bias" else { return nil }
    let parts = name[..<dot].split(separator: ".", omittingEmptySubsequences: false)
    let number = parts.firstIndex { !$0.isEmpty && $0.utf8.allSatisfy { $0 >= 48 && $0 <= 57 } }
    for (from, to) in pairs {
      if from == name[..<dot] { return to + suffix }
      guard let number else { continue }
      var pattern = parts
      pattern[number] = "{layer}"
      if pattern.joined(separator: ".") == from {
        return to.split(separator: ".").map { $0 == "{layer}" ? parts[number] : $0 }.joined(separator: ".") + suffix
      }
    }
    return nil
  }
}
