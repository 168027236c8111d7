import Bytes
import CKernels
import Tensors

/// What a weight's elements may become: the codes, and which steps and zeros a group of them may have.
public struct Grid: Sendable, Equatable {
  public enum Steps: Sendable, Equatable {
    /// Any number of the type that scales are held in.
    case free
    /// Whole multiples of a scale of the row.
    case levels
    /// Whole multiples of a scale of a block of 256, as ggml has them.
    case blocks(BlockForm)
    /// Any number, and codes that are values of ggml's table of 16.
    case book
    /// Any step, and zeros that are whole codes.
    case wholeZeros
  }

  /// How the IR holds the result.
  public let integers: GroupedInteger
  /// Bits of a code; `integers` may have room for more.
  public let bits: Int
  public let steps: Steps

  /// - Returns: nil for what no encoding holds.
  init?(bits: Int, group: Int, form: WeightChoice.Form) {
    let held: (form: GroupedInteger.Form, scales: DType, steps: Steps) =
      switch form {
      case .symmetric: (.symmetric, .F16, .free)
      case .affine: (.affine, .F16, .free)
      case .twoLevel: (.twoLevel, .BF16, .levels)
      // A step in half precision times a whole code is exact in Float32.
      case .asymmetric: (.affine, .F32, .wholeZeros)
      }
    guard (2...8).contains(bits),
      let integers = GroupedInteger(
        bits: GroupedInteger.room(bits), groupSize: group, form: held.form, scaleType: held.scales)
    else { return nil }
    (self.integers, self.bits, steps) = (integers, bits, held.steps)
  }

  /// What an encoding holds where nothing else is asked.
  public init(_ integers: GroupedInteger) {
    (self.integers, bits) = (integers, integers.bits)
    steps = integers.form == .twoLevel ? .levels : .free
  }

  init(_ form: BlockForm) {
    guard case .grouped(let integers) = form.encoding else { preconditionFailure("every block form has groups") }
    (self.integers, bits) = (integers, form.bits)
    steps = form == .iq4NL ? .book : form.hasSuperBlocks ? .blocks(form) : .free
  }

  /// Whether codes are values of a table, not whole numbers in a range.
  public var isBook: Bool { steps == .book }
}

/// Finds steps and zeros of a grid's groups, one group of columns of several rows after the other. For one thread.
public final class StepFinder {
  private let grid: Grid
  private let columns: Int
  private let scratch: Buffer
  /// Scales above the steps and the zeros, for each row of the block at hand.
  private let above: Buffer
  private let rows: Int

  /// - Parameter rows: of a call at most.
  public init(_ grid: Grid, columns: Int, rows: Int) throws(Failure) {
    (self.grid, self.columns, self.rows) = (grid, columns, rows)
    scratch = try Buffer(count: 8 * grid.integers.groupSize * 4)
    above = try Buffer(count: 2 * rows * 4)
  }

  /// Leaves in `part` the steps and zeros of the group that starts at `column`.
  ///
  /// - Parameters:
  ///   - w: `[rows, columns]`.
  ///   - importance: `[columns]`, above 0: of each column's squared error.
  ///   - changes: whether weights change between groups, so that those that follow are searched again in their turn.
  public func find(
    at column: Int, in w: UnsafePointer<Float>, rows: Int, importance: UnsafePointer<Float>, changes: Bool,
    _ part: GroupedWriter.Part
  ) {
    let group = grid.integers.groupSize
    let span = spanWidth
    if let span, column % span == 0 {
      for first in stride(from: column, to: min(column + span, columns), by: group) {
        search(first, w, rows, importance, part)
      }
      findAbove(column, w, rows, part)
    } else if span == nil || changes {
      search(column, w, rows, importance, part)
    }
    snap(column, w, rows, importance, part)
  }

  /// Columns whose steps share what is above them; nil where nothing is.
  private var spanWidth: Int? {
    switch grid.steps {
    case .levels: columns
    case .blocks(let form): form.elements
    default: nil
    }
  }

  private var groups: Int { Checked.ceilDivide(columns, grid.integers.groupSize) }

  private func search(
    _ column: Int, _ w: UnsafePointer<Float>, _ rows: Int, _ importance: UnsafePointer<Float>,
    _ part: GroupedWriter.Part
  ) {
    let group = grid.integers.groupSize
    let (n, at) = (min(group, columns - column), column / group)
    scratch.with(Float.self) { scratch in
      if grid.steps == .book {
        llv_search_book(
          w + column, columns, rows, n, importance + column, scratch.baseAddress, part.scales + at, groups)
      } else {
        llv_search_steps(
          w + column, columns, rows, n, Int32(grid.bits), grid.integers.isAffine ? 1 : 0, importance + column,
          scratch.baseAddress, part.scales + at, part.zeros + at, groups)
      }
    }
  }

  private func findAbove(_ column: Int, _ w: UnsafePointer<Float>, _ rows: Int, _ part: GroupedWriter.Part) {
    let at = column / grid.integers.groupSize
    for row in 0..<rows {
      let scales = part.scales + row * groups
      guard case .blocks(let form) = grid.steps else {
        part.rowScales[row] = llv_row_scale(
          scales, part.zeros + row * groups, groups, Int32(grid.bits), w + row * columns, columns)
        continue
      }
      above.with(Float.self) { above in
        guard let above = above.baseAddress else { return }
        llv_block_scales(
          Int32(form.number), scales + at, part.zeros + row * groups + at, form.elements / form.groupSize, above + row,
          above + self.rows + row)
      }
    }
  }

  private func snap(
    _ column: Int, _ w: UnsafePointer<Float>, _ rows: Int, _ importance: UnsafePointer<Float>,
    _ part: GroupedWriter.Part
  ) {
    let group = grid.integers.groupSize
    let (n, at) = (min(group, columns - column), column / group)
    let (scales, zeros) = (part.scales + at, part.zeros + at)
    scratch.with(Float.self) { scratch in
      above.with(Float.self) { above in
        guard let scratch = scratch.baseAddress, let above = above.baseAddress else { return }
        switch grid.steps {
        case .free, .book: break
        case .levels:
          llv_snap_steps(
            w + column, columns, rows, n, importance + column, part.rowScales, 1, Int32(grid.bits), scratch, scales,
            zeros, groups)
        case .blocks(let form):
          llv_snap_block(
            Int32(form.number), w + column, columns, rows, n, importance + column, above, above + self.rows, 1, scratch,
            scales, zeros, groups)
        case .wholeZeros:
          llv_snap_whole(
            w + column, columns, rows, n, Int32(grid.bits), importance + column, scratch, scales, zeros, groups)
        }
      }
    }
  }
}
