import Bytes
import Tensors

/// One graph of a model on a device. Weights stay on the device where they fit, and otherwise come and go segment by
/// segment while all batches pass through it.
struct GraphRunner: Sendable {
  let graph: Graph
  private let model: Model
  private let device: any Device
  private let schedule: Schedule
  private let profile: Profile?
  /// Who is shown the inputs of linear operations.
  var observer: (any LinearObserver)?
  /// All weights, where they are kept.
  private let resident: [TensorName: DeviceBuffer]?

  /// What belongs to one batch: its inputs, and results that are still needed.
  struct State {
    var inputs: [Graph.Input: DeviceBuffer]
    /// Whether each token stands for a part of a picture, for an observer.
    var isPicture: [Bool] = []
    var results: [DeviceBuffer?] = []
  }

  /// - Parameter isFine: whether segments are as short as they can be.
  init(
    _ graph: Graph, of model: Model, on device: any Device, isResident: Bool, isFine: Bool = false,
    profile: Profile? = nil
  ) throws(Failure) {
    self.graph = graph
    self.model = model
    self.device = device
    self.profile = profile
    schedule = try Schedule(
      graph, of: model, splitsLinear: device is any RowDevice, segmentBytes: isFine ? 0 : Schedule.segmentBytes)
    resident = isResident ? try GraphRunner.upload(graph.nodes, of: model, to: device) : nil
  }

  /// The same graph of a model that differs in a few tensors alone; the others' places on the device are shared.
  init(_ other: GraphRunner, _ graph: Graph, of model: Model, changed: Set<TensorName>) throws(Failure) {
    self.graph = graph
    self.model = model
    device = other.device
    profile = other.profile
    schedule = try Schedule(
      graph, of: model, splitsLinear: device is any RowDevice, segmentBytes: other.schedule.segmentBytes)
    guard schedule.segments.count == other.schedule.segments.count else {
      throw Failure(.internal, "a model of other segments")
    }
    if let shared = other.resident {
      let own = try GraphRunner.upload(graph.nodes, of: model, to: device) { shared[$0] == nil || changed.contains($0) }
      resident = shared.merging(own) { $1 }
    } else {
      resident = nil
    }
  }

  /// Bytes of all tensors that a graph reads.
  static func weightBytes(_ graph: Graph, _ model: Model) -> Int {
    graph.tensors.reduce(0) { $0 + (model[$1]?.byteCount ?? 0) }
  }

  private static func tensor(_ name: TensorName, _ model: Model) throws(Failure) -> Tensor {
    guard let tensor = model[name] else { throw Failure(.internal, "the model lacks tensor \(name.quoted)") }
    return tensor
  }

  private static func upload(
    _ nodes: [Graph.Node], of model: Model, to device: any Device, where isWanted: (TensorName) -> Bool = { _ in true }
  ) throws(Failure) -> [TensorName: DeviceBuffer] {
    // What is multiplied with and nothing else: a table may be tied to a weight.
    var isLinear: [TensorName: Bool] = [:]
    for node in nodes {
      for (place, source) in node.inputs.enumerated() {
        guard case .tensor(let name) = source else { continue }
        let isWeight = if case .linear = node.op { place == 1 } else { false }
        isLinear[name] = isWeight && isLinear[name] ?? true
      }
    }
    let wanted = isLinear.filter { isWanted($0.key) }.sorted { $0.key.text < $1.key.text }
    let weights = Lock<[TensorName: DeviceBuffer]>([:])
    // What a processor does with a weight that lies ready is to check it: several at a time.
    try parallel(wanted.count, threads: (device as? CPUDevice)?.threads ?? 1) { (place) throws(Failure) in
      let (name, isLinear) = wanted[place]
      let buffer = try device.upload(try tensor(name, model), isLinear: isLinear)
      weights.withLock { $0[name] = buffer }
    }
    return weights.withLock { $0 }
  }

  // MARK: Running

  var segmentCount: Int { schedule.segments.count }
  var types: [ValueType] { schedule.types }

  /// Weights of linear operations and token tables that a segment reads, in order.
  func weights(of segment: Int) -> [TensorName] {
    var seen = Set<TensorName>()
    return schedule.steps[schedule.segments[segment].steps].compactMap { step in
      let place: Int
      switch step.op {
      case .linear: place = 1
      case .embedding: place = 0
      default: return nil
      }
      guard case .tensor(let name) = step.inputs[place], seen.insert(name).inserted else { return nil }
      return name
    }
  }

  /// Runs every batch through one segment; between segments a batch carries one result. `tokens` are the ids of each
  /// batch, for tables that are not held.
  func run(segment number: Int, _ states: inout [State], tokens: [[Int32]]) throws(Failure) {
    let segment = schedule.segments[number]
    let weights = if let resident { resident } else { try load(segment) }
    for index in states.indices {
      if states[index].results.isEmpty {
        states[index].results = [DeviceBuffer?](repeating: nil, count: graph.nodes.count)
      }
      for region in segment.regions {
        try run(region, &states[index], weights, index < tokens.count ? tokens[index] : [])
      }
    }
  }

  /// What the last segment left.
  func output(of state: State) throws(Failure) -> DeviceBuffer {
    guard let output = state.results[graph.output] else { throw Failure(.internal, "the graph gave no result") }
    return output
  }

  private func load(_ segment: Schedule.Segment) throws(Failure) -> [TensorName: DeviceBuffer] {
    let nodes = schedule.steps[segment.steps].map { Graph.Node($0.op, $0.sources) }
    return try GraphRunner.upload(nodes.filter { !isTable($0) }, of: model, to: device)
  }

  /// Whether a node looks up token ids, of which a batch has few in a table of many.
  private func isTable(_ node: Graph.Node) -> Bool { node.op.isEmbedding && node.inputs[1] == .input(.tokens) }

  private func run(
    _ region: Schedule.Region, _ state: inout State, _ weights: [TensorName: DeviceBuffer], _ tokens: [Int32]
  ) throws(Failure) {
    if let kind = region.rows, let device = device as? any RowDevice,
      let rows = rowCount(kind, region, state), rows > 0,
      case let part = rowsAtATime(rows, on: device), rows > part
    {
      return try run(region, kind, rows, part, device, &state, weights)
    }
    for step in schedule.steps[region.steps] {
      if resident == nil, isTable(.init(step.op, step.inputs)), case .tensor(let name) = step.inputs[0] {
        var inputs = try self.rows(of: name, for: tokens)
        for source in step.inputs.dropFirst(2) { inputs.append(try buffer(source, state, weights, step.node)) }
        state.results[step.node] = try device.run(step.op, inputs)
      } else {
        let result = try run(step, state.isPicture[...]) { (source) throws(Failure) in
          try buffer(source, state, weights, step.node)
        }
        state.results[step.node] = result
      }
      for done in step.done { state.results[done] = nil }
    }
  }

  /// How many of so many rows the device works on at a time: equal parts of all, each no more than it wants.
  private func rowsAtATime(_ rows: Int, on device: any RowDevice) -> Int {
    let most = device.rowsAtATime(columns: schedule.types.map(\.columns).max() ?? 1)
    let tile = 48  // of which all kernels' tiles are parts
    return min(most, Checked.ceilDivide(Checked.ceilDivide(rows, Checked.ceilDivide(rows, most)), tile) * tile)
  }

  /// Rows of a region's results: those of any input of the same kind.
  private func rowCount(_ kind: ValueType.Rows, _ region: Schedule.Region, _ state: State) -> Int? {
    for source in schedule.steps[region.steps].lazy.flatMap(\.sources) where type(of: source)?.rows == kind {
      switch source {
      case .node(let node): if let rows = state.results[node]?.rows { return rows }
      case .input(let input): if let rows = state.inputs[input]?.rows { return rows }
      case .tensor: continue
      }
    }
    return nil
  }

  private func type(of source: Graph.Source) -> ValueType? {
    switch source {
    case .node(let node): schedule.types[node]
    case .input(let input): model.configuration.type(of: input)
    case .tensor: nil
    }
  }

  /// A region on some rows at a time: only what is read after it is ever there as a whole.
  private func run(
    _ region: Schedule.Region, _ kind: ValueType.Rows, _ rows: Int, _ part: Int, _ device: any RowDevice,
    _ state: inout State, _ weights: [TensorName: DeviceBuffer]
  ) throws(Failure) {
    var results: [Int: DeviceBuffer] = [:]
    for node in region.results { results[node] = try device.make(rows: rows, columns: schedule.types[node].columns) }
    for first in stride(from: 0, to: rows, by: part) {
      let range = first..<min(rows, first + part)
      var parts: [Graph.Source: DeviceBuffer] = [:]
      for step in schedule.steps[region.steps] {
        for source in step.sources where parts[source] == nil {
          let whole = try buffer(source, state, weights, step.node)
          parts[source] = type(of: source)?.rows == kind ? try device.rows(range, of: whole) : whole
        }
        var target: DeviceBuffer?
        if let result = results[step.node] { target = try device.rows(range, of: result) }
        let isPicture = kind == .tokens && !state.isPicture.isEmpty ? state.isPicture[range] : []
        let part = try run(step, isPicture, into: target, on: device) { (source) throws(Failure) in
          guard let part = parts[source] else { throw Failure(.internal, "an input of node \(step.node) is missing") }
          return part
        }
        parts[.node(step.node)] = part
        for done in step.done { parts[.node(done)] = nil }
      }
    }
    for (node, result) in results { state.results[node] = result }
    for step in schedule.steps[region.steps] { for done in step.done { state.results[done] = nil } }
  }

  private func run(
    _ step: Schedule.Step, _ isPicture: ArraySlice<Bool>, into target: DeviceBuffer? = nil,
    on rowDevice: (any RowDevice)? = nil,
    _ value: (Graph.Source) throws(Failure) -> DeviceBuffer
  ) throws(Failure) -> DeviceBuffer {
    var inputs: [DeviceBuffer] = []
    for source in step.inputs { inputs.append(try value(source)) }
    // Steps for other outputs of the same weight have the same input.
    if let observer, case .linear = step.op, case .tensor(let name) = step.inputs[1], step.outputs?.lowerBound ?? 0 == 0
    {
      let rows = inputs[0].rows
      try observer.sees(
        name, try device.download(inputs[0]), rows: rows, columns: inputs[0].columns,
        isPicture: isPicture.count == rows ? isPicture : [])
    }
    if let outputs = step.outputs, let device = device as? any RowDevice {
      for place in 1..<inputs.count { inputs[place] = try device.outputs(outputs, of: inputs[place]) }
    }
    var following: [FollowingStep] = []
    for (op, other) in step.following {
      if let other { following.append(.init(op, try value(other))) } else { following.append(.init(op)) }
    }
    let profile = self.profile.flatMap { $0.isPaused ? nil : $0 }
    let start = profile?.now
    let result =
      if let rowDevice {
        try rowDevice.run(step.op, inputs, then: following, into: target)
      } else {
        try device.run(step.op, inputs, then: following)
      }
    if let profile, let start {
      try device.finish()
      profile.add(step, inputs, result, from: start)
    }
    return result
  }

  private func buffer(
    _ source: Graph.Source, _ state: State, _ weights: [TensorName: DeviceBuffer], _ index: Int
  ) throws(Failure) -> DeviceBuffer {
    let buffer =
      switch source {
      case .node(let earlier): state.results[earlier]
      case .tensor(let name): weights[name]
      case .input(let input): state.inputs[input]
      }
    guard let buffer else { throw Failure(.internal, "an input of graph node \(index) is missing") }
    return buffer
  }

  /// The rows of a table that a batch needs, and its ids counted among them.
  private func rows(of name: TensorName, for ids: [Int32]) throws(Failure) -> [DeviceBuffer] {
    let table = try GraphRunner.tensor(name, model)
    let needed = Set(ids.lazy.filter { $0 >= 0 }).sorted()
    if let bad = needed.last, Int(bad) >= table.rows {
      throw Failure(.malformed, "index \(bad) has no row; the table has \(table.rows)", thing: "tensor \(name.quoted)")
    }
    var places: [Int32: Int32] = [:]
    for (place, id) in needed.enumerated() { places[id] = Int32(place) }
    // A batch of pictures alone still needs a table to look nothing up in.
    let rows = needed.isEmpty ? [0] : needed.map(Int.init)
    return [
      try device.upload(try table.gathered(rows: rows)), try device.upload(indices: ids.map { places[$0] ?? $0 }),
    ]
  }
}

extension Device {
  /// Whole numbers, row by row.
  public func upload(indices: [Int32], columns: Int = 1) throws(Failure) -> DeviceBuffer {
    let shape = columns == 1 ? [indices.count] : [indices.count / columns, columns]
    return try upload(Tensor("batch", shape: shape, encoding: .plain(.I32), content: .bytes(try .init(indices))))
  }

  func upload(pixels: [UInt8], columns: Int) throws(Failure) -> DeviceBuffer {
    try upload(
      Tensor(
        "batch", shape: [pixels.count / columns, columns], encoding: .plain(.U8), content: .bytes(try .init(pixels))))
  }
}

extension ByteView {
  fileprivate init<T: BitwiseCopyable>(_ elements: [T]) throws(Failure) {
    let buffer = try Buffer(count: elements.count * MemoryLayout<T>.stride)
    buffer.with(T.self) { _ = $0.update(fromContentsOf: elements) }
    self.init(buffer)
  }
}
