import Bytes
import Tensors

/// A rotation in a manifest.
extension Container {
  static func parameters(_ rotation: Op.Rotation) -> [(String, JSONText)] {
    let plain: [(String, JSONText)] = [("theta", .number(rotation.theta)), ("head_width", .int(rotation.headWidth))]
    guard let scaling = rotation.scaling else { return plain }
    let members: [(String, JSONText)] =
      switch scaling {
      case .linear(let factor): [("type", "linear"), ("factor", .number(factor))]
      case .llama3(let factor, let low, let high, let original):
        [
          ("type", "llama3"), ("factor", .number(factor)), ("low", .number(low)), ("high", .number(high)),
          ("original", .int(original)),
        ]
      case .yarn(let factor, let slow, let fast, let original, let magnitude, let isTruncated):
        [
          ("type", "yarn"), ("factor", .number(factor)), ("slow", .number(slow)), ("fast", .number(fast)),
          ("original", .int(original)), ("magnitude", .number(magnitude)), ("truncated", .bool(isTruncated)),
        ]
      }
    return plain + [("scaling", .object(members))]
  }

  static func rotation(_ json: JSON) throws(Failure) -> Op.Rotation {
    var result = Op.Rotation(
      theta: try positive(json, "theta"),
      headWidth: try json.required("head_width").integer("head_width", in: 1...(1 << 31)))
    guard let scaling = json["scaling"] else { return result }
    let type = try scaling.required("type")
    func original() throws(Failure) -> Int { try scaling.required("original").integer("original", in: 1...(1 << 31)) }
    let factor = try positive(scaling, "factor")
    switch try type.string("type") {
    case "linear": result.scaling = .linear(factor: factor)
    case "llama3":
      result.scaling = .llama3(
        factor: factor, low: try positive(scaling, "low"), high: try positive(scaling, "high"), original: try original()
      )
    case "yarn":
      result.scaling = .yarn(
        factor: factor, slow: try positive(scaling, "slow"), fast: try positive(scaling, "fast"),
        original: try original(), magnitude: try positive(scaling, "magnitude"),
        isTruncated: try scaling.required("truncated").bool("truncated"))
    case let other: throw type.failure("unknown scaling \(Failure.quoted(other))", .unsupported)
    }
    return result
  }

  private static func positive(_ json: JSON, _ key: String) throws(Failure) -> Double {
    let value = try json.required(key)
    let number = try value.double(key)
    guard number > 0, number < 1e15 else { throw value.failure("\(key) must be above 0 and below 1e15") }
    return number
  }
}
