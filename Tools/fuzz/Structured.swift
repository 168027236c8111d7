import Bytes
import Calibration
import Formats
import Foundation
import Passes
import Tensors

/// Files that are described by a JSON text, which is what is fuzzed: the bytes around it are made here, with lengths,
/// offsets and checksums that are right.
enum Structured {
  /// Above this no data are made for a tensor.
  private static let most = 1 << 14

  /// A container with this manifest. Of each eighth input the manifest is left as it is.
  static func container(_ bytes: [UInt8]) -> [UInt8]? {
    guard bytes.count < most, let parsed = try? JSON.parse(bytes), var json = try? JSONText(parsed) else { return nil }
    var data: [UInt8] = []
    if bytes.last.map({ $0 % 8 != 0 }) ?? false || XXH64.hash(bytes) % 8 != 0 {
      for part in ["files", "tensors"] {
        guard case .array(let entries)? = json[part] else { continue }
        json = json.with(part, .array(entries.map { placed($0, &data) }))
      }
    }
    data += [UInt8](repeating: 0, count: (64 - data.count % 64) % 64)
    let manifest = json.bytes()
    var header = [UInt8](repeating: 0, count: 64)
    func set(_ offset: Int, _ value: UInt64) {
      withUnsafeBytes(of: value.littleEndian) { header.replaceSubrange(offset..<offset + 8, with: $0) }
    }
    header.replaceSubrange(0..<8, with: Container.magic)
    set(8, UInt64(Container.version))
    set(16, UInt64(64 + data.count))
    set(24, UInt64(manifest.count))
    set(32, XXH64.hash(manifest))
    set(40, UInt64(64 + data.count + manifest.count))
    set(56, XXH64.hash(Array(header[..<56])))
    return header + data + manifest
  }

  /// An entry whose section lies at the end of `data`, with bytes for its shape where these are few.
  private static func placed(_ entry: JSONText, _ data: inout [UInt8]) -> JSONText {
    data += [UInt8](repeating: 0, count: (64 - data.count % 64) % 64)
    var count = entry["count"].flatMap { if case .int(let count) = $0 { count } else { nil } } ?? 0
    if let encoding = entry["encoding"].flatMap(encoding), let shape = shape(entry) {
      count = (entry["order"] == nil ? encoding.byteCount(shape) : PanelOrder(encoding, shape)?.byteCount) ?? count
    }
    count = min(max(count, 0), most)
    let made = pattern(count)
    let at = 64 + data.count
    data += made
    return entry.with("at", .int(at)).with("stored", .int(count)).with("count", .int(count)).with("codec", "raw")
      .with("checksum", .string(XXH64.text(XXH64.hash(Array(made)))))
  }

  private static func encoding(_ json: JSONText) -> Encoding? {
    guard case .string(let type)? = json["type"] else { return nil }
    if let plain = DType(rawValue: type) { return .plain(plain) }
    guard case .int(let bits)? = json["bits"], case .int(let group)? = json["group"], group > 0,
      case .bool(let isAffine)? = json["affine"], case .string(let scale)? = json["scale"],
      let scaleType = DType(rawValue: scale)
    else { return nil }
    let form: GroupedInteger.Form = json["levels"] != nil ? .twoLevel : isAffine ? .affine : .symmetric
    return GroupedInteger(bits: bits, groupSize: group, form: form, scaleType: scaleType).map(Encoding.grouped)
  }

  private static func shape(_ json: JSONText) -> [Int]? {
    guard case .array(let sizes)? = json["shape"] else { return nil }
    let shape = sizes.compactMap { if case .int(let size) = $0, size >= 0 { size } else { nil } }
    return shape.count == sizes.count ? shape : nil
  }

  /// Small positive numbers as F32 and as F16 both, with codes of all kinds among their low bits.
  private static let pattern = (0..<most).map { $0 % 2 == 1 ? 0x3C : UInt8(truncatingIfNeeded: $0 &* 37 &+ $0 >> 8) }

  private static func pattern(_ count: Int) -> ArraySlice<UInt8> { pattern[..<count] }

  /// `{"version", "about", "items", "names", "tensors": {NAME: {"dtype", "shape"}}}` as a file of anchors.
  static func anchors(_ bytes: [UInt8]) -> [UInt8]? {
    guard bytes.count < most, let parsed = try? JSON.parse(bytes), let json = try? JSONText(parsed) else { return nil }
    var (header, data): ([(String, JSONText)], [UInt8]) = ([], [])
    func add(_ name: String, _ type: JSONText, _ shape: JSONText, _ bytes: [UInt8]) {
      let end = data.count + bytes.count
      header.append((name, ["dtype": type, "shape": shape, "data_offsets": [.int(data.count), .int(end)]]))
      data += bytes
    }
    if case .object(let tensors)? = json["tensors"] {
      for (name, entry) in tensors {
        guard case .string(let type)? = entry["dtype"], let dtype = DType(rawValue: type), let shape = shape(entry),
          let count = Encoding.plain(dtype).byteCount(shape), count <= most
        else { continue }
        add(name, .string(type), entry["shape"] ?? .null, Array(pattern(count)))
      }
    }
    for (key, name) in [("items", "items"), ("names", "index.names")] {
      guard case .array(let lines)? = json[key] else { continue }
      let text = lines.reduce(into: [UInt8]()) { $0 += $1.bytes() + [10] }
      add(name, "U8", [.int(text.count)], text)
    }
    header.append(
      (
        "__metadata__",
        ["format": "llvconv anchors", "version": json["version"] ?? "1", "about": .string(json["about"]?.text() ?? "")]
      ))
    let text = JSONText.object(header).bytes()
    return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text + data
  }

  /// Bits, group, form and scales of an encoding, a shape, then codes: decoded, and turned to panels and back.
  static func grouped(_ bytes: [UInt8]) {
    guard bytes.count > 6 else { return }
    let (rows, columns) = (1 + Int(bytes[4]) % 40, 1 + Int(bytes[5]))
    guard
      let integers = GroupedInteger(
        bits: GroupedInteger.widths[Int(bytes[0]) % GroupedInteger.widths.count], groupSize: max(1, Int(bytes[1])),
        form: [.symmetric, .affine, .twoLevel][Int(bytes[2]) % 3],
        scaleType: [.F16, .F32, .BF16][Int(bytes[3]) % 3]),
      let count = Encoding.grouped(integers).byteCount([rows, columns]), count <= most
    else { return }
    var data = Array(bytes[6...].prefix(count))
    data += [UInt8](repeating: 0x2A, count: count - data.count)
    guard let buffer = try? Buffer(data) else { return }
    let tensor = Tensor(
      "w", shape: [rows, columns], encoding: .grouped(integers), content: .bytes(ByteView(buffer)))
    _ = try? tensor.floats(threads: 1)
    guard let reader = try? tensor.rowReader(threads: 1) else { return }
    var row = [Float](repeating: 0, count: columns)
    for place in 0..<rows {
      row.withUnsafeMutableBufferPointer { _ = try? reader.read(place..<place + 1, into: $0.baseAddress!) }
    }
  }
}

extension JSONText {
  /// An object with another value of one member.
  func with(_ key: String, _ value: JSONText) -> JSONText {
    guard case .object(var members) = self else { return self }
    if let place = members.firstIndex(where: { $0.0 == key }) {
      members[place].1 = value
    } else {
      members.append((key, value))
    }
    return .object(members)
  }
}
