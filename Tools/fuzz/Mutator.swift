import Bytes

/// Changes to JSON that leave it JSON, for libFuzzer: a number becomes a hostile one, a member goes, comes twice or has
/// another's value. What surrounds it (lengths, checksums) the targets themselves make right, so that an input gets
/// past these to the checks behind.
struct Mutator {
  private var random: UInt64

  init(seed: UInt32) { random = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 | 1 }

  private mutating func next(_ count: Int) -> Int {
    random ^= random << 13
    random ^= random >> 7
    random ^= random << 17
    return Int(random >> 33) % max(1, count)
  }

  /// Up to three changes.
  mutating func changed(_ json: JSONText) -> JSONText {
    var json = json
    for _ in 0...next(3) {
      var (from, place) = (next(Mutator.count(json)), next(Mutator.count(json)))
      let donor = Mutator.node(json, &from) ?? .null
      json = changed(json, &place, donor)
    }
    return json
  }

  /// How many values it is made of, itself among them.
  private static func count(_ json: JSONText) -> Int {
    switch json {
    case .array(let values): values.reduce(1) { $0 + count($1) }
    case .object(let members): members.reduce(1) { $0 + count($1.1) }
    default: 1
    }
  }

  /// The value of number `place`, an outer one before those in it; what is left of `place` behind them all.
  private static func node(_ json: JSONText, _ place: inout Int) -> JSONText? {
    if place == 0 { return json }
    place -= 1
    switch json {
    case .array(let values):
      for value in values { if let found = node(value, &place) { return found } }
    case .object(let members):
      for member in members { if let found = node(member.1, &place) { return found } }
    default: break
    }
    return nil
  }

  /// The whole with the value of number `place` changed; `place` is negative then.
  private mutating func changed(_ json: JSONText, _ place: inout Int, _ donor: JSONText) -> JSONText {
    defer { place -= 1 }
    if place == 0 { return other(json, donor) }
    switch json {
    case .array(var values):
      place -= 1
      for index in values.indices where place >= 0 { values[index] = changed(values[index], &place, donor) }
      place += 1
      return .array(values)
    case .object(var members):
      place -= 1
      for index in members.indices where place >= 0 { members[index].1 = changed(members[index].1, &place, donor) }
      place += 1
      return .object(members)
    default: return json
    }
  }

  private static let integers = [
    0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 65_535, 65_536, -1, 1 << 31, 1 << 32,
    1 << 40, 1 << 62, .max, .min, .max / 2, .max - 63,
  ]
  private static let numbers: [Double] = [0, -0.0, 1e-300, 1e300, -1, 0.5, 1e-45, 3.4e38, 1e39, 65_504, 65_520]

  private mutating func other(_ json: JSONText, _ donor: JSONText) -> JSONText {
    if next(4) == 0 { return donor }
    switch json {
    case .int(let value):
      return .int(
        [value &+ 1, value &- 1, value &* 2, value / 2, 0 &- value, Mutator.integers[next(Mutator.integers.count)]][
          next(6)]
      )
    case .number: return .number(Mutator.numbers[next(Mutator.numbers.count)])
    case .bool(let value): return .bool(!value)
    case .null: return [.int(0), .string(""), .array([]), .object([]), .bool(true)][next(5)]
    case .string(let text):
      return .string(
        [text + text, String(text.dropLast()), "", text + "\u{0}", "../" + text, text.uppercased()][next(6)])
    case .array(var values):
      guard !values.isEmpty else { return .array([donor]) }
      let (a, b) = (next(values.count), next(values.count))
      switch next(4) {
      case 0: values.remove(at: a)
      case 1: values.insert(values[a], at: b)
      case 2: values.swapAt(a, b)
      default: values.append(donor)
      }
      return .array(values)
    case .object(var members):
      guard !members.isEmpty else { return .object([("a", donor)]) }
      let (a, b) = (next(members.count), next(members.count))
      switch next(5) {
      case 0: members.remove(at: a)
      case 1: members.append(members[a])
      case 2: members[a].1 = members[b].1
      case 3: members[a].0 = members[b].0 + "x"
      default: members[a].1 = donor
      }
      return .object(members)
    }
  }
}

@_silgen_name("LLVMFuzzerMutate")
private func mutateBytes(_ data: UnsafeMutablePointer<UInt8>, _ count: Int, _ most: Int) -> Int

/// libFuzzer's own changes for a quarter of the inputs, and for targets that are not JSON.
@_cdecl("LLVMFuzzerCustomMutator")
public func mutate(_ data: UnsafeMutablePointer<UInt8>, _ count: Int, _ most: Int, _ seed: UInt32) -> Int {
  guard isJSON, seed % 4 != 0,
    let parsed = try? JSON.parse(Array(UnsafeBufferPointer(start: data, count: count))),
    let json = try? JSONText(parsed)
  else { return mutateBytes(data, count, most) }
  var mutator = Mutator(seed: seed)
  let bytes = mutator.changed(json).bytes()
  guard !bytes.isEmpty, bytes.count <= most else { return mutateBytes(data, count, most) }
  bytes.withUnsafeBufferPointer { data.update(from: $0.baseAddress!, count: bytes.count) }
  return bytes.count
}
