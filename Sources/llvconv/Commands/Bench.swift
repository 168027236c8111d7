import Bytes
import Glibc
import Inference
import Inputs
import LLVConv
import Tensors

let benchCommand = Command(
  name: "bench",
  abstract: "Measures how fast a model embeds, and how near that is to what the processor can do.",
  positionals: ["MODEL.llv"],
  options: [
    .init("--tokens", "N", "tokens of each input (default 128, or as many as the model takes; 0 for pictures alone)"),
    .init("--batch", "N", "inputs that are embedded together (default 32; with pictures 1)"),
    .init("--images", "N", "pictures in each input (default 0; 1 for a model of pictures alone)"),
    .init("--image-size", "WxH", "pixels of each picture (default: one view of the model)"),
    .init("--input", "X.jsonl", "items or pairs to embed, instead of made-up inputs"),
    .init("--repeat", "N", "runs to take the median of, after one that warms up (default 5)"),
    .init("--timeline", "T.html", "also write a page that shows when each operation ran"),
    Command.json, Command.force, Command.dryRun, Command.device,
    .init("--memory", "MIB", "weights kept on the device at most (default 2048; of a GPU four fifths of what is free)"),
    Command.threads,
  ],
  discussion: """
    Made-up inputs are random tokens and random pictures. Times are those of the model alone, without reading files or
    splitting text. Products are multiplications with their additions in linear operations. The peak is what the
    processor's instructions for them reach with operands in registers, measured just before on as many threads. On a
    GPU, where operations are only asked for, their times come from one run more that waits for each; there is no peak.
    """,
  examples: ["llvconv bench llave-4bit.llv --images 1 --timeline timeline.html"]
) { (arguments) throws(Failure) in
  let options = try LoadedModel.Options(arguments)
  let repeats = try arguments.integer("--repeat", in: 1...10_000) ?? 5
  let page = try arguments.output("--timeline")
  let profile = Profile()
  let opening = ContinuousClock.now
  let model = try LoadedModel(ModelFile(container: arguments.positionals[0]), options, timeline: profile)
  let loaded = (ContinuousClock.now - opening).seconds
  let samples = try benchSamples(model, arguments)
  let isProcessor = options.device is CPUDevice
  let peaks = Dictionary(
    uniqueKeysWithValues: zip(
      Profile.Arithmetic.allCases,
      isProcessor ? try benchPeaks(options.threads) : Profile.Arithmetic.allCases.map { _ in nil }))
  var runs: [(seconds: Double, events: [Profile.Event])] = []
  let progress = Progress("measuring", of: repeats + 1)
  profile.isPaused = !isProcessor
  for run in 0...repeats {
    profile.clear()
    let start = ContinuousClock.now
    _ = try model.embedder.embed(samples)
    let seconds = (ContinuousClock.now - start).seconds
    if run > 0 { runs.append((seconds, profile.events)) }
    progress.show(run + 1)
  }
  var events: [Profile.Event]?
  if !isProcessor {
    profile.isPaused = false
    _ = try model.embedder.embed(samples)
    events = profile.events
  }
  Progress.clear()
  runs.sort { $0.seconds < $1.seconds }
  let result = BenchResult(
    model: arguments.positionals[0], threads: options.threads, device: options.device.shown, samples: samples,
    loaded: loaded,
    seconds: runs.map(\.seconds), events: events ?? runs[runs.count / 2].events, peaks: peaks)
  if let page {
    try page.write(Array(Timeline(result.title, result.events).html.utf8))
    try page.commit()
  }
  if arguments.has("--json") { Output.print(result.json) } else { Output.print(result.text) }
  if let path = arguments["--timeline"] { Output.note("timeline: \(path)") }
  Output.next("llvconv quantize --bits 8 --activations 8 makes the fastest candidate; bench it beside this one")
  return 0
}

private func benchPeaks(_ threads: Int) throws(Failure) -> [Double?] {
  var peaks: [Double?] = []
  for arithmetic in Profile.Arithmetic.allCases { peaks.append(try arithmetic.peak(threads: threads)) }
  return peaks
}

/// What is to be embedded: items of a file, or made-up inputs, no two of them alike.
private func benchSamples(_ model: LoadedModel, _ arguments: Arguments) throws(Failure) -> [Sample] {
  if let path = arguments["--input"] {
    for option in ["--tokens", "--batch", "--images", "--image-size"] where arguments.has(option) {
      throw Failure(.usage, "\(option) is for made-up inputs, not for those of --input")
    }
    var samples: [Sample] = []
    for built in model.samples(try DataFile.open(path).items, prompt: nil, folder: directory(of: path)) {
      samples.append(try built.get().sample)
    }
    return samples
  }
  let hasText = model.file.model.graph("text") != nil
  let images = try arguments.integer("--images", in: 0...64) ?? (hasText ? 0 : 1)
  let tokens =
    try arguments.integer("--tokens", in: 0...model.builder.maximumTokens)
    ?? (hasText ? min(128, model.builder.maximumTokens) : 0)
  let batch = try arguments.integer("--batch", in: 1...100_000) ?? (images > 0 ? 1 : 32)
  guard images == 0 || model.configuration.vision != nil else {
    throw Failure(.usage, "the model takes text only; leave out --images")
  }
  guard hasText || tokens == 0 else { throw Failure(.usage, "the model takes pictures only; leave out --tokens") }
  guard tokens + images > 0 else { throw Failure(.usage, "inputs without tokens and pictures") }
  var size = model.configuration.vision.map { ($0.patch * $0.side, $0.patch * $0.side) } ?? (1, 1)
  if let text = arguments["--image-size"] {
    let numbers = text.split(separator: "x").map { Int($0) ?? 0 }
    guard numbers.count == 2, numbers.allSatisfy({ (1...Limits.imageSide).contains($0) }),
      numbers[0] * numbers[1] <= Limits.imagePixels
    else {
      throw Failure(.usage, "--image-size is WIDTHxHEIGHT in pixels; found \(Failure.quoted(text))")
    }
    size = (numbers[0], numbers[1])
  }
  var state: UInt64 = 1
  func random() -> UInt64 {  // Knuth's MMIX generator; its high bits are the good ones
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state >> 33
  }
  var samples: [Sample] = []
  for _ in 0..<batch {
    let pictures = (0..<images).map { _ in
      Picture(
        width: size.0, height: size.1,
        pixels: (0..<size.0 * size.1 * 3).map { _ in UInt8(truncatingIfNeeded: random()) })
    }
    let ids = (0..<tokens).map { _ in Int32(random() % UInt64(max(model.configuration.vocabulary, 1))) }
    samples.append(try model.builder.sample(tokens: ids, pictures: pictures))
  }
  return samples
}

private struct BenchResult {
  let model: String
  let threads: Int
  let device: String
  let samples: [Sample]
  let loaded: Double
  let seconds: [Double]
  /// Of the median run.
  let events: [Profile.Event]
  let peaks: [Profile.Arithmetic: Double?]

  struct Line {
    var name: String
    var calls = 0
    var seconds = 0.0
    var products = 0.0
    var arithmetic: Profile.Arithmetic?
  }

  var median: Double { seconds[seconds.count / 2] }
  var tokens: Int { samples.reduce(0) { $0 + $1.ids.count } }
  var images: Int { samples.reduce(0) { $0 + $1.pictures.count } }
  var views: Int { samples.reduce(0) { $0 + $1.pictures.reduce(0) { $0 + $1.views } } }

  var title: String {
    let what = [
      tokens > 0 ? "\(tokens) tokens" : nil, images > 0 ? "\(images) pictures (\(views) views)" : nil,
    ].compactMap { $0 }
    return "\(model): \(samples.count) inputs, \(what.joined(separator: ", ")); "
      + "\(threads) threads, \(device)"
  }

  /// Operations of one kind together, the longest first.
  var lines: [Line] {
    var lines: [String: Line] = [:]
    for event in events {
      var line = lines[event.name] ?? Line(name: event.name)
      line.calls += 1
      line.seconds += event.duration
      line.products += event.products
      line.arithmetic = event.arithmetic
      lines[event.name] = line
    }
    return lines.values.sorted { ($0.seconds, $0.name) > ($1.seconds, $1.name) }
  }

  func share(_ line: Line) -> Double? {
    guard let arithmetic = line.arithmetic, let peak = peaks[arithmetic] ?? nil else { return nil }
    return line.products / line.seconds / peak
  }

  /// Largest resident memory of this process so far, in bytes, by the system's count.
  private var peakMemory: Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss * 1024
  }

  var text: String {
    var text = [title, ""]
    func add(_ name: String, _ value: String) { text.append("  \(name.padded(15))  \(value)") }
    add(
      "time",
      "\(median.fixed(4)) s, median of \(seconds.count) (\((seconds.first ?? 0).fixed(4)) to "
        + "\((seconds.last ?? 0).fixed(4)))"
    )
    if tokens > 0 { add("tokens/s", (Double(tokens) / median).fixed(1)) }
    if images > 0 {
      add("images/s", "\((Double(images) / median).fixed(3)) (\((Double(views) / median).fixed(3)) views/s)")
    }
    add("inputs/s", (Double(samples.count) / median).fixed(2))
    let products = events.reduce(0) { $0 + $1.products }
    add("products", "\((products / median / 1e9).fixed(1)) GMAC/s over all")
    for arithmetic in Profile.Arithmetic.allCases {
      if let peak = peaks[arithmetic] ?? nil {
        add("peak \(arithmetic.rawValue)", "\((peak / 1e9).fixed(1)) GMAC/s")
      }
    }
    add("loading", "\(loaded.fixed(3)) s")
    add("peak memory", Output.size(peakMemory))
    text += ["", "  \("operation".padded(36))  calls   seconds   share   GMAC/s  of peak"]
    for line in lines {
      let rate = line.products > 0 ? (line.products / line.seconds / 1e9).fixed(1) : ""
      text.append(
        "  \(line.name.padded(36))  \(left(String(line.calls), 5))  \(left(line.seconds.fixed(4), 8))  "
          + "\(left((line.seconds / median * 100).fixed(1), 4)) %  \(left(rate, 7))"
          + (share(line).map { "    \(left(($0 * 100).fixed(0), 3)) %" } ?? ""))
    }
    return text.joined(separator: "\n")
  }

  private func left(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }

  var json: JSONText {
    .object([
      ("model", .string(model)), ("threads", .int(threads)), ("device", .string(device)),
      ("inputs", .int(samples.count)), ("tokens", .int(tokens)), ("images", .int(images)), ("views", .int(views)),
      ("loadSeconds", .number(loaded)), ("seconds", .number(median)), ("runs", .array(seconds.map { .number($0) })),
      ("tokensPerSecond", .number(Double(tokens) / median)), ("imagesPerSecond", .number(Double(images) / median)),
      ("inputsPerSecond", .number(Double(samples.count) / median)), ("peakMemoryBytes", .int(peakMemory)),
      (
        "peakProductsPerSecond",
        .object(
          Profile.Arithmetic.allCases.map { ($0.rawValue, (peaks[$0] ?? nil).map { .number($0) } ?? .null) })
      ),
      (
        "operations",
        .array(
          lines.map { line in
            .object([
              ("name", .string(line.name)), ("calls", .int(line.calls)), ("seconds", .number(line.seconds)),
              ("products", .number(line.products)), ("shareOfPeak", share(line).map { .number($0) } ?? .null),
            ])
          })
      ),
    ])
  }
}

extension Duration {
  fileprivate var seconds: Double { Double(components.seconds) + Double(components.attoseconds) / 1e18 }
}
