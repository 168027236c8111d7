import Bytes
import Fidelity

/// Room for a model's weights, as somebody asks for it.
package enum Budget {
  /// On average, scales included.
  case bits(Double)
  /// Of the whole file.
  case size(Int)

  /// - Returns: nil when neither option is there.
  package init?(bits: String?, size: String?) throws(Failure) {
    if let size {
      let units: [(String, Int)] = [("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("", 1)]
      let unit = units.first { size.hasSuffix($0.0) } ?? ("", 1)
      guard let number = Double(size.dropLast(unit.0.count)), number > 0, number * Double(unit.1) < 1e15 else {
        throw Failure(
          .usage, "--size must be a number of bytes, or of KB, MB or GB, like 400MB; found \(Failure.quoted(size))")
      }
      self = .size(Int(number * Double(unit.1)))
    } else if let bits {
      guard let number = Double(bits), (2...16).contains(number) else {
        throw Failure(.usage, "--bits must be from 2 to 16; found \(Failure.quoted(bits))")
      }
      self = .bits(number)
    } else {
      return nil
    }
  }
}

/// How fast a model must be, as somebody asks for it.
package enum SpeedTarget {
  /// Times as fast as the model as it is.
  case factor(Double)
  case itemsPerSecond(Double)

  package init(_ text: String) throws(Failure) {
    let isFactor = text.hasSuffix("x")
    guard let number = Double(isFactor ? text.dropLast() : text[...]), number > 0, number <= 1e12 else {
      throw Failure(
        .usage,
        "--speed must be items a second, like 40, or times the model's own speed, like 2x; "
          + "found \(Failure.quoted(text))")
    }
    self = isFactor ? .factor(number) : .itemsPerSecond(number)
  }

  package var text: String {
    switch self {
    case .factor(let factor): "\(factor.text)x"
    case .itemsPerSecond(let number): "\(number.text) items/s"
    }
  }

  /// Times the speed of a model that embeds so many items a second.
  package func factor(of own: Double) -> Double {
    switch self {
    case .factor(let factor): factor
    case .itemsPerSecond(let number): number / own
    }
  }
}

extension Double {
  fileprivate var text: String { JSONText.number(self).text() }
}

extension Objective {
  /// What `--objective` and `--alpha` ask for.
  package init(_ arguments: Arguments) throws(Failure) {
    let name = try arguments.choice("--objective", ["margin", "infonce", "mse"]) ?? "mse"
    let alpha = try arguments.number("--alpha", in: 0...1_000)
    guard alpha == nil || name == "margin" else { throw Failure(.usage, "--alpha is for --objective margin") }
    self = name == "mse" ? .mse : name == "infonce" ? .infonce : .margin(alpha: alpha ?? 9)
  }
}
