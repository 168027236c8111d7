import Bytes
import Tensors

extension GGUF {
  /// The file with the vision tower that lies beside `NAME.gguf` (or a part of it) and belongs to it by its name, as
  /// our export calls it: `NAME-mmproj.gguf`, or its first part. nil where there is none.
  public static func projector(beside path: String) throws(Failure) -> String? {
    var stem = path.hasSuffix(".gguf") ? String(path.dropLast(5)) : path
    if let part = stem.firstMatch(of: #/-\d{5}-of-\d{5}$/#) { stem = String(stem[..<part.range.lowerBound]) }
    let whole = stem + "-mmproj.gguf"
    guard !exists(whole) else { return whole }
    let head = (stem.split(separator: "/").last.map(String.init) ?? stem) + "-mmproj-00001-of-"
    let folder = directory(of: path)
    return try fileNames(in: folder).first { $0.hasPrefix(head) && $0.hasSuffix(".gguf") }.map { folder + $0 }
  }

  /// One model's GGUF file, or the files it was split into.
  public struct Parts: Sendable {
    public var keys: GGUFKeys
    public var tensors: [Tensor]
    public var files: [InputFile]
    public var notes: [String]

    var path: String { files[0].path }

    /// Opens `path`, and its siblings `NAME-00001-of-0000N.gguf` when it is one of several.
    ///
    /// - Throws: `missing` naming the parts that are not there; `malformed` when their numbers do not fit.
    public init(_ path: String) throws(Failure) {
      let first = try GGUF.read(path)
      (keys, tensors, files, notes) = (first.keys, first.tensors, [first.file], first.notes)
      let count: Int
      do throws(Failure) { count = try keys.integer("split.count", in: 0...Limits.shards) ?? 0 } catch {
        throw error.inFile(path)
      }
      guard count > 1 else { return }
      let all = try Parts.siblings(path, count)
      let missing = all.filter { !exists($0) }
      guard missing.isEmpty else {
        throw Failure(
          .missing, "\(missing.count) of \(count) parts are not there: \(missing.prefix(5).joined(separator: ", "))",
          file: path)
      }
      (tensors, files, notes) = ([], [], [])
      for (number, part) in all.enumerated() {
        let file = try GGUF.read(part)
        do throws(Failure) {
          guard try file.keys.integer("split.no", in: 0...Limits.shards) == number else {
            throw GGUFKeys.wrong("split.no", "is not \(number), which the file's name says")
          }
          guard try file.keys.integer("split.count", in: 0...Limits.shards) == count else {
            throw GGUFKeys.wrong("split.count", "is not \(count), as the other parts say")
          }
        } catch { throw error.inFile(part) }
        if number == 0 { keys = file.keys }
        tensors += file.tensors
        files.append(file.file)
        notes += file.notes
      }
      do throws(Failure) { try check() } catch { throw error.inFile(path) }
    }

    private func check() throws(Failure) {
      if let said = try keys.integer("split.tensors.count", in: 0...Limits.tensors), said != tensors.count {
        throw GGUFKeys.wrong("split.tensors.count", "is \(said), the parts hold \(tensors.count) tensors")
      }
      var names = Set<TensorName>()
      for tensor in tensors where !names.insert(tensor.name).inserted {
        throw Failure(.malformed, "is in two parts", thing: "tensor \(tensor.name.quoted)")
      }
    }

    /// The names of all parts, from the name of one.
    private static func siblings(_ path: String, _ count: Int) throws(Failure) -> [String] {
      let tail = "-of-\(padded(count)).gguf"
      let stem = path.dropLast(tail.count)
      guard path.hasSuffix(tail), stem.suffix(5).allSatisfy({ $0 >= "0" && $0 <= "9" }), stem.dropLast(5).hasSuffix("-")
      else {
        throw Failure(.malformed, "is one of \(count) parts, but is not called NAME-00001\(tail)", file: path)
      }
      return (1...count).map { stem.dropLast(5) + padded($0) + tail }
    }

    /// A part's number as file names have it.
    static func padded(_ number: Int) -> String {
      String(repeating: "0", count: max(0, 5 - String(number).count)) + String(number)
    }
  }
}
