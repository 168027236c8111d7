import Bytes
import CKernels
import Inference
import Tensors

/// Products: `x Wᵀ + b` with what follows, and attention.
extension GPUDevice {
  func linear(
    _ input: Op.LinearInput, _ inputs: [DeviceBuffer], _ steps: [FollowingStep]
  ) throws(Failure) -> DeviceBuffer {
    let (x, weight) = (try value(inputs[0]), try weight(inputs[1]))
    let (rows, outputs) = (inputs[0].rows, inputs[1].rows)
    let bias = inputs.count > 2 ? try value(inputs[2]).floats() : nil
    // A kernel takes three steps; more than that are operations of their own.
    let following = try self.following(Array(steps.prefix(3)))
    let result = try engine.allocate(rows * outputs * 4)
    let isHopper = engine.card.capability == (9, 0)
    let kernel: Kernel
    var arguments: [Argument]
    if input == .int8, let integers = try weight.integers() {
      let codes = try x.codes(integers.form)
      kernel = integers.groups > 1 ? .gemmInt8Groups : isHopper ? .hopperInt8 : .gemmInt8
      arguments = [
        .memory(codes.codes), .memory(integers.codes), .memory(result), .int(rows), .int(outputs),
        .int(integers.form.places), .memory(codes.scales), .memory(codes.sums), .memory(integers.scales),
        .memory(integers.zeros), .int(integers.offset), .int(integers.groups),
        .int(integers.form.stripe),
      ]
    } else {
      kernel = isHopper ? .hopperBFloat16 : .gemmBFloat16
      arguments = [
        .memory(try x.bfloat16()), .memory(try weight.bfloat16()), .memory(result), .int(rows), .int(outputs),
        .int(Value.places(bfloat16: inputs[0].columns) * 2),
      ]
    }
    let tile = kernel.module == .hopper ? 256 : 128
    try engine.launch(
      kernel, (Checked.ceilDivide(outputs, tile), Checked.ceilDivide(rows, 128)),
      arguments + [bias?.argument ?? .null] + following)
    var buffer = value(rows, outputs, Floats(memory: result, stride: outputs))
    for step in steps.dropFirst(3) { buffer = try run(step.op, [buffer] + (step.other.map { [$0] } ?? []), then: []) }
    return buffer
  }

  /// Steps as the last arguments of a product.
  private func following(_ steps: [FollowingStep]) throws(Failure) -> [Argument] {
    var kinds = 0
    var others: [Argument] = []
    for (place, step) in steps.enumerated() {
      let kind =
        switch step.op {
        case .activation(let kind): Int(kind.kernel)
        case .add: Int(LLV_ADD)
        case .multiply: Int(LLV_MULTIPLY)
        default: throw Failure(.internal, "a step that cannot follow a product")
        }
      kinds |= kind << (8 * place)
      let other = try step.other.map { (other) throws(Failure) in try value(other).floats() }
      others += [other?.argument ?? .null, .int(step.other?.rows == 1 ? 0 : other?.stride ?? 0)]
    }
    while others.count < 6 { others += [.null, .int(0)] }
    return [.int(kinds)] + others
  }

  func attention(_ attention: Op.Attention, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let starts = try indices(inputs[3])
    let (q, k, v) = (try value(inputs[0]), try value(inputs[1]), try value(inputs[2]))
    let isSelf = inputs[0].rows == inputs[1].rows
    let width = attention.headWidth
    let rows = isSelf ? inputs[0].rows : starts.values.count - 1
    let isFlash = isSelf && Kernel.flashWidths.contains(width)
    guard isFlash || width <= Kernel.widestHead else {
      throw Failure(.unsupported, "heads of \(width) columns; the GPU's kernels take \(Kernel.widestHead) at most")
    }
    let spans = try starts.spans(
      .init(
        isSelf: isSelf, isForAll: inputs[0].rows == 1 && !isSelf, isCausal: attention.isCausal,
        queries: isFlash ? 64 : 1))
    let columns = inputs[0].columns
    let result = try engine.allocate(rows * columns * 4)
    let group = Argument.int(attention.heads / attention.keyValueHeads)
    // e^x is computed as 2^(x log2 e).
    let scale = Argument.float(Float(attention.scale * 1.4426950408889634))
    if isFlash {
      func stride(_ place: Int) -> Argument { .int(Value.places(bfloat16: inputs[place].columns)) }
      try engine.launch(
        .flash(width), (spans.count, attention.heads),
        [
          .memory(spans.memory), .memory(try q.bfloat16()), .memory(try k.bfloat16()), .memory(try v.bfloat16()),
          .memory(result), stride(0), stride(1), stride(2), .int(columns), group, scale,
        ])
    } else {
      let (q, k, v) = (try q.floats(), try k.floats(), try v.floats())
      try engine.launch(
        .attentionAny, (spans.count, attention.heads),
        [
          .memory(spans.memory), q.argument, k.argument, v.argument, .memory(result), .int(q.stride), .int(k.stride),
          .int(v.stride), .int(columns), group, scale, .int(width),
        ])
    }
    return value(rows, columns, Floats(memory: result, stride: columns))
  }
}
