import Bytes
import Passes
import Tensors

/// What quantizing changes, from names and shapes alone.
package struct QuantizeSummary {
  package let before, after: Model
  package let bytesBefore, bytesAfter: Int
  /// What the model comes to in the files that it is for.
  package let target: (target: Target, bytes: Int, parts: [(choice: WeightChoice, count: Int, bytes: Int)])?
  /// Elements and stored bits of the tensors that become integers.
  package let weights, weightBits: Int

  package init(_ job: QuantizeJob) throws(Failure) {
    before = job.source.model
    after = job.model
    target = try job.targetFiles()
    let (before, after) = (before, after)
    let unused = Set(before.unused)
    bytesBefore = before.tensors.filter { !unused.contains($0.name) }.reduce(0) { $0 + $1.byteCount }
    bytesAfter = after.tensors.reduce(0) { $0 + $1.byteCount }
    let quantized = after.tensors.filter { tensor in
      !tensor.encoding.isPlain || tensor.encoding == .plain(.BF16) && before[tensor.name]?.encoding != tensor.encoding
    }
    weights = quantized.reduce(0) { $0 + $1.count }
    weightBits = quantized.reduce(0) { $0 + $1.byteCount * 8 }
  }

  package var bitsPerWeight: Double { weights > 0 ? Double(weightBits) / Double(weights) : 0 }

  /// Why an average is what it is, where weights differ: bits of each encoding and how much of the weights it has.
  package var breakdown: String {
    var kinds: [String: (count: Int, bytes: Int)] = [:]
    for tensor in after.tensors where !tensor.encoding.isPlain {
      kinds[tensor.encoding.text, default: (0, 0)].count += tensor.count
      kinds[tensor.encoding.text, default: (0, 0)].bytes += tensor.byteCount
    }
    guard kinds.count > 1 else { return "" }
    let parts = kinds.sorted { ($1.value.count, $0.key) < ($0.value.count, $1.key) }.prefix(4).map { name, kind in
      "\((Double(kind.bytes * 8) / Double(kind.count)).fixed(2)) in \(kind.count * 100 / max(1, weights)) % (\(name))"
    }
    return " (\(parts.joined(separator: ", ")))"
  }

  package var targetText: String? {
    target.map { target, bytes, parts in
      let count = parts.reduce(0) { $0 + $1.count }
      let average = Double(parts.reduce(0) { $0 + $1.bytes } * 8) / Double(max(1, count))
      let shares = parts.prefix(6).map { "\($0.choice.text) \(($0.count * 100 + count / 2) / max(1, count)) %" }
      return "\(bytes) bytes at most, \(average.fixed(2)) bits per weight (\(shares.joined(separator: ", ")))"
    }
  }

  private var targetJSON: [(String, JSONText)] {
    guard let target else { return [] }
    return [("for", .string(target.target.rawValue)), ("target_bytes", .int(target.bytes))]
  }

  /// What a dry run has to say.
  package func dryJSON(_ notes: [String], seconds: Double) -> JSONText {
    let members: [(String, JSONText)] = [
      ("bytes_before", .int(bytesBefore)), ("bytes_after", .int(bytesAfter)),
      ("bits_per_weight", .number(bitsPerWeight)), ("memory_bytes", .int(memory)), ("seconds", .number(seconds)),
      ("notes", .array(notes.map(JSONText.string))),
      (
        "tensors",
        .array(
          after.tensors.map {
            ["name": .string($0.name.text), "encoding": .string($0.encoding.text), "bytes": .int($0.byteCount)]
          })
      ),
    ]
    return .object(targetJSON + members)
  }

  /// Of working memory, about.
  package var memory: Int { (after.tensors.map { $0.byteCount }.max() ?? 0) + (64 << 20) }

  /// Measured on one quantized tensor of middling size, and scaled.
  package func estimate(threads: Int) throws(Failure) -> Double {
    let quantized = after.tensors.filter { if case .grouped = $0.encoding { true } else { false } }.sorted {
      $0.count < $1.count
    }
    guard let sample = quantized.isEmpty ? nil : quantized[quantized.count / 2] else { return 0 }
    let started = ContinuousClock.now
    _ = try sample.evaluate(threads: threads)
    let (seconds, attoseconds) = (ContinuousClock.now - started).components
    return (Double(seconds) + Double(attoseconds) / 1e18) * Double(weights) / Double(max(1, sample.count))
  }

  /// What was written.
  package func json(_ written: QuantizeJob.Written) -> JSONText {
    let members: [(String, JSONText)] = [
      ("file", .string(written.path)), ("file_bytes", .int(written.bytes)), ("bytes_before", .int(bytesBefore)),
      ("bytes_after", .int(bytesAfter)), ("bits_per_weight", .number(bitsPerWeight)),
      ("largest_relative_error", .number(written.worstError)), ("clamped", .int(written.clamped)),
      ("vanished_groups", .int(written.vanishedGroups)),
      ("seconds", .number(written.seconds)),
    ]
    return .object(targetJSON + members)
  }
}
