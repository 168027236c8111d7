import Bytes
import Passes

/// What decides about weights.
package enum WeightBudget {
  /// They stay as they are.
  case none
  /// One choice for all of a kind.
  case uniform
  /// A choice for each.
  case planned

  package init(_ arguments: Arguments) throws(Failure) {
    let budgets = ["--weights", "--bits", "--size", "--plan"].filter(arguments.has)
    if budgets.isEmpty, arguments.has("--views") || arguments.has("--pool-pictures") {
      let options = [
        "--group", "--symmetric", "--affine", "--two-level", "--activations", "--attention", "--table", "--tensor",
        "--calibration", "--method", "--objective", "--alpha", "--for", "--tower",
      ]
      for option in options where arguments.has(option) {
        throw Failure(.usage, "\(option) is for weights, and goes with --bits, --size or --plan")
      }
      self = .none
      return
    }
    guard budgets.count == 1 else {
      throw Failure(
        .usage,
        budgets.isEmpty
          ? "quantize needs one of --bits, --size, --weights and --plan, or --views or --pool-pictures"
          : "quantize needs one of --bits, --size, --weights and --plan; found \(budgets.joined(separator: " and "))")
    }
    // Bits of a GGUF file are those of its types, which differ from weight to weight.
    let isUniform =
      ["2", "3", "4", "8", "16"].contains(arguments["--bits"]) && arguments["--for"] != Target.gguf.rawValue
    guard !isUniform, !arguments.has("--weights") else {
      for option in ["--objective", "--alpha"] where arguments.has(option) {
        throw Failure(.usage, "\(option) is for --size and for --bits with another number than 2, 3, 4, 8 or 16")
      }
      self = .uniform
      return
    }
    let uniform = ["--group", "--symmetric", "--affine", "--two-level", "--table", "--tensor"]
    for option in uniform where arguments.has(option) {
      throw Failure(
        .usage,
        "\(option) is for --weights and --bits 2, 3, 4, 8 and 16; a plan chooses by itself, and may be changed by hand")
    }
    self = .planned
  }
}

extension PictureLayout {
  /// What `--views` and `--pool-pictures` of quantize ask for.
  package init(_ arguments: Arguments) throws(Failure) {
    self.init(
      views: try arguments.integer("--views", in: 1...PictureLayout.mostViews),
      pooling: try arguments.choice("--pool-pictures", ["2"]).flatMap { Int($0) })
  }
}
