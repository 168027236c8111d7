import Bytes
import Fidelity
import Formats
import Glibc
import LLVConv
import Tensors

let diffCommand = Command(
  name: "diff",
  abstract: "Compares the weights of two files of any formats, tensor by tensor.",
  positionals: ["A", "B"],
  options: [
    .init("--tolerance", "X", "relative error of a tensor that still counts as equal (default 0: every bit)"),
    .init("--mmproj-a", "FILE", "the vision tower that belongs to A, a GGUF text model"),
    .init("--mmproj-b", "FILE", "the same for B"),
    .init("--all", nil, "list equal tensors too"), Command.json, Command.threads,
  ],
  discussion: """
    A and B are containers, safetensors files or folders, or GGUF files. Tensors go by the names of the family's first
    layout, so that a checkpoint, its GGUF and its container can be compared. The worst come first. Exit code 0 means
    that everything is there in one shape and within the tolerance, 1 that it is not. Tensors that no embedding reads do
    not count.
    """,
  examples: ["llvconv diff llave.gguf LLaVE-2B/ --mmproj-a llave-mmproj.gguf"]
) { (arguments) throws(Failure) in
  let threads = try arguments.threads()
  let tolerance = try arguments.number("--tolerance", in: 0...Double.greatestFiniteMagnitude) ?? 0
  let a = try NamedTensors(arguments.positionals[0], projector: arguments["--mmproj-a"])
  let b = try NamedTensors(arguments.positionals[1], projector: arguments["--mmproj-b"])
  Output.notes(a.notes + b.notes)
  let comparison = try Comparison(a, b, tolerance: tolerance, threads: threads)
  if arguments.has("--json") {
    Output.print(comparison.json)
  } else {
    comparison.print(withEqual: arguments.has("--all"))
  }
  if !comparison.isEqual {
    Output.next("llvconv verify CANDIDATE.llv --reference REFERENCE.llv --data PAIRS.jsonl says what it costs")
  }
  return comparison.isEqual ? 0 : 1
}

/// What two files have in common and what not.
private struct Comparison {
  struct Row {
    let name: TensorName
    let a, b: Tensor
    let difference: TensorDifference
    /// Of integers: not only what they stand for.
    let hasSameCodes: Bool
  }

  let a, b: NamedTensors
  let tolerance: Double
  /// Worst first.
  var rows: [Row] = []
  var missing: [Tensor] = []
  var extra: [Tensor] = []
  var reshaped: [(a: Tensor, b: Tensor)] = []

  init(_ a: NamedTensors, _ b: NamedTensors, tolerance: Double, threads: Int) throws(Failure) {
    (self.a, self.b, self.tolerance) = (a, b, tolerance)
    let others = Dictionary(b.tensors.map { ($0.name, $0) }) { first, _ in first }
    let names = Set(a.tensors.map(\.name))
    extra = b.tensors.filter { !names.contains($0.name) }
    let progress = Progress("comparing", of: a.tensors.reduce(0) { $0 + $1.count })
    var done = 0
    for tensor in a.tensors {
      done += tensor.count
      guard let other = others[tensor.name] else {
        missing.append(tensor)
        continue
      }
      guard tensor.shape == other.shape else {
        reshaped.append((tensor, other))
        continue
      }
      // Types that no weight has (positions, say) are not compared.
      if case .plain(let type) = tensor.encoding, !type.isWeight { continue }
      rows.append(
        Row(
          name: tensor.name, a: tensor, b: other, difference: try TensorDifference(tensor, other, threads: threads),
          hasSameCodes: try tensor.hasSameCodes(as: other, threads: threads)))
      progress.show(done)
    }
    Progress.clear()
    rows.sort {
      ($1.difference.relativeError, $0.name.text) < ($0.difference.relativeError, $1.name.text)
    }
  }

  private func isWithin(_ difference: TensorDifference) -> Bool {
    difference.isIdentical || tolerance > 0 && difference.relativeError <= tolerance
  }

  private func counts(_ tensor: Tensor) -> Bool { !a.unused.contains(tensor.name) && !b.unused.contains(tensor.name) }

  var isEqual: Bool {
    !missing.contains(where: counts) && !extra.contains(where: counts) && !reshaped.contains { counts($0.a) }
      && rows.allSatisfy { !counts($0.a) || isWithin($0.difference) }
  }

  func print(withEqual: Bool) {
    func line(_ mark: String, _ tensor: Tensor, _ text: String) {
      let unused = counts(tensor) ? "" : "  (unused)"
      Output.print("\(mark) \(tensor.name.text)  \(text)\(unused)")
    }
    for tensor in missing { line("only A  ", tensor, "\(tensor.encoding.text) \(tensor.shape)") }
    for tensor in extra { line("only B  ", tensor, "\(tensor.encoding.text) \(tensor.shape)") }
    for pair in reshaped { line("shape   ", pair.a, "\(pair.a.shape) and \(pair.b.shape)") }
    for row in rows where withEqual || !row.difference.isIdentical {
      let types =
        row.a.encoding == row.b.encoding ? row.a.encoding.text : "\(row.a.encoding.text) and \(row.b.encoding.text)"
      let d = row.difference
      let text =
        d.isIdentical
        ? "identical\(row.hasSameCodes ? ", the same codes" : "")  \(types)"
        : "cosine \(d.cosine.fixed(6))  relative error \(d.relativeError.short)  most \(d.largestError.short)  \(types)"
      line(d.isIdentical ? "equal   " : isWithin(d) ? "close   " : "differs ", row.a, text)
    }
    let same = rows.count { $0.difference.isIdentical }
    let types = rows.count { $0.a.encoding != $0.b.encoding }
    let coded = rows.count { $0.hasSameCodes }
    let codes = coded > 0 ? " (\(coded) with the same codes)" : ""
    Output.print(
      "\(same) of \(rows.count) tensors identical\(codes), \(types) of another type, \(missing.count) only in A, "
        + "\(extra.count) only in B, \(reshaped.count) of another shape: \(isEqual ? "equal" : "not equal")"
    )
  }

  var json: JSONText {
    [
      "equal": .bool(isEqual), "tolerance": .number(tolerance),
      "only_a": .array(missing.map { .string($0.name.text) }), "only_b": .array(extra.map { .string($0.name.text) }),
      "shape": .array(
        reshaped.map {
          [
            "name": .string($0.a.name.text), "a": .array($0.a.shape.map(JSONText.int)),
            "b": .array($0.b.shape.map(JSONText.int)),
          ]
        }),
      "tensors": .array(
        rows.map {
          [
            "name": .string($0.name.text), "type_a": .string($0.a.encoding.text), "type_b": .string($0.b.encoding.text),
            "difference": $0.difference.json, "same_codes": .bool($0.hasSameCodes),
          ]
        }),
    ]
  }
}

extension Double {
  /// Three digits, with an exponent where that is shorter.
  fileprivate var short: String { self == 0 || abs(self) >= 0.001 && abs(self) < 1000 ? fixed(4) : scientific }

  private var scientific: String {
    guard isFinite else { return "infinite" }
    let exponent = Int(Glibc.log10(abs(self)).rounded(.down))
    return "\((self / Glibc.pow(10, Double(exponent))).fixed(2))e\(exponent)"
  }
}
