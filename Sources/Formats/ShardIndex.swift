import Bytes
import Tensors

/// `*.index.json`: which shard holds which tensor. Formats/shard-index/spec.md is the contract.
enum ShardIndex {
  struct Contents {
    var tensors: [Tensor] = []
    var shards: [InputFile] = []
    var notes: [String] = []
  }

  /// Opens every shard the index names and holds index and shards to each other: each tensor in exactly the shard that
  /// the index says, none besides.
  static func read(_ path: String) throws(Failure) -> Contents {
    let file = try InputFile(path)
    do throws(Failure) {
      let json = try JSON.parse(try file.all(limit: Limits.shardIndex, what: "shard index"), what: "index")
      return try read(json, directory: directory(of: path))
    } catch { throw error.inFile(path) }
  }

  private static func read(_ json: JSON, directory: String) throws(Failure) -> Contents {
    let map = try json.required("weight_map")
    var wanted: [TensorName: String] = [:]
    var counts: [String: Int] = [:]
    try map.forEachMember("weight_map") { (key, value) throws(Failure) in
      let name = try RelativeName.checked(try value.bytes("shard name"))
      wanted[TensorName(try key.bytes())] = name
      counts[name, default: 0] += 1
      guard counts.count <= Limits.shards else { throw value.failure("more than \(Limits.shards) shards", .limit) }
    }
    var contents = Contents()
    var failures: [Failure] = []
    var found: [TensorName: String] = [:]
    var bytes = 0
    for name in counts.keys.sorted() {
      do throws(Failure) {
        let shard = try open(directory + name, wantedBy: counts[name] ?? 0)
        let part = try Safetensors.read(shard)
        contents.shards.append(shard)
        contents.notes += part.notes
        for tensor in part.tensors {
          if let problem = placeProblem(tensor.name, in: name, wanted: wanted[tensor.name], found: found[tensor.name]) {
            failures.append(problem.about("tensor \(tensor.name.quoted)"))
          }
          found[tensor.name] = name
          bytes += tensor.byteCount
        }
        contents.tensors += part.tensors
      } catch { failures.append(error) }
    }
    if failures.isEmpty {
      for (name, shard) in wanted.sorted(by: { $0.key < $1.key }) where found[name] == nil {
        failures.append(
          Failure(
            .malformed, "index says \(Failure.quoted(shard)), file does not hold it", thing: "tensor \(name.quoted)"))
      }
    }
    if let failure = Failure.all(failures) { throw failure }
    if let total = json.optional("metadata")?.optional("total_size"), let size = try? total.unsigned(),
      size != UInt64(bytes)
    {
      contents.notes.append("the index says \(size) bytes in total, the shards hold \(bytes)")
    }
    return contents
  }

  private static func open(_ path: String, wantedBy count: Int) throws(Failure) -> InputFile {
    do throws(Failure) { return try InputFile(path) } catch {
      var failure = error
      failure.problem += "; the index wants \(count) tensor\(count == 1 ? "" : "s") from it"
      throw failure
    }
  }

  private static func placeProblem(
    _ tensor: TensorName, in shard: String, wanted: String?, found: String?
  ) -> Failure? {
    if let found { return Failure(.malformed, "in two shards, \(Failure.quoted(found)) and \(Failure.quoted(shard))") }
    guard let wanted else { return Failure(.malformed, "in shard \(Failure.quoted(shard)), but not in the index") }
    guard wanted != shard else { return nil }
    return Failure(.malformed, "index says \(Failure.quoted(wanted)), file does not: it is in \(Failure.quoted(shard))")
  }
}
