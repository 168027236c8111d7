import Bytes
import Inputs
import TestSupport
import Testing

/// Lines of items, pairs and benchmarks, as every command reads them.
struct DataFileTests {
  static func item(_ text: String, isStrict: Bool = false) -> Result<Item, Failure> {
    outcome { () throws(Failure) in
      var keys = KeyRule(isStrict: isStrict)
      return try Item(try JSON.parse(Array(text.utf8)), &keys)
    }
  }

  static func refusal(_ text: String, isStrict: Bool = false) throws -> String {
    let directory = try TemporaryDirectory()
    let path = try directory.write("p.jsonl", text)
    switch outcome({ () throws(Failure) in try DataFile(path, isStrict: isStrict) }) {
    case .success: return "accepted"
    case .failure(let failure): return failure.description
    }
  }

  @Test("items are read, objects or texts alone, and what is wrong with others is said")
  func itemsAreRead() throws {
    let item = try DataFileTests.item(#"{"id":7,"text":"a","images":["x.png"],"instruction":"find: "}"#).get()
    #expect(item.id == "7" && item.text == "a" && item.images == ["x.png"] && item.instruction == "find: ")
    #expect(try DataFileTests.item(#""a dog""#).get() == Item(text: "a dog"))
    for (text, words) in [
      (#"{"text":"a","txet":"b"}"#, #"unknown key "txet"; did you mean "text"?"#), (#"{"id":"a"}"#, "needs text"),
      (#"{"text":7}"#, "must be a string"), ("[]", "must be an object or a string"), ("3", "must be an object"),
      (#"{"image":["a.png"]}"#, #"did you mean "images"?"#),
    ] {
      guard case .failure(let failure) = DataFileTests.item(text) else {
        Issue.record("\(text) was accepted")
        continue
      }
      #expect(failure.description.contains(words), "\(failure)")
    }
  }

  @Test("keys of metadata are not read, and counted; strict refuses them, misspelt ones are always refused")
  func keysOfMetadata() throws {
    let directory = try TemporaryDirectory()
    let words = ["id", "title", "source", "score", "metadata", "url", "lang", "tags", "rank", "test", "next", "docid"]
    let members = words.dropFirst().map { "\"\($0)\":[1]" }.joined(separator: ",")
    let line = #"{"query":{"text":"a",\#(members)},"positive":"b","source":1,"label":"c","task":"d"}"#
    let path = try directory.write("p.jsonl", "\(line)\n\"x\"\n\(line)\n{\"text\":\"y\",\"url\":\"u\"}\n")
    let file = try DataFile(path)
    #expect(file.lines.count == 4 && file.keys.lines == 3)
    #expect(file.keys.ignored["source"] == 2 && file.keys.ignored["url"] == 3 && file.keys.ignored.count == 11)
    let note = try #require(file.keys.note)
    #expect(note.hasPrefix("3 lines have keys that are not read: url (3), docid (2)"), "\(note)")
    #expect(note.contains("and 3 more"), "\(note)")
    #expect(try DataFileTests.refusal(line, isStrict: true).contains("unknown key"))
    #expect(try DataFile(try directory.write("q.jsonl", #"{"text":"a"}"#)).keys.note == nil)
  }

  @Test("lines that are bad in the same way are one line of the error, with their number")
  func linesThatAreBadInTheSameWay() throws {
    let bad = #"{"qury":{"text":"a"},"positive":{"text":"b"}}"#
    let good = #"{"query":{"text":"a"},"positive":{"text":"b"}}"#
    let many = (0..<540).map { _ in bad }.joined(separator: "\n")
    let message = try DataFileTests.refusal("\(good)\n\n\(many)\nnot json\n{\"query\":{\"text\":\"a\"}}\n")
    let lines = message.split(separator: "\n")
    #expect(lines.count == 3, "\(message)")
    #expect(lines[0].contains("line 3 byte") && lines[0].hasSuffix(#"did you mean "query"? (540 lines like this)"#))
    #expect(lines[1].contains("line 543") && lines[2].contains("line 544"), "\(message)")
    let kinds = (0..<30).map { "{\"text\": \($0)x}" }.joined(separator: "\n")
    #expect(try DataFileTests.refusal(kinds).split(separator: "\n").count <= 21)
    #expect(try DataFileTests.refusal(#"{"qurey":"a","postive":"b"}"#).contains("did you mean"))
    #expect(try DataFileTests.refusal("").contains("no items"))
  }

  @Test("candidates are named by pairs below them; without any, strings are texts")
  func candidatesAreNamedByPairsBelowThem() throws {
    let directory = try TemporaryDirectory()
    let named = try DataFile(
      try directory.write(
        "n.jsonl",
        "\u{FEFF}" + #"{"id":"c","candidate":{"text":"cat"}}"# + "\n"
          + #"{"query":"pet","candidates":[{"text":"dog"},"c"],"task":"t"}"# + "\n"))
    let pairs = try named.pairs()
    #expect(pairs.count == 1 && pairs[0].isChoice && pairs[0].task == "t" && pairs[0].query == Item(text: "pet"))
    #expect(pairs[0].positive == Item(text: "dog") && pairs[0].negatives == [Item(text: "cat")])
    #expect(named.items.map(\.text) == ["cat", "pet", "dog"] && named.hasPairsAlone)
    let texts = try DataFile(try directory.write("t.jsonl", #"{"query":"pet","positive":"c","negatives":["d"]}"#))
    #expect(try texts.pairs()[0].positive == Item(text: "c") && texts.items.count == 3)
    for (text, words) in [
      (#"{"id":"c","candidate":"a"}"# + "\n" + #"{"query":"x","positive":"nobody"}"#, "no candidate \"nobody\" above"),
      (#"{"id":"c","candidate":"a"}"# + "\n" + #"{"id":"c","candidate":"b"}"#, "twice"),
      (#"{"candidate":"a"}"#, "needs an id"), (#"{"query":"a","candidates":[]}"#, "needs candidates"),
      (#"{"query":"a","candidates":["b"],"positive":"c"}"#, "not both"), (#"{"positive":"c"}"#, "\"query\" is missing"),
    ] {
      #expect(try DataFileTests.refusal(text).contains(words), "\(text)")
    }
  }

  @Test("an item where a pair is needed is said by its line")
  func anItemWhereAPairIsNeeded() throws {
    let directory = try TemporaryDirectory()
    let file = try DataFile(try directory.write("m.jsonl", "{\"query\":\"a\",\"positive\":\"b\"}\n\"c\"\n\"d\"\n"))
    guard case .failure(let failure) = outcome({ () throws(Failure) in try file.pairs() }) else {
      Issue.record("accepted")
      return
    }
    #expect(failure.description.contains("line 2: an item, where a pair") && failure.description.contains("2 lines"))
  }

  @Test("a benchmark takes what pairs have, and pairs what a benchmark has")
  func aBenchmarkTakesWhatPairsHave() throws {
    let directory = try TemporaryDirectory()
    let search = try BenchmarkFile(
      try directory.write("s.jsonl", #"{"id":1,"query":"a","positive":"b","negatives":["c"],"label":"l","task":"t"}"#),
      name: "s")
    #expect(search.kind == .search && search.task == "t" && search.items.count == 2 && search.pairsWithNegatives == 1)
    let both = #"{"query":"a","positive":"b"}"# + "\n" + #"{"query":"a","candidates":["b"]}"#
    let result = outcome { () throws(Failure) in
      try BenchmarkFile(try DataFileTests.write(directory, both), name: "b")
    }
    guard case .failure(let failure) = result else {
      Issue.record("accepted")
      return
    }
    #expect(failure.description.contains("do not go together"))
  }

  private static func write(_ directory: TemporaryDirectory, _ text: String) throws(Failure) -> String {
    do { return try directory.write("w.jsonl", text) } catch { throw Failure(.io, "not written") }
  }

  @Test("slices are labels of a line; others' names and hostile ones are refused")
  func slicesAreLabelsOfALine() throws {
    let directory = try TemporaryDirectory()
    func pair(_ slices: String) throws -> Pair {
      let path = try directory.write("s.jsonl", #"{"query":"a","positive":"b","slices":\#(slices)}"#)
      return try #require(try DataFile(path, isStrict: true).pairs().first)
    }
    #expect(try pair(#"{"language":"yo","year":2024}"#).slices == ["language": "yo", "year": "2024"])
    #expect(try pair("{}").slices.isEmpty)
    let many = "{" + (0..<17).map { "\"k\($0)\":1" }.joined(separator: ",") + "}"
    for bad in [
      "[]", "1", #""yo""#, #"{"language":null}"#, #"{"language":["yo"]}"#, #"{"language":1.5}"#, #"{"":"a"}"#,
      #"{"language":""}"#, #"{"kind":"a"}"#, #"{"script":"a"}"#, #"{"a":"b","a":"c"}"#, #"{"a":"\n"}"#, many,
      "{\"a\":\"\(String(repeating: "b", count: 101))\"}",
    ] {
      #expect(throws: Failure.self, "\(bad)") { try pair(bad) }
    }
  }
}
