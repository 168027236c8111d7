import Bytes
import Inference
import Inputs
import Passes
import Tensors

/// A model opened for embedding: tokenizer read, weights on the device or ready to be read layer by layer.
package struct LoadedModel: Sendable {
  package let file: ModelFile
  /// The model as it runs.
  package private(set) var prepared: Model
  package internal(set) var builder: SampleBuilder
  package let embedder: Embedder
  package let threads: Int
  /// Everything but the item that an embedding depends on.
  private let identity: [UInt8]
  package var configuration: Configuration { prepared.configuration }

  package struct Options {
    package var threads = availableThreads
    package var device: any Device
    /// Bytes of weights that may stay in the device's memory.
    package var memory: Int
    package var maximumTokens: Int?
    package var spelling = Spelling.verbatim
    /// How another program would feed the model.
    package var profile: ConsumerProfile?

    /// What `Command.modelOptions` offers.
    package init(_ arguments: Arguments) throws(Failure) {
      try self.init(arguments, on: try arguments["--device"].map(DeviceChoice.init) ?? .cpu)
    }

    package init(_ arguments: Arguments, on choice: DeviceChoice) throws(Failure) {
      threads = try arguments.threads()
      (device, memory) = try choice.open(threads: threads)
      memory = try arguments.integer("--memory", in: 0...1 << 40).map { $0 << 20 } ?? memory
      maximumTokens = try arguments.integer("--max-tokens", in: 1...1 << 24)
      spelling =
        try arguments.choice("--spelling", Spelling.allCases.map(\.rawValue)).flatMap(Spelling.init) ?? spelling
      profile =
        try arguments.choice("--profile", ConsumerProfile.allCases.map(\.rawValue)).flatMap(ConsumerProfile.init)
    }
  }

  /// - Parameters:
  ///   - passes: what is done to the model before it runs.
  ///   - timeline: what is told of every operation.
  ///   - observer: who is shown the inputs of linear operations, of all tokens.
  ///   - isMeasured: whether somebody walks through it stage by stage, with all tokens.
  package init(
    _ file: ModelFile, _ options: Options, passes given: [Pass] = [], timeline: Profile? = nil,
    observer: (any LinearObserver)? = nil, isMeasured: Bool = false
  ) throws(Failure) {
    self.file = file
    threads = options.threads
    do throws(Failure) {
      var model = file.model
      let hasText = model.graph("text") != nil
      let tokenizer = hasText ? try Tokenizer.load { (name) throws(Failure) in try model.file(name) } : nil
      if let tokenizer, tokenizer.vocabulary > model.configuration.vocabulary {
        throw Failure(
          .malformed,
          "token id \(tokenizer.vocabulary - 1) has no row: the token table has \(model.configuration.vocabulary)")
      }
      var notes: [String] = []
      let profile: [Pass] = options.profile == .llamaCpp ? [.tanhProjector] : []
      try Pass.run(given + profile + (observer == nil && !isMeasured ? [.poolEarly] : []), on: &model, notes: &notes)
      prepared = model
      builder = SampleBuilder(
        model.configuration, tokenizer: tokenizer, maximumTokens: options.maximumTokens, spelling: options.spelling,
        profile: options.profile)
      embedder = try Embedder(
        model, on: options.device, prefix: builder.prefix, memory: options.memory,
        profile: timeline, observer: observer,
        isFine: isMeasured)
    } catch { throw error.inFile(file.path) }
    identity =
      withUnsafeBytes(of: file.checksum) { Array($0) }
      + Array(
        ("\(Release.version) \(options.device.identity) \(builder.maximumTokens) \(options.spelling.rawValue) "
          + "\(options.profile?.rawValue ?? "")").utf8)
  }

  /// The same weights, with pictures laid out otherwise. Not for a cache, whose keys know the file's own layout.
  package func laidOut(_ layout: PictureLayout) throws(Failure) -> LoadedModel {
    var (result, notes) = (self, [String]())
    try Pass.run(layout.passes, on: &result.prepared, notes: &notes)
    result.builder = builder.seeing(result.prepared.configuration.vision)
    return result
  }

  /// What the items' pictures come to, each file once; from their headers alone, and nothing of videos.
  package func extents(_ items: [Item], folder: String) throws(Failure) -> [SampleBuilder.Extent] {
    guard configuration.vision != nil else { return [] }
    var seen = Set<String>()
    return try items.flatMap(\.images).filter { seen.insert($0).inserted }.map { (name) throws(Failure) in
      let (width, height) = try Picture.size(path: Item.path(name, in: folder))
      return try builder.extent(width, height)
    }
  }

  /// Checks the name of a prompt before any work.
  package func check(prompt: String?) throws(Failure) {
    guard let prompt, !configuration.prompts.contains(where: { $0.name == prompt }) else { return }
    let known = configuration.prompts.map(\.name).joined(separator: ", ")
    throw Failure(.usage, "the model has no prompt \(Failure.quoted(prompt)); it has \(known.isEmpty ? "none" : known)")
  }

  /// Says how many inputs were cut. In a chat prompt that takes the token away which the embedding is made from.
  package func complain(ofCuts cut: Int, of count: Int) {
    guard cut > 0 else { return }
    let what = "\(cut) of \(count) items were longer than \(builder.maximumTokens) tokens and were cut"
    guard !builder.prefix.isEmpty else { return Output.note("note: \(what)") }
    Output.complain(
      "WARNING: \(what), the token that the embedding is taken from with them; as the authors' code does, but such "
        + "embeddings "
        + "are of little use: see --max-tokens")
  }

  // MARK: Embedding

  package struct Embedded {
    package var result: Result<[Float], Failure>
    /// What the item came to; 0 for one that is bad or was kept.
    package var tokens = 0
    /// Tokens left out because the item was too long.
    package var cut = 0

    /// Numbers that no index can hold are an error of the item.
    package var finite: Result<[Float], Failure> {
      guard case .success(let vector) = result, !vector.allSatisfy(\.isFinite) else { return result }
      return .failure(Failure(.malformed, "the model gives numbers that are not finite for it"))
    }
  }

  /// Items that are decoded and embedded at a time: pictures take much more memory than texts.
  package var itemsPerChunk: Int { configuration.vision == nil ? 1_024 : 32 }

  /// The items' samples, made in parallel.
  package func samples(_ items: [Item], prompt: String?, folder: String) -> [Result<SampleBuilder.Built, Failure>] {
    let results = Lock([Result<SampleBuilder.Built, Failure>?](repeating: nil, count: items.count))
    do throws(Failure) {
      try parallel(items.count, threads: threads) { task in
        let result: Result<SampleBuilder.Built, Failure>
        do throws(Failure) {
          result = .success(try builder.build(items[task], prompt: prompt, folder: folder))
        } catch { result = .failure(error) }
        results.withLock { $0[task] = result }
      }
    } catch { return items.map { _ in .failure(error) } }
    return results.withLock { $0.map { $0 ?? .failure(Failure(.internal, "an item was left out")) } }
  }

  /// One embedding for each item, or what is wrong with it.
  ///
  /// - Parameters:
  ///   - cache: where embeddings are kept, by what the item holds.
  ///   - progress: called with the number of items done so far.
  package func embed(
    _ items: [Item], prompt: String? = nil, folder: String, cache: VectorCache? = nil,
    progress: (Int) -> Void = { _ in }
  ) throws(Failure) -> [Embedded] {
    var embedded: [Embedded] = []
    for start in stride(from: 0, to: items.count, by: itemsPerChunk) {
      let chunk = Array(items[start..<min(start + itemsPerChunk, items.count)])
      embedded += try embedChunk(chunk, prompt, folder, cache) { progress(start + Int($0)) }
      progress(embedded.count)
    }
    return embedded
  }

  private func embedChunk(
    _ items: [Item], _ prompt: String?, _ folder: String, _ cache: VectorCache?, progress: (Double) -> Void
  ) throws(Failure) -> [Embedded] {
    var keys: [UInt64?] = items.map { _ in nil }
    var results: [Embedded?] = items.map { _ in nil }
    if let cache {
      for (index, item) in items.enumerated() {
        keys[index] = key(item, prompt, folder)
        results[index] = keys[index].flatMap { cache[$0] }.map { Embedded(result: .success($0)) }
      }
    }
    let open = items.indices.filter { results[$0] == nil }
    var samples: [Sample] = []
    var places: [Int] = []
    for (index, built) in zip(open, self.samples(open.map { items[$0] }, prompt: prompt, folder: folder)) {
      switch built {
      case .failure(let failure): results[index] = Embedded(result: .failure(failure))
      case .success(let built):
        results[index] = Embedded(result: .success([]), tokens: built.sample.ids.count, cut: built.cut)
        // Not kept, so that the next run says again that it was cut.
        if built.cut > 0 { keys[index] = nil }
        samples.append(built.sample)
        places.append(index)
      }
    }
    let done = Double(items.count - samples.count)
    let vectors = try embedder.embed(samples) { progress(done + $0) }
    for (row, index) in places.enumerated() {
      let vector = Array(vectors[row * embedder.width..<(row + 1) * embedder.width])
      results[index]?.result = .success(vector)
      if let key = keys[index] { cache?.add(key, vector) }
    }
    cache?.flush()
    return results.compactMap { $0 }
  }

  /// A hash of all that the item's embedding depends on; nil when a file of it cannot be read, or is none.
  private func key(_ item: Item, _ prompt: String?, _ folder: String) -> UInt64? {
    guard item.pictures.isEmpty else { return nil }
    var hash = XXH64()
    func add(_ bytes: [UInt8]) {
      withUnsafeBytes(of: bytes.count) { hash.update($0) }
      bytes.withUnsafeBytes { hash.update($0) }
    }
    add(identity)
    for text in [prompt, item.instruction, item.text] { add(text.map { [1] + Array($0.utf8) } ?? []) }
    add([UInt8(item.images.count & 255), item.video == nil ? 0 : 1])
    for name in item.images + (item.video.map { [$0] } ?? []) {
      guard let file = try? InputFile(Item.path(name, in: folder)) else { return nil }
      withUnsafeBytes(of: file.count) { hash.update($0) }
      do { try ByteView(file, 0, file.count).forEachChunk { (chunk) throws(Failure) in hash.update(chunk) } } catch {
        return nil
      }
    }
    return hash.value()
  }
}
