/// Arithmetic on numbers that came from a file: nil instead of a trap when the result does not fit.
public enum Checked {
  public static func add(_ a: Int, _ b: Int) -> Int? {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? nil : sum
  }

  public static func multiply(_ a: Int, _ b: Int) -> Int? {
    let (product, overflow) = a.multipliedReportingOverflow(by: b)
    return overflow ? nil : product
  }

  /// The product of all factors, nil when it, or the product of the factors other than zero, does not fit.
  ///
  /// Leaving zeros out makes the verdict independent of the order: `[0, big, big]` and `[big, big, 0]` are refused
  /// alike.
  public static func product(_ factors: [Int]) -> Int? {
    var product = 1
    for factor in factors where factor != 0 {
      guard let next = multiply(product, factor) else { return nil }
      product = next
    }
    return factors.contains(0) ? 0 : product
  }

  /// `value` rounded up to a multiple of `unit`, which must be positive.
  public static func roundUp(_ value: Int, to unit: Int) -> Int? {
    guard let sum = add(value, unit - 1) else { return nil }
    return sum / unit * unit
  }

  /// `ceil(value / unit)` for non-negative `value` and positive `unit`; never overflows.
  public static func ceilDivide(_ value: Int, _ unit: Int) -> Int { value / unit + (value % unit == 0 ? 0 : 1) }
}
