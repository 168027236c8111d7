import Bytes
import Inference
import Tensors

/// A model's tensors on the device, some of which change as training goes on.
package final class Weights {
  private let device: CPUDevice
  private var tensors: [TensorName: Tensor] = [:]
  private var buffers: [TensorName: DeviceBuffer] = [:]
  /// Tensors that are multiplied with and nothing else.
  private let linear: Set<TensorName>

  package init(_ model: Model, on device: CPUDevice) {
    self.device = device
    var (linear, others) = (Set<TensorName>(), Set<TensorName>())
    for node in model.graphs.flatMap(\.graph.nodes) {
      for (place, source) in node.inputs.enumerated() {
        guard case .tensor(let name) = source else { continue }
        tensors[name] = model[name]
        if case .linear = node.op, place == 1 { linear.insert(name) } else { others.insert(name) }
      }
    }
    self.linear = linear.subtracting(others)
  }

  package func replace(_ tensor: Tensor) {
    tensors[tensor.name] = tensor
    buffers[tensor.name] = nil
  }

  func buffer(_ name: TensorName) throws(Failure) -> DeviceBuffer {
    if let buffer = buffers[name] { return buffer }
    let buffer = try device.upload(try tensor(name), isLinear: linear.contains(name))
    buffers[name] = buffer
    return buffer
  }

  /// Decoded anew each time, so that no model is in memory as floats.
  func floats(_ name: TensorName) throws(Failure) -> Floats {
    let matrix = try tensor(name).matrix
    return Floats(rows: matrix.rows, columns: matrix.columns, try matrix.floats(threads: device.threads))
  }

  private func tensor(_ name: TensorName) throws(Failure) -> Tensor {
    guard let tensor = tensors[name] else { throw Failure(.internal, "the model lacks tensor \(name.quoted)") }
    return tensor
  }
}
