import Bytes

/// Pictures below a folder.
enum Pictures {
  private static let endings = [".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"]
  private static let mostFolders = 8
  private static let most = 10_000_000

  static func isPicture(_ name: String) -> Bool {
    let name = name.lowercased()
    return endings.contains(where: name.hasSuffix)
  }

  /// Names below `folder`, sorted folder by folder.
  static func names(in folder: String) throws(Failure) -> [String] {
    var names: [String] = []
    func walk(_ prefix: String, _ depth: Int) throws(Failure) {
      for name in try fileNames(in: folder + prefix) where !name.hasPrefix(".") {
        if isPicture(name) {
          guard names.count < most else { throw Failure(.limit, "more than \(most) pictures", file: folder) }
          names.append(prefix + name)
        } else if depth < mostFolders, isDirectory(folder + prefix + name) {
          try walk(prefix + name + "/", depth + 1)
        }
      }
    }
    try walk("", 0)
    return names
  }

  static func withoutEnding(_ name: String) -> String {
    guard let dot = name.utf8.lastIndex(of: UInt8(ascii: ".")) else { return name }
    return String(name[..<dot])
  }
}

extension PairSet {
  private static let captionTables = [
    "metadata.csv", "metadata.jsonl", "captions.csv", "captions.tsv", "captions.jsonl",
  ]
  private static let fileNameColumns = ["file_name", "filename", "file", "image", "image_path", "path"]
  private static let captionColumns = ["text", "caption", "prompt", "description"]
  private static let longestCaption = 1 << 20

  /// A caption and the picture it should find: of a folder with a table as datasets' imagefolder has it, or with a text
  /// beside each picture. A picture in a folder of its class has that label.
  static func captioned(_ folder: String, _ options: Options) throws(Failure) -> PairSet {
    var result = PairSet()
    if let name = captionTables.first(where: { exists(folder + $0) }) {
      try result.addCaptions(try Table(folder + name), folder, options)
    } else {
      try result.addCaptions(besidePictures: folder)
    }
    guard !result.pairs.isEmpty else {
      throw Failure(.malformed, "no picture has a caption: \(result.notes.joined(separator: "; "))", file: folder)
    }
    if let count = options.negatives { result.drawNegatives(count) }
    return result
  }

  private mutating func addCaptions(_ table: Table, _ folder: String, _ options: Options) throws(Failure) {
    func place(_ name: String?, _ usual: [String], _ what: String) throws(Failure) -> Int {
      if let name { return try table.column(name) }
      guard let place = table.column(among: usual) else {
        throw Failure(
          .malformed,
          "no column of \(what), as \(usual.joined(separator: ", ")); it has "
            + table.columns.prefix(20).map { Failure.escaped(Array($0.utf8), limit: 40) }.joined(separator: ", "),
          file: table.path)
      }
      return place
    }
    let file = try place(options.positive, PairSet.fileNameColumns, "file names")
    let caption = try place(options.query, PairSet.captionColumns, "captions")
    let label = try options.label.map { (name) throws(Failure) in try table.column(name) }
    var (empty, missing) = (0, 0)
    for row in table.rows.indices {
      let (name, text) = (table.cell(row, file), table.cell(row, caption))
      guard !name.hasPrefix("/"), !name.split(separator: "/").contains("..") else {
        throw Failure(
          .malformed, "the file name \(Failure.quoted(name)) does not stay below the folder", file: table.path,
          place: "line \(table.rows[row].line)")
      }
      guard !name.isEmpty, !text.isEmpty else {
        empty += 1
        continue
      }
      guard exists(folder + name) else {
        missing += 1
        continue
      }
      let own = label.map { table.cell(row, $0) }.flatMap { $0.isEmpty ? nil : $0 }
      add(text, name, folder, label: own ?? PairSet.label(name))
    }
    note(empty, "rows without a picture or a caption left out")
    note(missing, "rows left out whose picture is not there")
  }

  private mutating func addCaptions(besidePictures folder: String) throws(Failure) {
    let names = try Pictures.names(in: folder)
    guard !names.isEmpty else {
      throw Failure(
        .malformed, "neither \(Judged.expected) nor pictures in the folder", file: folder)
    }
    var without = 0
    for name in names {
      let path = folder + Pictures.withoutEnding(name) + ".txt"
      guard exists(path) else {
        without += 1
        continue
      }
      let bytes = try InputFile(path).all(limit: PairSet.longestCaption, what: "caption")
      guard let text = String(validating: JSONLines.withoutMark(bytes[...]), as: UTF8.self) else {
        throw Failure(.malformed, "the caption is not UTF-8 text", file: path)
      }
      if text.trimmed.isEmpty { without += 1 } else { add(text.trimmed, name, folder, label: PairSet.label(name)) }
    }
    note(without, "of \(names.count) pictures left out that have no caption beside them, as a.txt beside a.jpg")
  }

  private mutating func add(_ caption: String, _ name: String, _ folder: String, label: String?) {
    var pair = Pair(query: Item(text: caption), positive: Item(picture: folder + name))
    (pair.id, pair.label) = (name, label)
    pairs.append(pair)
  }

  /// The folder that a picture is in.
  private static func label(_ name: String) -> String? {
    let parts = name.split(separator: "/")
    return parts.count > 1 ? String(parts[parts.count - 2]) : nil
  }
}
