import Glibc
import Tensors

extension ReferenceDevice {
  /// Attention by 8-bit codes, from its definition: codes by Float32 arithmetic, everything around them exactly.
  static func attendByIntegers(
    _ attention: Op.Attention, _ q: [[Double]], _ k: [[Double]], _ v: [[Double]], _ starts: [Int]
  ) -> [[Double]] {
    let width = attention.headWidth
    let spans = zip(starts, starts.dropFirst()).map { $0..<$1 }
    let prefix = 0..<starts[0]
    var result = q.count == k.count ? q : [[Double]](repeating: q[0], count: spans.count)
    for head in 0..<attention.heads {
      let own = head * width..<(head + 1) * width
      let shared = head / (attention.heads / attention.keyValueHeads) * width
      func stretch(_ tokens: Range<Int>) -> Stretch {
        Stretch(
          keys: k[tokens].map { Array($0[shared..<shared + width]) },
          values: v[tokens].map { Array($0[shared..<shared + width]) })
      }
      let common = prefix.isEmpty ? [] : [stretch(prefix)]
      /// - Parameter place: the query's among all keys; nil where it sees them all.
      func attend(_ query: [Double], at place: Int?, _ stretches: [Stretch]) -> [Double] {
        var (base, seen) = (0, [(Stretch, [Int])]())
        for stretch in stretches {
          let keys = Array(stretch.keys.indices)
          seen.append((stretch, place.map { ReferenceDevice.seen(attention, by: $0 - base, keys) } ?? keys))
          base += keys.count
        }
        return attendByIntegers(query[own].map { Float($0) * (Float(attention.scale) * Float(M_LOG2E)) }, seen)
      }
      for (index, span) in ((q.count == k.count && !prefix.isEmpty ? [prefix] : []) + spans).enumerated() {
        let keys = stretch(span)
        let before = span == prefix ? [] : common
        guard q.count == k.count else {
          result[index].replaceSubrange(own, with: attend(q[q.count == 1 ? 0 : index], at: nil, before + [keys]))
          continue
        }
        for row in span {
          let place = row - span.lowerBound + (before.isEmpty ? 0 : prefix.count)
          result[row].replaceSubrange(own, with: attend(q[row], at: place, before + [keys]))
        }
      }
    }
    return result
  }

  /// Codes of numbers that share a scale, `max |x| / 127`, and that scale.
  private static func codes(_ values: [Float]) -> (codes: [Double], scale: Double) {
    let most = values.map(abs).max() ?? 0
    let inverse = most > 0 ? 127 / most : 0
    return (values.map { Double(($0 * inverse).rounded(.toNearestOrEven)) }, Double(most / 127))
  }

  /// Keys and values of one head, without their means, as codes.
  private struct Stretch {
    let keyMean, valueMean: [Double]
    let keys: [(codes: [Double], scale: Double)]
    /// By columns.
    let values: [(codes: [Double], scale: Double)]

    init(keys given: [[Double]], values: [[Double]]) {
      func mean(_ rows: [[Double]]) -> [Float] {
        rows[0].indices.map { column in Float(rows.reduce(0) { $0 + $1[column] } / Double(rows.count)) }
      }
      let (keyMean, valueMean) = (mean(given), mean(values))
      keys = given.map { row in codes(zip(row, keyMean).map { Float($0) - $1 }) }
      self.values = valueMean.indices.map { column in codes(values.map { Float($0[column]) - valueMean[column] }) }
      (self.keyMean, self.valueMean) = (keyMean.map { Double($0) }, valueMean.map { Double($0) })
    }
  }

  /// - Parameter stretches: each with those of its keys that are seen.
  private static func attendByIntegers(_ query: [Float], _ stretches: [(Stretch, [Int])]) -> [Double] {
    let (codes, scale) = codes(query)
    // Of every block of 256 keys: its largest score, the sum of weights, the sum of values, relative to it.
    var blocks: [(most: Double, sum: Double, values: [Double])] = []
    for (stretch, seen) in stretches {
      let scores = stretch.keys.map { key in
        zip(codes, key.codes).reduce(0) { $0 + $1.0 * $1.1 } * scale * key.scale
          + zip(query, stretch.keyMean).reduce(0) { $0 + Double($1.0) * $1.1 }
      }
      for (_, block) in Dictionary(grouping: seen, by: { $0 / 256 }).sorted(by: { $0.key < $1.key }) {
        let most = block.map { scores[$0] }.max() ?? 0
        let weights = block.map { 127 * exp2(scores[$0] - most) }
        let sum = weights.reduce(0, +)
        let values = query.indices.map { column in
          zip(weights, block).reduce(0) {
            $0 + $1.0.rounded(.toNearestOrEven) * stretch.values[column].codes[$1.1]
          } * stretch.values[column].scale + sum * stretch.valueMean[column]
        }
        blocks.append((most, sum, values))
      }
    }
    let most = blocks.map(\.most).max() ?? 0
    let sum = blocks.reduce(0) { $0 + $1.sum * exp2($1.most - most) }
    return query.indices.map { column in
      blocks.reduce(0) { $0 + $1.values[column] * exp2($1.most - most) } / sum
    }
  }
}
