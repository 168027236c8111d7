import Bytes

/// What somebody asks for: inputs in order, and options by the names that the program gives them.
package struct Arguments: Sendable {
  package let positionals: [String]
  private var values: [String: [String]] = [:]

  package init(_ positionals: [String], values: [String: [String]] = [:]) {
    self.positionals = positionals
    self.values = values
  }

  package func has(_ name: String) -> Bool { values[name] != nil }

  package subscript(name: String) -> String? { values[name]?.first }

  package func all(_ name: String) -> [String] { values[name] ?? [] }

  /// The value of an option that must be there.
  package func required(_ name: String) throws(Failure) -> String {
    guard let value = self[name] else { throw Failure(.usage, "\(name) is needed") }
    return value
  }

  /// The file that an option says to write; nil where it does not. It must be none of those that the command reads:
  /// `--force` replaces an old output, never an input.
  package func output(_ name: String) throws(Failure) -> OutputFile? {
    guard let path = self[name] else { return nil }
    try refuseInput(at: path, of: name)
    return try OutputFile(path, isReplacing: has("--force"))
  }

  /// - Parameter name: the option that says to write there.
  package func refuseInput(at path: String, of name: String) throws(Failure) {
    for (option, paths) in values.merging(["": positionals], uniquingKeysWith: { $1 }) where option != name {
      for input in paths where InputFile.isSame(input, path) {
        throw Failure(.usage, "is read by this command, and would be lost: write to another file", file: path)
      }
    }
  }

  /// The same, of an option that must be there.
  package func requiredOutput(_ name: String) throws(Failure) -> OutputFile {
    guard let file = try output(name) else { throw Failure(.usage, "\(name) is needed") }
    return file
  }

  package func integer(_ name: String, in range: ClosedRange<Int>) throws(Failure) -> Int? {
    guard let text = self[name] else { return nil }
    guard let value = Int(text), range.contains(value) else {
      throw Failure(
        .usage,
        "\(name) must be a whole number from \(range.lowerBound) to \(range.upperBound); found \(Failure.quoted(text))")
    }
    return value
  }

  /// Whole numbers with commas between them.
  package func integers(_ name: String, in range: ClosedRange<Int>) throws(Failure) -> [Int]? {
    guard let text = self[name] else { return nil }
    let values = text.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
    let good = values.compactMap { $0 }.filter(range.contains)
    guard good.count == values.count else {
      throw Failure(
        .usage,
        "\(name) must be whole numbers from \(range.lowerBound) to \(range.upperBound) with commas between them; "
          + "found \(Failure.quoted(text))")
    }
    return good
  }

  package func number(_ name: String, in range: ClosedRange<Double>) throws(Failure) -> Double? {
    guard let text = self[name] else { return nil }
    guard let value = Double(text), range.contains(value) else {
      throw Failure(
        .usage,
        "\(name) must be a number from \(range.lowerBound) to \(range.upperBound); found \(Failure.quoted(text))")
    }
    return value
  }

  /// One of a few words.
  package func choice(_ name: String, _ choices: [String]) throws(Failure) -> String? {
    guard let text = self[name] else { return nil }
    guard choices.contains(text) else {
      throw Failure(.usage, "\(name) must be one of \(choices.joined(separator: ", ")); found \(Failure.quoted(text))")
    }
    return text
  }

  package func threads() throws(Failure) -> Int { try integer("--threads", in: 1...1024) ?? availableThreads }
}
