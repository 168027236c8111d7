import Bytes
import Formats

/// The items of anchors for another program to embed, as lines that `embed` reads: what `anchors --items` does.
package struct AnchorItemsJob {
  private let arguments: Arguments

  package init(_ arguments: Arguments) { self.arguments = arguments }

  /// Writes the lines, and the pictures into a folder beside them, which appears first.
  package func run() throws(Failure) -> (anchors: String, path: String) {
    guard let source = arguments.positionals.first else { throw Failure(.usage, "--items needs FILE.anchors") }
    let path = try arguments.required("--items")
    let anchors = try AnchorFile(source)
    let output = try arguments.output("--items")
    let folder = path + ".pictures"
    if !anchors.pictures.isEmpty {
      let directory = try OutputDirectory(folder)
      for (place, picture) in anchors.pictures.enumerated() { try directory.write("\(place)", try picture.bytes()) }
      try directory.commit()
    }
    for item in anchors.items {
      var members: [(String, JSONText)] = [("id", .string(item.id))]
      if let text = item.text { members.append(("text", .string(text))) }
      if let instruction = item.instruction { members.append(("instruction", .string(instruction))) }
      if !item.pictures.isEmpty {
        members.append(("images", .array(item.pictures.map { .string("\(fileName(folder))/\($0)") })))
      }
      try output?.write(JSONText.object(members).bytes() + [UInt8(ascii: "\n")])
    }
    try output?.commit()
    return (source, path)
  }
}
