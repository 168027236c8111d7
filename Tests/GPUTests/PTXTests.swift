import Bytes
import Foundation
import GPU
import TestSupport
import Testing

/// The committed PTX, as far as it can be held without a GPU. Launches check the parameters of each entry against what
/// they pass.
struct PTXTests {
  @Test("the PTX was made from the sources beside it")
  func thePTXWasMadeFromTheSources() throws {
    let folder = Repository.root + "/Sources/CGPU/kernels"
    let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
    let files = names.filter { $0.hasSuffix(".h") } + names.filter { $0.hasSuffix(".cu") }
    var hash = SHA256()
    for name in files { try Repository.read(folder + "/" + name).withUnsafeBytes { hash.update($0) } }
    let sum = hash.text()
    for module in Module.allCases {
      let text = String(cString: module.text)
      #expect(text.prefix(while: { $0 != "\n" }).hasSuffix(sum), "\(module.rawValue).ptx is stale: run Tools/make-ptx")
      let (version, target) = module == .hopper ? ("8.0", "sm_90a") : ("7.0", "sm_80")
      #expect(text.contains(".version \(version)\n") && text.contains(".target \(target)\n"), "\(module)")
      // Called functions and local memory would mean that something was not inlined or does not fit the registers.
      #expect(!text.contains("call.uni") && !text.contains(".local .align"), "\(module)")
    }
  }

  @Test("every kernel is an entry of its module, and every entry a kernel")
  func everyKernelIsAnEntry() throws {
    for module in Module.allCases {
      let entries = String(cString: module.text).components(separatedBy: ".entry ").dropFirst().map {
        String($0.prefix { $0 != "(" })
      }
      #expect(Set(entries) == Set(Kernel.all.filter { $0.module == module }.map(\.name)), "\(module)")
    }
    for kernel in Kernel.all {
      #expect(try !kernel.module.arguments(of: kernel.name).isEmpty, "\(kernel.name)")
    }
  }
}
