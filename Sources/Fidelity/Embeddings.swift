import Bytes
import CKernels

/// What a search ranks by.
public enum Metric: String, Sendable, CaseIterable {
  case cosine
  case innerProduct = "ip"
  /// Euclidean distance, the nearest first.
  case l2
}

/// Vectors of one width, in memory or in a file that is read block by block.
public struct Embeddings: Sendable {
  /// Columns of the rows that are given out.
  public let width: Int
  public let count: Int
  private let storage: Storage
  private var form = Form.stored

  private enum Storage: Sendable {
    case memory([Float])
    /// Row-major; Float16 where `isHalf`, Float32 otherwise.
    case file(ByteView, isHalf: Bool)
  }

  /// What is done to rows before they are given out, so that inner products rank as a metric does.
  private enum Form: Sendable {
    case stored
    /// Length 1; zero stays zero.
    case unit
    /// One more column: `q·d - ‖d‖² / 2` falls as the distance rises.
    case query, document
  }

  /// - Parameter values: `[count, width]`.
  public init(width: Int, values: [Float]) {
    precondition(width > 0 && values.count % width == 0, "whole rows")
    self.width = width
    count = values.count / width
    storage = .memory(values)
  }

  /// - Parameter bytes: Float32 or Float16 `[count, width]`.
  init(width: Int, count: Int, bytes: ByteView, isHalf: Bool) {
    precondition(bytes.count == count * width * (isHalf ? 2 : 4), "whole rows")
    self.width = width
    self.count = count
    storage = .file(bytes, isHalf: isHalf)
  }

  private init(_ other: Embeddings, _ form: Form) {
    (storage, count, self.form) = (other.storage, other.count, form)
    width = other.storedWidth + (form == .query || form == .document ? 1 : 0)
  }

  /// The same vectors so that inner products rank them as `metric` does.
  public func ranked(by metric: Metric, isQuery: Bool) -> Embeddings {
    switch metric {
    case .innerProduct: self
    case .cosine: Embeddings(self, .unit)
    case .l2: Embeddings(self, isQuery ? .query : .document)
    }
  }

  private var storedWidth: Int { form == .query || form == .document ? width - 1 : width }

  /// Some rows, `[rows.count, width]`.
  public func rows(_ rows: Range<Int>) throws(Failure) -> [Float] {
    let stored = try storedRows(rows)
    guard form != .stored else { return stored }
    let own = storedWidth
    var result: [Float] = []
    result.reserveCapacity(rows.count * width)
    for row in 0..<rows.count {
      let values = stored[row * own..<(row + 1) * own]
      let squares = values.reduce(0.0) { $0 + Double($1) * Double($1) }
      switch form {
      case .stored: result += values
      case .unit:
        let scale = squares > 0 ? Float(1 / squares.squareRoot()) : 0
        result += values.map { $0 * scale }
      case .query: result += values + [1]
      case .document: result += values + [Float(-squares / 2)]
      }
    }
    return result
  }

  private func storedRows(_ rows: Range<Int>) throws(Failure) -> [Float] {
    let width = storedWidth
    switch storage {
    case .memory(let values): return Array(values[rows.lowerBound * width..<rows.upperBound * width])
    case .file(let bytes, let isHalf):
      let size = isHalf ? 2 : 4
      let part = try Buffer(count: rows.count * width * size)
      try part.withMutableBytes { (target) throws(Failure) in
        try bytes.read(at: rows.lowerBound * width * size, into: target)
      }
      guard isHalf else { return part.array(of: Float.self) }
      var values = [Float](repeating: 0, count: rows.count * width)
      values.withUnsafeMutableBufferPointer { target in
        if let to = target.baseAddress { llv_f16_to_f32(part.start, to, target.count) }
      }
      return values
    }
  }

  /// Single rows, in the order asked for, `[places.count, width]`.
  public func rows(at places: [Int]) throws(Failure) -> [Float] {
    var result: [Float] = []
    result.reserveCapacity(places.count * width)
    for place in places { result += try rows(place..<place + 1) }
    return result
  }

  /// At most `most` rows, evenly spread.
  public func sample(_ most: Int) throws(Failure) -> Embeddings {
    count <= most ? self : Embeddings(width: width, values: try rows(at: Embeddings.spread(count, most)))
  }

  /// At most `most` of `count` places, evenly spread.
  static func spread(_ count: Int, _ most: Int) -> [Int] {
    count <= most ? Array(0..<count) : (0..<most).map { $0 * count / most }
  }
}

/// Rows that others are multiplied with, packed for the kernel: `a bᵀ`, the same bits whatever stands beside a row.
struct PackedRows: Sendable {
  let count: Int
  private let width: Int
  /// Panels `[width, LLV_PANEL]`.
  private let panels: [Float]
  private static let panel = Int(LLV_PANEL)

  /// - Parameter values: `[count, width]`.
  init(_ values: [Float], width: Int, threads: Int = 1) throws(Failure) {
    (self.width, count) = (width, values.count / width)
    let (count, size, panel) = (count, width * PackedRows.panel, PackedRows.panel)
    var panels = [Float](repeating: 0, count: Checked.ceilDivide(count, panel) * size)
    try panels.withUnsafeMutableBufferPointer { (target) throws(Failure) in
      try values.withUnsafeBufferPointer { (values) throws(Failure) in
        guard let to = target.baseAddress, let from = values.baseAddress else { return }
        let (shared, source) = (SharedPointer(to), SharedPointer(UnsafeMutablePointer(mutating: from)))
        try parallel(Checked.ceilDivide(count, panel), threads: threads) { place in
          llv_pack_panel_f32(
            source.pointer + place * size, width, min(panel, count - place * panel), width,
            shared.pointer + place * size)
        }
      }
    }
    self.panels = panels
  }

  /// Calls `body` with the products of some rows `[rows, width]` and each panel: `[rows, columns]`, rows `stride`
  /// apart.
  func products(
    with x: UnsafePointer<Float>, rows: Int,
    _ body: (_ first: Int, _ columns: Int, _ products: UnsafePointer<Float>, _ stride: Int) -> Void
  ) {
    let (panel, size) = (PackedRows.panel, width * PackedRows.panel)
    withUnsafeTemporaryAllocation(of: Float.self, capacity: rows * panel) { result in
      panels.withUnsafeBufferPointer { panels in
        guard let base = panels.baseAddress, let y = result.baseAddress else { return }
        for place in 0..<Checked.ceilDivide(count, panel) {
          var out = llv_output(bias: nil, steps: nil, step_count: 0, n: panel, y: y, stride: panel)
          llv_gemm_f32(x, width, rows, width, base + place * size, &out)
          body(place * panel, min(panel, count - place * panel), y, panel)
        }
      }
    }
  }

  /// All products of one row.
  func products(with x: UnsafePointer<Float>) -> [Float] {
    var all: [Float] = []
    all.reserveCapacity(count)
    products(with: x, rows: 1) { _, columns, products, _ in
      all += UnsafeBufferPointer(start: products, count: columns)
    }
    return all
  }
}
