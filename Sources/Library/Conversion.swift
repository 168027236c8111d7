import Bytes
import Fidelity

/// Models made, made smaller, and held to what they were made from. Each of these is a command of the program, with the
/// command's options under the command's names.
public enum Conversion {
  /// Options of ``importModel(_:to:options:listener:)``, which `llvconv import --help` explains.
  public static let importOptions = ["adapter", "config", "drop-unused", "force", "mmproj", "threads", "tokenizer"]

  /// Options of ``quantize(_:to:options:listener:)``, which `llvconv quantize --help` explains.
  public static let quantizeOptions = [
    "activations", "affine", "alpha", "attention", "bits", "calibration", "for", "force", "group", "method", "no-fuse",
    "objective", "plan", "pool-pictures", "size", "symmetric", "table", "tensor", "threads", "tower", "two-level",
    "views", "weights",
  ]

  /// Options of ``verify(_:reference:data:options:listener:)``, which `llvconv verify --help` explains.
  public static let verifyOptions = [
    "allow", "device", "max-recall-drop", "max-slice-drop", "max-tokens", "memory", "min-cosine", "min-overlap",
    "mmproj", "no-cache", "no-layers", "outputs", "profile", "spelling", "strict", "threads", "vectors",
  ]

  /// Options of ``verify(_:anchors:options:listener:)`` beside those of thresholds and models: how a server is asked.
  public static let endpointOptions = [
    "api", "base64", "dimensions", "endpoint", "endpoint-model", "no-prompts", "rate",
  ]

  /// Options of ``anchors(_:data:to:options:listener:)``, which `llvconv anchors --help` explains.
  public static let anchorsOptions = [
    "count", "device", "force", "index", "max-recall-drop", "max-tokens", "memory", "metric", "min-cosine",
    "min-overlap", "neighbours", "no-faults", "seed", "spelling", "strict", "threads", "vectors",
  ]

  /// A container that was written.
  public struct Written: Sendable {
    public let path: String
    public let bytes: Int
    package let json: JSONText
  }

  /// Turns a checkpoint into a container, losslessly. The file appears whole or not at all.
  ///
  /// - Parameter source: a model folder as hubs lay it out, a `.safetensors` or a GGUF file.
  @discardableResult
  public static func importModel(
    _ source: String, to output: String, options: Options = [:], listener: Listener = .init()
  ) throws(Failure) -> Written {
    let arguments = try options.arguments([source], importOptions, output: output)
    return try listener.hearing { () throws(Failure) in
      let result = try ImportJob(arguments).run()
      Output.notes(result.notes)
      return Written(
        path: result.path, bytes: result.bytes,
        json: [
          "file": .string(result.path), "file_bytes": .int(result.bytes),
          "architecture": .string(result.model.configuration.architecture),
          "tensors": .int(result.model.tensors.count), "unused": .int(result.unused),
        ])
    }
  }

  /// Makes a container's weights smaller. The file appears whole or not at all.
  ///
  /// ```swift
  /// try Conversion.quantize("minilm.llv", to: "minilm-4bit.llv", options: ["bits": 4])
  /// ```
  @discardableResult
  public static func quantize(
    _ model: String, to output: String, options: Options, listener: Listener = .init()
  ) throws(Failure) -> Written {
    let arguments = try options.arguments([model], quantizeOptions, output: output)
    return try listener.hearing { () throws(Failure) in
      let job = try QuantizeJob(arguments)
      let summary = try QuantizeSummary(job)
      let written = try job.run()
      Output.notes(job.notes)
      return Written(path: written.path, bytes: written.bytes, json: summary.json(written))
    }
  }

  /// Whether candidates still retrieve what their reference retrieves.
  public struct Verification: Sendable {
    public enum Verdict: String, Sendable { case pass, fail, inconclusive }

    /// The worst of all candidates'.
    public let verdict: Verdict
    /// All numbers, as `llvconv verify --json` prints them.
    public let json: String
    /// A page with plots.
    public let page: String
  }

  /// Embeds the data's queries and documents with candidates and reference, and compares vectors, rankings, and new
  /// queries against old documents.
  ///
  /// - Parameter data: a file of labelled pairs.
  public static func verify(
    _ candidates: [String], reference: String, data: String, options: Options = [:], listener: Listener = .init()
  ) throws(Failure) -> Verification {
    var options = options
    for (name, value) in [("reference", reference), ("data", data)] { options.values[name] = .text(value) }
    let arguments = try options.arguments(candidates, verifyOptions + ["reference", "data"])
    return try listener.hearing { () throws(Failure) in
      let result = try VerifyJob(arguments).run()
      return Verification(
        verdict: result.exitCode == 0 ? .pass : result.exitCode == 1 ? .fail : .inconclusive,
        json: result.json.text(), page: result.page(facts: [("llvconv", Release.version)]))
    }
  }

  /// Holds candidates, and a server where `endpoint` names one, to the anchors of an index: no reference and no data
  /// are needed.
  ///
  /// - Parameters:
  ///   - candidates: models, or `.npy` files with a vector for each anchor.
  ///   - anchors: what ``anchors(_:data:to:options:listener:)`` or `llvconv anchors` wrote.
  public static func verify(
    _ candidates: [String], anchors: String, options: Options = [:], listener: Listener = .init()
  ) throws(Failure) -> Verification {
    var options = options
    options.values["anchors"] = .text(anchors)
    let idle = ["no-cache", "no-layers", "profile", "strict", "vectors"]
    let names = verifyOptions.filter { !idle.contains($0) } + endpointOptions + ["anchors"]
    let arguments = try options.arguments(candidates, names)
    return try listener.hearing { () throws(Failure) in
      let reports = try AnchorVerifyJob(arguments).run()
      let code = exitCode(reports)
      return Verification(
        verdict: code == 0 ? .pass : code == 1 ? .fail : .inconclusive,
        json: (reports.count == 1 ? reports[0].json : .array(reports.map(\.json))).text(),
        page: FidelityReport.page(reports, facts: [("llvconv", Release.version)]))
    }
  }

  /// Anchors that were written.
  public struct WrittenAnchors: Sendable {
    public let path: String
    public let bytes: Int
    package let json: JSONText
  }

  /// Chooses items of the data, embeds them with the model that an index was made with, and writes what verify holds
  /// others to. The file appears whole or not at all.
  ///
  /// - Parameter model: nil with the option `vectors`, files of those that a model made which cannot be read here.
  @discardableResult
  public static func anchors(
    _ model: String?, data: String, to output: String, options: Options = [:], listener: Listener = .init()
  ) throws(Failure) -> WrittenAnchors {
    var options = options
    options.values["data"] = .text(data)
    let arguments = try options.arguments(model.map { [$0] } ?? [], anchorsOptions + ["data"], output: output)
    return try listener.hearing { () throws(Failure) in
      let (file, path, bytes) = try AnchorsJob(arguments).run()
      return WrittenAnchors(path: path, bytes: bytes, json: file.json)
    }
  }

  /// Writes the items of anchors as lines that `llvconv embed` reads, so that another program can embed them; pictures
  /// go into a folder `OUTPUT.pictures`.
  public static func anchorItems(
    _ anchors: String, to output: String, options: Options = [:], listener: Listener = .init()
  ) throws(Failure) {
    var options = options
    options.values["items"] = .text(output)
    let arguments = try options.arguments([anchors], ["force", "items"])
    try listener.hearing { () throws(Failure) in _ = try AnchorItemsJob(arguments).run() }
  }
}
