import Bytes
import GPU
import Inference

/// Where a model runs: `cpu`, `gpu`, or `gpu:1` for the driver's second.
package enum DeviceChoice: Sendable, Hashable {
  case cpu
  case gpu(Int)

  package init(_ text: String) throws(Failure) {
    switch text {
    case "cpu": self = .cpu
    case "gpu": self = .gpu(0)
    default:
      guard text.hasPrefix("gpu:"), let index = Int(text.dropFirst(4)), (0..<64).contains(index) else {
        throw Failure(.usage, "--device is cpu, gpu or gpu:NUMBER; found \(Failure.quoted(text))")
      }
      self = .gpu(index)
    }
  }

  package var name: String {
    switch self {
    case .cpu: "cpu"
    case .gpu(let index): "gpu:\(index)"
    }
  }

  /// Several, separated by commas.
  package static func list(_ text: String) throws(Failure) -> [DeviceChoice] {
    var choices: [DeviceChoice] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      choices.append(try DeviceChoice(String(part)))
    }
    guard Set(choices).count == choices.count else { throw Failure(.usage, "--device names a device twice") }
    return choices
  }

  /// The device, and bytes of weights that it keeps when nobody says otherwise.
  package func open(threads: Int) throws(Failure) -> (device: any Device, memory: Int) {
    switch self {
    case .cpu: return (CPUDevice(threads: threads), Embedder.defaultMemory)
    case .gpu(let index):
      let device = try GPUDevice(Driver.installed(), index: index)
      return (device, try device.defaultMemory())
    }
  }
}

extension Device {
  /// What it is, for people.
  package var shown: String { (self as? GPUDevice)?.card.name ?? CPUDevice.instructions }

  /// For keys of kept embeddings: no embedding depends on the processor.
  package var identity: String { (self as? GPUDevice)?.card.name ?? name }
}
