import Foundation
import TestSupport
import Testing

/// The house rules that a machine can hold.
struct LayerTests {
  /// By folder of `Sources`; Docs/explanation/architecture.md draws this table.
  static let mayImport: [String: Set<String>] = [
    "CKernels": [], "Bytes": ["CLZ4", "CKernels"], "Tensors": ["Bytes", "CKernels"],
    "Formats": ["Bytes", "Tensors", "CKernels"],
    "Passes": ["Bytes", "Tensors", "CKernels"], "CImages": [], "Inputs": ["Bytes", "Tensors", "CImages"],
    "Inference": ["Bytes", "Tensors", "CKernels"], "CGPU": [],
    "GPU": ["Bytes", "Tensors", "Inference", "CKernels", "CGPU"],
    "Fidelity": ["Bytes", "Tensors", "CKernels"],
    "Calibration": ["Bytes", "Tensors", "Passes", "Inference", "Fidelity", "CKernels", "COpenBLAS"],
    "Gradients": ["Bytes", "Tensors", "Inference", "Fidelity", "CKernels"],
    "Library": [
      "Bytes", "Tensors", "Formats", "Passes", "Inputs", "Inference", "GPU", "Fidelity", "Calibration", "Gradients",
    ],
    "CLLVConv": [], "CInterface": ["Bytes", "Inputs", "CLLVConv", "LLVConv"],
    "llvconv": [
      "LLVConv", "Bytes", "Tensors", "Formats", "Passes", "Inputs", "Inference", "GPU", "Fidelity", "Calibration",
      "Gradients", "COpenBLAS",
    ],
  ]
  static let system: Set<String> = ["Glibc", "Dispatch", "Synchronization"]

  static func sources(_ target: String) -> [(name: String, lines: [String])] {
    let folder = Repository.root + "/Sources/" + target
    let names = FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? []
    // A catalogue's are texts for readers.
    return names.filter { $0.hasSuffix(".swift") && !$0.contains(".docc/") }.sorted().map { name in
      let text = (try? String(contentsOfFile: folder + "/" + name, encoding: .utf8)) ?? ""
      return ("\(target)/\(name)", text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init))
    }
  }

  @Test("imports go down the table and nowhere else")
  func importsGoDownTheTableAndNowhereElse() {
    let targets = (try? FileManager.default.contentsOfDirectory(atPath: Repository.root + "/Sources")) ?? []
    #expect(targets.count >= 10)
    for target in targets where target != "CLZ4" && target != "COpenBLAS" {
      guard let allowed = LayerTests.mayImport[target] else {
        Issue.record("target \(target) is not in the table")
        continue
      }
      for (name, lines) in LayerTests.sources(target) {
        for line in lines where line.hasPrefix("import ") || line.hasPrefix("@_exported import struct ") {
          let path = line.split(separator: " ").last ?? ""
          let module = String(path.prefix { $0 != "." })
          #expect(allowed.contains(module) || LayerTests.system.contains(module), "\(name) imports \(module)")
        }
      }
    }
  }

  @Test("nothing in the sources can trap on purpose, and no line is left unfinished")
  func nothingInTheSourcesCanTrapOnPurposeAndNoLineIsLeftUnfinished() throws {
    let banned = ["try!", "as!", "fatalError(", "TODO", "FIXME", "unsafeBitCast", "!.", "!)"]
    for target in LayerTests.mayImport.keys.sorted() {
      for (name, lines) in LayerTests.sources(target) where !name.hasSuffix("UnicodeTables.swift") {
        for (number, line) in lines.enumerated() {
          let code = LayerTests.code(line)
          for word in banned where code.contains(word) {
            Issue.record("\(name):\(number + 1) has \(word)")
          }
        }
      }
    }
  }

  /// A line without its comment and its texts.
  static func code(_ line: String) -> String {
    let trimmed = line.trimmingCharacters(in: .whitespaces)
    if trimmed.hasPrefix("//") || trimmed.hasPrefix("<") || trimmed.hasPrefix("h1 {") { return "" }
    var result = ""
    var isText = false
    for character in trimmed {
      if character == "\"" { isText.toggle() } else if !isText { result.append(character) }
    }
    return result.replacingOccurrences(of: "!=", with: "")
  }
}
