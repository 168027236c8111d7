import Bytes
import CKernels
import COpenBLAS
import Tensors

extension CPUDevice {
  /// Each sequence and head is a task of its own, with products whose sizes depend on that sequence alone.
  func attention(_ attention: Op.Attention, _ inputs: [DeviceBuffer]) throws(Failure) -> DeviceBuffer {
    let starts = try indices(inputs[3])
    let (q, k, v) = (try value(inputs[0]), try value(inputs[1]), try value(inputs[2]))
    let (width, shared) = (inputs[0].columns, inputs[1].columns)
    let (result, buffer) = try make(inputs[0].rows, width)
    try q.withFloats { (q) throws(Failure) in
      try k.withFloats { (k) throws(Failure) in
        try v.withFloats { (v) throws(Failure) in
          try buffer.withFloats { (out) throws(Failure) in
            try parallel((starts.count - 1) * attention.heads, threads: threads) { (task) throws(Failure) in
              let (sequence, head) = (task / attention.heads, task % attention.heads)
              let first = starts[sequence]
              let column = head * attention.headWidth
              let sharedColumn = head / (attention.heads / attention.keyValueHeads) * attention.headWidth
              try CPUDevice.head(
                attention, count: starts[sequence + 1] - first, q: q + (first * width + column), width: width,
                k: k + (first * shared + sharedColumn), v: v + (first * shared + sharedColumn), shared: shared,
                out: out + (first * width + column))
            }
          }
        }
      }
    }
    return result
  }

  /// One head of one sequence. q, out `[count, headWidth]` in rows `width` apart; k, v in rows `shared` apart.
  private static func head(
    _ attention: Op.Attention, count: Int, q: UnsafePointer<Float>, width: Int, k: UnsafePointer<Float>,
    v: UnsafePointer<Float>, shared: Int, out: UnsafeMutablePointer<Float>
  ) throws(Failure) {
    let (n, d) = (Int32(count), Int32(attention.headWidth))
    guard let elements = Checked.multiply(count, count), let size = Checked.multiply(elements, 4) else {
      throw Failure(.limit, "a sequence of \(count) tokens is too long")
    }
    let scores = try Buffer(count: size)  // [count, count]
    try scores.withFloats { (scores) throws(Failure) in
      cblas_sgemm(
        CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d, Float(attention.scale), q, Int32(width), k, Int32(shared), 0,
        scores.base, n)
      for row in 0..<count {
        let line = scores + row * count
        let seen = attention.isCausal ? row + 1 : count
        llv_softmax(line, seen)
        (line + seen).update(repeating: 0, count: count - seen)
      }
      cblas_sgemm(
        CblasRowMajor, CblasNoTrans, CblasNoTrans, n, d, n, 1, scores.base, n, v, Int32(shared), 0, out, Int32(width))
    }
  }
}
