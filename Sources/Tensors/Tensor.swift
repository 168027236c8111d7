import Bytes

/// A named array: shape, encoding, and bytes that are read, decoded or computed when somebody asks. A value.
public struct Tensor: Sendable {
  public let name: TensorName
  /// Outermost dimension first; empty for a scalar.
  public let shape: [Int]
  public let encoding: Encoding
  public let content: Content

  public enum Content: Sendable {
    case bytes(ByteView)
    case stored(StoredBytes)
    /// Bytes in the order of `PanelOrder`.
    case panels(StoredBytes)
    case computed(Computation)
    /// Float32, computed row by row from rows of other tensors.
    case rows(@Sendable (_ threads: Int) throws(Failure) -> RowReader)
  }

  /// Work that makes a tensor's bytes, done each time it is asked for and held by nobody. Passes make these, so that a
  /// model never has to be in memory as a whole.
  public struct Computation: Sendable {
    let run: @Sendable (_ threads: Int) throws(Failure) -> (Buffer, TensorLoss?)

    public init(_ run: @escaping @Sendable (_ threads: Int) throws(Failure) -> (Buffer, TensorLoss?)) { self.run = run }
  }

  public init(_ name: TensorName, shape: [Int], encoding: Encoding, content: Content) {
    self.name = name
    self.shape = shape
    self.encoding = encoding
    self.content = content
  }

  public init(_ name: TensorName, floats: [Float], shape: [Int]) throws(Failure) {
    precondition(shape.reduce(1, *) == floats.count, "as many values as the shape has places")
    let buffer = try Buffer(count: floats.count * 4)
    buffer.with(Float.self) { _ = $0.update(fromContentsOf: floats) }
    self.init(name, shape: shape, encoding: .plain(.F32), content: .bytes(ByteView(buffer)))
  }

  public func renamed(_ name: TensorName) -> Tensor {
    Tensor(name, shape: shape, encoding: encoding, content: content)
  }

  /// Elements, 1 for a scalar. The invariants hold that this does not overflow.
  public var count: Int { shape.reduce(1, *) }

  public var byteCount: Int { encoding.byteCount(shape) ?? 0 }

  /// Product of all dimensions but the last.
  public var rows: Int { shape.dropLast().reduce(1, *) }

  /// The last dimension, 1 for a scalar.
  public var columns: Int { shape.last ?? 1 }

  /// The tensor's bytes in its encoding.
  public func load(threads: Int = availableThreads) throws(Failure) -> Buffer { try evaluate(threads: threads).bytes }

  /// The tensor's bytes, and what was lost where they were computed with loss.
  public func evaluate(threads: Int = availableThreads) throws(Failure) -> (bytes: Buffer, loss: TensorLoss?) {
    do throws(Failure) {
      switch content {
      case .bytes(let view): return (try view.load(), nil)
      case .stored(let stored): return (try stored.load(), nil)
      case .panels(let stored):
        guard let order = PanelOrder(encoding, shape) else { throw Failure(.internal, "no panels of \(shape)") }
        return (try order.unpack(try stored.load(), threads: threads), nil)
      case .computed(let computation):
        let (buffer, loss) = try computation.run(threads)
        guard buffer.count == byteCount else {
          throw Failure(.internal, "computed \(buffer.count) bytes, \(byteCount) expected")
        }
        return (buffer, loss)
      case .rows(let open): return (try open(threads).all(rows: rows, columns: columns, threads: threads), nil)
      }
    } catch { throw error.about("tensor \(name.quoted)") }
  }
}
