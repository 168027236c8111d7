import Bytes
import CKernels
import Inference
import Tensors

/// Products: `x Wᵀ + b` with what follows.
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
}
