import Bytes
import Inputs
import TestSupport
import Testing

/// Pairs made of tables, benchmarks, pictures and query logs.
struct PairSetTests {
  static func pairs(
    _ path: String, _ change: (inout PairSet.Options) -> Void = { _ in }
  ) -> Result<PairSet, Failure> {
    var options = PairSet.Options()
    change(&options)
    return outcome { () throws(Failure) in try PairSet.read(path, options) }
  }

  static func refusal(_ path: String, _ change: (inout PairSet.Options) -> Void = { _ in }) -> String {
    switch pairs(path, change) {
    case .success: "accepted"
    case .failure(let failure): failure.description
    }
  }

  @Test("a CSV table is read with quotes, line ends in quotes, a byte-order mark and either line end")
  func aTableIsRead() throws {
    let directory = try TemporaryDirectory()
    let text =
      "\u{FEFF}id,query,positive,kind,negative_1,negative_2\r\n7,\"a, \"\"b\"\"\",\"c\r\nd\",x,e,\n\r\n"
      + "8, f ,\"\",x,,\n9,g,h,y,i,j\n10,g,h,y,i,k"
    let set = try PairSetTests.pairs(try directory.write("t.csv", text)) { $0.label = "kind" }.get()
    #expect(set.pairs.map(\.id) == ["7", "9"] && set.pairs.map(\.query.text) == ["a, \"b\"", "g"])
    #expect(set.pairs.map(\.positive.text) == ["c\r\nd", "h"] && set.pairs.map(\.label) == ["x", "y"])
    #expect(set.pairs[0].negatives == [Item(text: "e")] && set.pairs[1].negatives.count == 2)
    #expect(set.notes.count == 2 && set.notes[0].hasPrefix("1 rows without") && set.notes[1].contains("repeat"))
    let other = try directory.write("o.csv", "q;p;n\n\"a;b\";c;d\ne;f;g\n")
    let named = try PairSetTests.pairs(other) { ($0.query, $0.positive, $0.negativeColumns) = ("q", "p", ["n"]) }.get()
    #expect(named.pairs[0].query.text == "a;b" && named.pairs[0].negatives == [Item(text: "d")])
    #expect(named.pairs[1].id == "line 3")
    let tabs = try directory.write("t.tsv", "anchor\tanswer\n\"a\tb\"\t\"c\nd\"\nx\t\"y \"\"z\"\"\"\n")
    let tabbed = try PairSetTests.pairs(tabs).get()
    #expect(tabbed.pairs.map(\.query.text) == ["a\tb", "x"] && tabbed.pairs[0].positive.text == "c\nd")
    #expect(tabbed.pairs[1].positive.text == "y \"z\"")
    // Quotes that are characters: after one of them something follows, or it would swallow rows.
    for (cell, other) in [("\"5 inch\" disk", "y"), ("\"y", "z\""), ("\"y", "z")] {
      let plain = try directory.write("u.tsv", "anchor\tanswer\nx\t\(cell)\nw\t\(other)\n")
      #expect(try PairSetTests.pairs(plain).get().pairs.map(\.positive.text) == [cell, other])
    }
    let lines = try directory.write(
      "t.jsonl", #"{"query":"a","positive":3}"# + "\n" + #"{"positive":"c","query":"b"}"# + "\n")
    #expect(try PairSetTests.pairs(lines).get().pairs.map(\.positive.text) == ["3", "c"])
  }

  static let refused: [(name: String, text: [UInt8], words: String)] = [
    ("t.csv", Array("query,positive\na,\"b\nc\n".utf8), "t.csv: line 2: a quoted cell begins here and does not end"),
    ("t.csv", Array("query,positive\n\"a\nb\"c,d\n".utf8), "line 3: found \"c\" after a quoted cell"),
    ("t.csv", Array("query,positive\n\"a\nb\",d\ne\n".utf8), "line 4: 1 cells; the header has 2"),
    ("t.csv", Array("query,positive\na,".utf8) + [0xFF], "line 2: the cell"),
    ("t.csv", [0xFF, 0xFE, 0x61, 0x00], "UTF-16"), ("t.csv", [], "empty"),
    ("t.csv", Array("query,positive\n".utf8), "no rows"), ("t.csv", Array("a,b\nc,d\n".utf8), "--query COL"),
    ("t.csv", Array("query,b\nc,d\n".utf8), "--positive COL"),
    ("t.csv", Array("query,positive\n,d\n".utf8), "no row has both"),
    ("t.csv", Array(String(repeating: ",", count: 5_000).utf8), "more than 1000 columns"),
    ("t.jsonl", Array("{\"query\":\"a\"\n".utf8), "line 1"), ("t.txt", Array("a\n".utf8), "a table ends in"),
    ("d/corpus.jsonl", Array("{\"_id\":\"d\",\"text\":\"a\"}\n".utf8), "nor pictures"),
  ]

  @Test("a hostile source gets one line with file, place, what was found and expected", arguments: refused.indices)
  func aHostileSourceGetsOneLine(_ row: Int) throws {
    let (name, text, words) = PairSetTests.refused[row]
    let directory = try TemporaryDirectory()
    let path = try directory.write(name, text)
    let message = PairSetTests.refusal(name.hasPrefix("d/") ? directory.path + "/d" : path)
    #expect(message.contains(words) && !message.contains("\n"), "\(message)")
  }

  @Test("an unknown column is said with the nearest there is")
  func anUnknownColumn() throws {
    let directory = try TemporaryDirectory()
    let path = try directory.write("t.csv", "query,answer\na,b\n")
    let message = PairSetTests.refusal(path) { $0.positive = "anwser" }
    #expect(message.contains("did you mean \"answer\"?") && message.contains("it has query, answer"), "\(message)")
    let twice = try directory.write("u.csv", "query,a,a\nx,b,c\n")
    #expect(PairSetTests.refusal(twice) { $0.positive = "a" }.contains("2 times"))
  }

  /// Twenty documents in BEIR's layout; each query is for the document of its number.
  static func benchmark(_ judgements: String, named name: String = "qrels/test.tsv") throws -> TemporaryDirectory {
    let directory = try TemporaryDirectory()
    let corpus = (0..<20).map { #"{"_id":"d\#($0)","title":"Title \#($0)","text":"text \#($0)","metadata":{}}"# }
    try directory.write("corpus.jsonl", corpus.joined(separator: "\n"))
    let queries = (0..<4).map { #"{"_id":"q\#($0)","text":"query \#($0)"}"# }
    try directory.write("queries.jsonl", queries.joined(separator: "\n"))
    try directory.write(name, judgements)
    return directory
  }

  @Test("of a benchmark's queries each gets its best document, and negatives that nobody calls relevant")
  func ofABenchmarkEachQueryGetsItsBestDocument() throws {
    let judgements = "query-id\tcorpus-id\tscore\nq0\td3\t1\nq0\td4\t2\nq0\td5\t0\nq1\td1\t1\nq2\td2\t0\nq9\td1\t1\n"
    let directory = try PairSetTests.benchmark(judgements)
    let set = try PairSetTests.pairs(directory.path).get()
    #expect(set.pairs.map(\.id) == ["q0", "q1"] && set.pairs[0].positive.text == "Title 4 text 4")
    let negatives = set.pairs[0].negatives.map(\.text)
    #expect(negatives.count == 5 && negatives[0] == "Title 5 text 5" && Set(negatives).count == 5)
    #expect(!negatives.contains("Title 3 text 3") && !negatives.contains("Title 4 text 4"))
    #expect(set.notes.count == 3, "\(set.notes)")
    #expect(try PairSetTests.pairs(directory.path).get().pairs == set.pairs, "every run draws the same")
    #expect(try PairSetTests.pairs(directory.path) { $0.negatives = 100 }.get().pairs[1].negatives.count == 19)
    #expect(try PairSetTests.pairs(directory.path) { $0.negatives = 0 }.get().pairs[1].negatives.isEmpty)
    for (name, text) in [
      ("qrels/test.jsonl", #"{"query-id":"q1","corpus-id":"d7","score":1}"#), ("qrels.txt", "q1 0 d7 1"),
      ("clicks.tsv", "query 1\td7\nquery 1\td6\nquery 1\td7\n"), ("qrels.csv", "qid,docid,score\nq1,d7,1\n"),
    ] {
      let other = try PairSetTests.benchmark(text, named: name)
      #expect(try PairSetTests.pairs(other.path).get().pairs.map(\.positive.text) == ["Title 7 text 7"], "\(name)")
    }
    for (text, words) in [
      ("query-id\tcorpus-id\tscore\nq0\td3\tx\n", "line 2: found the score \"x\"; a number"),
      ("x\td1\t1\n", "line 1: the query \"x\" is not in"), ("q0\ty\t1\n", "the document \"y\" is not in"),
      ("q0\td1\t0\n", "no query has a relevant document"), ("q0 a b c d\n", "5 columns"), ("\n", "no judgements"),
    ] {
      let other = try PairSetTests.benchmark(text)
      let message = PairSetTests.refusal(other.path)
      #expect(message.contains(words) && !message.contains("\n"), "\(message)")
    }
  }

  @Test("a query log without clicks is paired by words, and says so")
  func aQueryLogWithoutClicksIsPairedByWords() throws {
    let directory = try TemporaryDirectory()
    try directory.write("queries.txt", "red fox\n\nlazy dogs sleep\nnothing of these\n")
    try directory.write(
      "documents.jsonl", #"{"id":1,"text":"a lazy dog"}"# + "\n\"The red fox\"\n{\"text\":\"dogs sleep\"}\n")
    let set = try PairSetTests.pairs(directory.path) { $0.negatives = 1 }.get()
    #expect(set.pairs.map(\.id) == ["1", "3"] && set.pairs.map(\.positive.text) == ["The red fox", "dogs sleep"])
    #expect(set.notes.contains { $0.contains("BM25") } && set.pairs.allSatisfy { $0.negatives.count == 1 })
    try directory.write("clicks.tsv", "1\t1\n")
    #expect(try PairSetTests.pairs(directory.path).get().pairs.map(\.positive.text) == ["a lazy dog"])
  }

  @Test("captions beside pictures, and those of imagefolder's tables, find their pictures")
  func captionsFindTheirPictures() throws {
    let directory = try TemporaryDirectory()
    for name in ["p/a.jpg", "p/dog/b.PNG", "p/c.png"] { try directory.write(name, "no picture") }
    try directory.write("p/a.txt", " a caption\n")
    try directory.write("p/dog/b.txt", "a dog")
    let set = try PairSetTests.pairs(directory.path + "/p").get()
    #expect(set.pairs.map(\.query.text) == ["a caption", "a dog"] && set.pairs.map(\.label) == [nil, "dog"])
    #expect(set.pairs.map(\.positive.images) == [[directory.path + "/p/a.jpg"], [directory.path + "/p/dog/b.PNG"]])
    #expect(set.notes.count == 1 && set.notes[0].hasPrefix("1 of 3 pictures"))
    try directory.write(
      "p/metadata.jsonl", "{\"file_name\":\"c.png\",\"text\":\"sea\"}\n{\"file_name\":\"gone.png\",\"text\":\"x\"}\n")
    let table = try PairSetTests.pairs(directory.path + "/p/").get()
    #expect(table.pairs.count == 1 && table.pairs[0].query.text == "sea" && table.notes.count == 1)
    try directory.write("p/metadata.jsonl", "{\"file_name\":\"../x.png\",\"text\":\"sea\"}\n")
    let outside = PairSetTests.refusal(directory.path + "/p")
    #expect(outside.contains("line 1: the file name \"../x.png\" does not stay below"), "\(outside)")
    let csv = try directory.write("p/t.csv", "caption,picture\nsea,c.png\n")
    let cells = try PairSetTests.pairs(csv) { ($0.query, $0.positive) = ("caption", "picture") }.get()
    #expect(cells.pairs[0].positive.images == [directory.path + "/p/c.png"] && cells.pairs[0].positive.text == nil)
  }

  @Test("negatives drawn for a table are positives of other queries")
  func negativesDrawnForATable() throws {
    let directory = try TemporaryDirectory()
    let rows = (0..<30).map { "q\($0 / 2),p\($0)" }.joined(separator: "\n")
    let path = try directory.write("t.csv", "query,positive\n" + rows)
    let set = try PairSetTests.pairs(path) { $0.negatives = 4 }.get()
    for (index, pair) in set.pairs.enumerated() {
      #expect(pair.negatives.count == 4 && Set(pair.negatives).count == 4)
      #expect(!pair.negatives.contains { [index / 2 * 2, index / 2 * 2 + 1].map { "p\($0)" }.contains($0.text ?? "") })
    }
  }
}
