import Bytes
import Inference
import Tensors

extension GPUDevice {
  func attention(_ attention: Op.Attention, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let starts = try indices(inputs[3])
    let isSelf = inputs[0].rows == inputs[1].rows
    let width = attention.headWidth
    let coded = attention.input == .int8 ? Kernel.codedWidths.first { width <= $0 } : nil
    let isFlash = coded == nil && isSelf && Kernel.flashWidths.contains(width)
    guard coded != nil || isFlash || width <= Kernel.widestHead else {
      throw Failure(.unsupported, "heads of \(width) columns; the GPU's kernels take \(Kernel.widestHead) at most")
    }
    let spans = try starts.spans(
      .init(
        isSelf: isSelf, isForAll: inputs[0].rows == 1 && !isSelf, isCausal: attention.isCausal,
        window: attention.window, queries: coded != nil || isFlash ? 64 : 1))
    let (rows, columns) = (isSelf ? inputs[0].rows : starts.values.count - 1, inputs[0].columns)
    let result = try engine.allocate(rows * columns * 4)
    let group = Argument.int(attention.heads / attention.keyValueHeads)
    let grid = (spans.count, attention.heads)
    let biases = try distanceBiases(attention, inputs)
    // e^x is computed as 2^(x log2 e).
    let scale = Argument.float(Float(attention.scale * 1.4426950408889634))
    if let coded {
      let q = try value(inputs[0]).floats()
      let keys = try codes(attention, coded, starts, inputs)
      try engine.launch(
        .coded(coded), grid,
        [
          .memory(spans.memory), q.argument, .memory(keys.keys), .memory(keys.scales), .memory(keys.values),
          .memory(keys.means), .memory(result), .int(q.stride), .int(columns), group, .int(width),
          .int(inputs[1].columns), .int(keys.places), .float(Float(attention.scale) * 1.4426950408889634),
        ])
    } else if isFlash {
      func stride(_ place: Int) -> Argument { .int(Value.places(bfloat16: inputs[place].columns)) }
      func rounded(_ place: Int) throws(Failure) -> Argument { .memory(try value(inputs[place]).bfloat16()) }
      try engine.launch(
        .flash(width), grid,
        [
          .memory(spans.memory), try rounded(0), try rounded(1), try rounded(2), .memory(result), stride(0), stride(1),
          stride(2), .int(columns), group, scale,
        ] + (biases ?? [.null, .int(0)]))
    } else {
      let (q, k, v) = (try value(inputs[0]).floats(), try value(inputs[1]).floats(), try value(inputs[2]).floats())
      try engine.launch(
        .attentionAny, grid,
        [
          .memory(spans.memory), q.argument, k.argument, v.argument, .memory(result), .int(q.stride), .int(k.stride),
          .int(v.stride), .int(columns), group, scale, .int(width),
        ] + (biases ?? [.null, .int(0)]))
    }
    return value(rows, columns, Floats(memory: result, stride: columns))
  }

  /// Biases by distance `[heads, distances]`, times log2 e, and the largest distance, as the kernels take them; nil for
  /// attention without them.
  private func distanceBiases(_ attention: Op.Attention, _ inputs: [DeviceBuffer]) throws(Failure) -> [Argument]? {
    let starts = try indices(inputs[3])
    if attention.hasSlopes {
      let slopes = try starts.slopes(attention)
      return [.memory(slopes.memory), .int(slopes.most)]
    }
    guard let farthest = attention.farthest else { return nil }
    let biases = inputs[4]
    let distances = try starts.distances(.init(buckets: biases.rows, farthest: farthest))
    let result = try engine.allocate(biases.columns * distances.count * 4)
    try engine.launch(
      .distanceBiases, (biases.columns, 1),
      try weight(biases).encoded() + [.memory(distances.memory), .int(distances.count), .memory(result)])
    return [.memory(result), .int(distances.most)]
  }

  /// Keys `[places, heads, width up to 32s]` and values `[heads, width, places]` as codes, scales of keys `[heads,
  /// places]`, and of every stretch four rows of `[heads · width]`: means of keys and of values, scales of values and
  /// their inverses.
  private struct AttentionCodes {
    let keys, scales, values, means: Memory
    let places: Int
  }

  private func codes(
    _ attention: Op.Attention, _ coded: Int, _ starts: Indices, _ inputs: [DeviceBuffer]
  ) throws(Failure) -> AttentionCodes {
    let (k, v) = (try value(inputs[1]).floats(), try value(inputs[2]).floats())
    let stretches = try starts.keyStretches()
    let (columns, heads, width) = (inputs[1].columns, attention.keyValueHeads, attention.headWidth)
    let (wide, places) = ((coded + 31) / 32 * 32, stretches.places)
    let sums = try engine.allocate(stretches.chunks * 2 * columns * 8)
    let ends = try engine.allocate(stretches.chunks * 2 * columns * 4)
    let codes = AttentionCodes(
      keys: try engine.allocate(places * heads * wide), scales: try engine.allocate(heads * places * 4),
      values: try engine.allocate(columns * places), means: try engine.allocate(stretches.count * 4 * columns * 4),
      places: places)
    let rows: [Argument] = [k.argument, v.argument, .int(k.stride), .int(v.stride), .int(columns)]
    let (all, chunks) = (Argument.memory(stretches.memory), Argument.memory(stretches.chunkMemory))
    let blocks = Checked.ceilDivide(columns, 128)
    try engine.launch(
      .attentionSums, (stretches.chunks, blocks), [all, chunks] + rows + [.memory(sums), .memory(ends)])
    try engine.launch(
      .attentionMeans, (stretches.count, blocks),
      [all, .memory(sums), .memory(ends), .int(columns), .memory(codes.means)])
    try engine.launch(
      .attentionCodes, (stretches.chunks, heads),
      [all, chunks] + rows + [
        .int(width), .int(wide), .int(places), .memory(codes.means), .memory(codes.keys), .memory(codes.scales),
        .memory(codes.values),
      ])
    return codes
  }
}
