import Bytes
import CKernels
import Tensors

/// The numbers that attention is computed with, and how keys and values of one head are packed for them.
protocol AttentionForm: Sendable {
  /// Bytes for `count` keys and their values.
  func bytes(_ count: Int) -> Int
  func pack(_ keys: Rows, _ values: Rows, _ count: Int, _ target: UnsafeMutableRawPointer)
  /// Bytes of scratch that a thread needs.
  var scratch: Int { get }
  /// `softmax(scale q keysᵀ + bias) values` for `count` rows over stretches of packed keys, each with how many they
  /// are.
  func attend(
    _ q: Rows, count: Int, scale: Float, to stretches: [(UnsafeMutableRawPointer, Int)], _ sight: llv_sight,
    _ scratch: UnsafeMutableRawPointer, _ result: Rows)
}

struct FloatAttention: AttentionForm {
  let width: Int
  private static let panel = Int(LLV_PANEL)

  private func panels(_ count: Int) -> Int { Checked.ceilDivide(count, FloatAttention.panel) * FloatAttention.panel }
  /// Panels of keys, then panels of the values' columns.
  func bytes(_ count: Int) -> Int { (panels(count) * width + count * panels(width)) * 4 }
  private func values(_ packed: UnsafeMutablePointer<Float>, _ count: Int) -> UnsafeMutablePointer<Float> {
    packed + panels(count) * width
  }

  func pack(_ keys: Rows, _ values: Rows, _ count: Int, _ target: UnsafeMutableRawPointer) {
    let panel = FloatAttention.panel
    let floats = target.assumingMemoryBound(to: Float.self)
    for first in stride(from: 0, to: count, by: panel) {
      llv_pack_panel_f32(keys[first], keys.stride, min(panel, count - first), width, floats + first * width)
    }
    var to = self.values(floats, count)
    for column in stride(from: 0, to: width, by: panel) {
      let columns = min(panel, width - column)
      for token in 0..<count {
        to.update(from: values[token] + column, count: columns)
        if columns < panel { (to + columns).update(repeating: 0, count: panel - columns) }
        to += panel
      }
    }
  }

  var scratch: Int { llv_attention_scratch(width) * 4 }

  func attend(
    _ q: Rows, count: Int, scale: Float, to stretches: [(UnsafeMutableRawPointer, Int)], _ sight: llv_sight,
    _ scratch: UnsafeMutableRawPointer, _ result: Rows
  ) {
    let parts = stretches.map { packed, keys in
      let floats = packed.assumingMemoryBound(to: Float.self)
      return llv_attention_keys(keys: UnsafePointer(floats), values: UnsafePointer(values(floats, keys)), count: keys)
    }
    llv_attention(
      parts, parts.count, q.base, q.stride, count, width, scale, sight, scratch.assumingMemoryBound(to: Float.self),
      result.base, result.stride)
  }
}

struct IntegerAttention: AttentionForm {
  let width: Int

  func bytes(_ count: Int) -> Int { llv_attention_int8_bytes(count, width) }

  func pack(_ keys: Rows, _ values: Rows, _ count: Int, _ target: UnsafeMutableRawPointer) {
    llv_pack_attention_int8(keys.base, keys.stride, values.base, values.stride, count, width, target)
  }

  var scratch: Int { llv_attention_int8_scratch(width) }

  func attend(
    _ q: Rows, count: Int, scale: Float, to stretches: [(UnsafeMutableRawPointer, Int)], _ sight: llv_sight,
    _ scratch: UnsafeMutableRawPointer, _ result: Rows
  ) {
    let parts = stretches.map { llv_attention_codes(packed: UnsafeRawPointer($0), count: $1) }
    llv_attention_int8(
      parts, parts.count, q.base, q.stride, count, width, scale, sight, scratch, result.base, result.stride)
  }
}
