/// Options that several commands have.
extension Command {
  static let device = Option("--device", "cpu|gpu[:N]", "where the model runs (default cpu); see llvconv devices")

  static let profile = Option(
    "--profile", "llama.cpp",
    "feed pictures as this program does with the exported files, which is not as the model was trained")

  /// Options of every command that embeds.
  static let modelOptions: [Option] = [
    Command.device,
    .init(
      "--memory", "MIB",
      "weights kept on the device at most; larger models run layer by layer (default 2048; of a GPU four fifths of "
        + "what is free)"),
    .init("--max-tokens", "N", "cut inputs after N tokens, instead of at the model's own limit"),
    .init(
      "--spelling", "verbatim|mmeb",
      "texts with <image> markers as they are, or prepared as the authors' MMEB evaluation does"),
    Command.threads,
  ]

  static let projector = Option(
    "--mmproj", "FILE",
    "the GGUF file with the vision tower that belongs to a GGUF text model NAME.gguf (default: NAME-mmproj.gguf beside "
      + "it)")

  static let strict = Option(
    "--strict", nil, "stop at the first bad item, and at keys that are not known, instead of leaving them out")

  static let target = Option(
    "--for", "llv|gguf|compressed-tensors|mlx",
    "the program that the result is exported for: its types and groups are the choices, its files count (default llv)")

  /// What plans are made for.
  static let objectiveOptions: [Option] = [
    .init(
      "--objective", "mse|margin|infonce",
      "what plans keep small: squared errors, losses of margin to hard negatives, or the change of the contrastive "
        + "loss (default mse)"),
    .init("--alpha", "X", "how much hard negatives count in --objective margin (default 9)"),
  ]
}
