import Bytes
import CKernels
import Inference
import Tensors

/// A tensor of a model on the GPU: in its own encoding for lookups, and in the forms that products take.
///
/// Plain weights become BF16. Of integers, those of 8 bits are kept as the products take them; those of fewer are
/// unpacked anew for each product, which costs a few percent of it and keeps the memory a quarter or less.
final class Weight: EncodedStorage, Sendable {
  /// As it is on the GPU: groups in two levels are 8-bit codes there.
  let tensor: Tensor
  let encoding: Encoding
  private let engine: Engine
  /// The tensor's bytes; nil where only the BF16 form is wanted.
  private let raw: Memory?
  private let plain: Lock<Memory?>
  private let kept = Lock<Integers?>(nil)

  /// Codes as signed bytes `[rows, places]`, scales and zeros `[groups, rows]`.
  struct Integers: Sendable {
    let form: Codes.Form
    let groups: Int
    let codes, scales: Memory
    let zeros: Memory?
    /// What codes are smaller by than the encoding's.
    let offset: Int
  }

  init(_ given: Tensor, _ bytes: Buffer, isLinear: Bool, _ engine: Engine) throws(Failure) {
    let (tensor, bytes) = try given.withOneLevel(bytes)
    encoding = given.encoding
    self.tensor = tensor
    self.engine = engine
    var memory: Memory?
    try bytes.withBytes { (bytes) throws(Failure) in memory = try engine.upload(bytes) }
    guard let memory else { throw Failure(.internal, "nothing was copied") }
    if isLinear, tensor.encoding.isPlain {
      plain = Lock(try Weight.bfloat16(tensor, memory, engine))
      raw = nil
    } else {
      plain = Lock(nil)
      raw = memory
    }
  }

  /// The tensor in its own encoding, as kernels name it.
  func encoded() throws(Failure) -> [Argument] {
    guard let raw else { throw Failure(.internal, "a weight that is not kept as it was") }
    return Weight.encoded(tensor, raw)
  }

  private static func encoded(_ tensor: Tensor, _ memory: Memory) -> [Argument] {
    switch tensor.encoding {
    case .plain(let type):
      [.memory(memory), .int(type.kernel), .int(0), .int(1), .int(tensor.columns), .null, .null]
    case .grouped(let integers):
      [
        .memory(memory), .int(integers.scaleType.kernel), .int(integers.bits), .int(integers.groupSize),
        .int(tensor.columns), .address(UInt64(integers.layout(tensor.shape)?.scalesAt ?? 0)),
        .address(integers.isAffine ? UInt64(integers.layout(tensor.shape)?.zerosAt ?? 0) : 0),
      ]
    }
  }

  // MARK: Forms

  private static func bfloat16(_ tensor: Tensor, _ memory: Memory, _ engine: Engine) throws(Failure) -> Memory {
    let places = Value.places(bfloat16: tensor.columns)
    if tensor.encoding == .plain(.BF16), places == tensor.columns { return memory }
    let result = try engine.allocate(tensor.rows * places * 2)
    try engine.launch(
      .weightBFloat16, (tensor.rows, 1), encoded(tensor, memory) + [.memory(result), .int(places)])
    return result
  }

  /// `[rows, Value.places(bfloat16:)]`. Kept for plain weights, made anew for integers.
  func bfloat16() throws(Failure) -> Memory {
    try plain.withLock { (plain) throws(Failure) in
      if let plain { return plain }
      guard let raw else { throw Failure(.internal, "a weight without bytes") }
      let made = try Weight.bfloat16(tensor, raw, engine)
      if tensor.encoding.isPlain { plain = made }
      return made
    }
  }

  /// nil for plain weights.
  func integers() throws(Failure) -> Integers? {
    guard case .grouped(let encoding) = tensor.encoding, let raw else { return nil }
    return try kept.withLock { (kept) throws(Failure) in
      if let kept { return kept }
      let made = try integers(encoding, raw)
      if encoding.bits == 8 { kept = made }
      return made
    }
  }

  private func integers(_ encoding: GroupedInteger, _ raw: Memory) throws(Failure) -> Integers {
    try encoding.checkProducts(tensor.columns)
    guard let layout = encoding.layout(tensor.shape) else { throw Failure(.internal, "a weight without layout") }
    let form = Codes.Form(columns: layout.columns, group: encoding.groupSize)
    var codes = raw
    // Codes of symmetric 8-bit weights without gaps are there as they should be.
    let isDirect = encoding.bits == 8 && !encoding.isAffine && form.places == layout.columns
    if !isDirect {
      codes = try engine.allocate(layout.rows * form.places)
      try engine.launch(
        .weightCodes, (layout.rows, 1),
        Weight.encoded(tensor, raw) + [.memory(codes), .int(form.places), .int(form.stripe)])
    }
    func across(_ at: Int) throws(Failure) -> Memory {
      let result = try engine.allocate(layout.rows * layout.groups * 4)
      try engine.launch(
        .weightScales, (layout.rows, 1),
        [
          .memory(raw, at: at), .int(encoding.scaleType.kernel), .int(layout.rows), .int(layout.groups),
          .memory(result),
        ])
      return result
    }
    return Integers(
      form: form, groups: layout.groups, codes: codes, scales: try across(layout.scalesAt),
      zeros: encoding.isAffine ? try across(layout.zerosAt) : nil,
      offset: encoding.isAffine && encoding.bits == 8 ? 128 : 0)
  }
}

extension Tensor {
  /// Groups in two levels as the 8-bit integers with one scale a row that they stand for; others as they are.
  fileprivate func withOneLevel(_ bytes: Buffer) throws(Failure) -> (Tensor, Buffer) {
    guard case .grouped(let integers) = encoding, integers.form == .twoLevel,
      let layout = integers.layout(shape),
      let single = GroupedInteger(
        bits: 8, groupSize: columns, form: .symmetric, scaleType: integers.scaleType),
      let target = single.layout(shape)
    else { return (self, bytes) }
    try integers.checkSteps(bytes, layout, name)
    let result = try Buffer(count: target.byteCount)
    result.clear()
    for row in 0..<layout.rows {
      llv_join_levels(
        bytes.start + row * layout.rowBytes, bytes.start + layout.zerosAt + row * layout.zeroBytes, columns,
        integers.groupSize, Int32(integers.bits), result.start + row * target.rowBytes)
    }
    (result.start + target.scalesAt).copyMemory(
      from: bytes.start + layout.scalesAt, byteCount: layout.rows * layout.scaleBytes)
    return (Tensor(name, shape: shape, encoding: .grouped(single), content: .bytes(ByteView(result))), result)
  }
}

extension DType {
  /// The number that encoding.h has for it.
  fileprivate var kernel: Int {
    switch self {
    case .F16: 1
    case .BF16: 2
    default: 0
    }
  }
}
