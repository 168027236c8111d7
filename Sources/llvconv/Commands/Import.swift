import Bytes
import LLVConv
import Tensors

let importCommand = Command(
  name: "import",
  abstract: "Turns a checkpoint into an .llv container, losslessly.",
  positionals: ["SOURCE"],
  options: [
    Command.output, Command.force, Command.dryRun,
    .init(
      "--tokenizer", "FILE", "a tokenizer.json, or a GGUF file with tokenizer keys, instead of the checkpoint's own"),
    .init("--mmproj", "FILE", "the GGUF file with the vision tower that belongs to a GGUF text model"),
    .init("--adapter", "DIR", "a low-rank adapter of PEFT (LoRA), merged into the weights that it was trained for"),
    .init("--config", "FILE", "JSON whose members replace those of the checkpoint's config.json"),
    .init("--drop-unused", nil, "leave out tensors that no graph reads"), Command.threads,
  ],
  discussion: """
    SOURCE is a model folder as hubs lay it out (config.json, model.safetensors or its index, tokenizer files), a
    .safetensors file in such a folder, a *.index.json, or a GGUF file (any part of a split one). Text embedders are
    read (BERT and its kin, ModernBERT, Nomic BERT, Qwen, Llama, Mistral, Gemma), SigLIP towers, and the LLaVE family
    (LLaVA-OneVision). `llvconv inspect` says whether a checkpoint can be imported.

    Every tensor keeps its name, type and bytes. The container records the SHA-256 of each source file.
    """,
  examples: [
    "llvconv import all-MiniLM-L6-v2/ -o minilm.llv", "llvconv import model.gguf --mmproj mmproj.gguf -o model.llv",
  ]
) { (arguments) throws(Failure) in
  let result = try ImportJob(arguments).run()
  Output.notes(result.notes)
  let kept =
    result.unused == 0
    ? "" : result.dropsUnused ? ", \(result.unused) unused dropped" : ", \(result.unused) of them unused"
  let model = result.model
  Output.note(
    "\(result.path): \(model.configuration.architecture), \(model.tensors.count) tensors\(kept), "
      + Output.size(result.bytes))
  let isQuantized = model.tensors.contains { !$0.encoding.isPlain }
  Output.next(
    isQuantized
      ? "llvconv verify \(result.path) --reference FULL.llv --data PAIRS.jsonl"
      : "llvconv quantize \(result.path) --bits 4 -o OUT.llv")
  return 0
}
