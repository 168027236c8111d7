import Bytes
import Tensors

/// What a tensor's values look like.
struct Statistics {
  var least = Double.infinity
  var most = -Double.infinity
  var mean = 0.0
  var deviation = 0.0
  var nans = 0
  var infinities = 0
  var isNumeric = true

  init(_ tensor: Tensor, threads: Int) throws(Failure) {
    let isWeight = if case .plain(let type) = tensor.encoding { type.isWeight } else { true }
    guard isWeight else {
      _ = try tensor.load(threads: threads)
      isNumeric = false
      return
    }
    let values = try tensor.floats(threads: threads)
    let (sum, squares, count) = values.with(Float.self) { values in
      var (sum, squares, count) = (0.0, 0.0, 0)
      for value in values.prefix(tensor.count) {
        guard value.isFinite else {
          if value.isNaN { nans += 1 } else { infinities += 1 }
          continue
        }
        let x = Double(value)
        least = min(least, x)
        most = max(most, x)
        sum += x
        squares += x * x
        count += 1
      }
      return (sum, squares, Double(count))
    }
    mean = count > 0 ? sum / count : .nan
    deviation = count > 0 ? max(0, squares / count - mean * mean).squareRoot() : .nan
  }

  var json: JSONText {
    guard isNumeric else { return .null }
    return [
      "min": .number(least), "max": .number(most), "mean": .number(mean), "deviation": .number(deviation),
      "nan": .int(nans),
      "infinite": .int(infinities),
    ]
  }

  var text: String {
    guard isNumeric else { return "" }
    let bad = nans + infinities > 0 ? ", \(nans) NaN, \(infinities) infinite" : ""
    return "\(least.fixed(4)) … \(most.fixed(4)), mean \(mean.fixed(5)) ± \(deviation.fixed(4))\(bad)"
  }
}
