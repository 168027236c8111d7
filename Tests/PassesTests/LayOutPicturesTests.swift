import Bytes
import Inference
import Passes
import Tensors
import TestSupport
import Testing

/// Passes that change how pictures are laid out, and nothing else.
struct LayOutPicturesTests {
  static func run(_ layout: PictureLayout, on model: inout Model) throws(Failure) -> [String] {
    var notes: [String] = []
    try Pass.run(layout.passes, on: &model, notes: &notes)
    return notes
  }

  @Test("only the configuration changes, and the model stays valid", arguments: [1, 2, 3, 5], [nil, 2])
  func onlyTheConfigurationChanges(_ views: Int, _ pooling: Int?) throws {
    let before = try TinyLlave.model()
    var after = before
    let layout = PictureLayout(views: views, pooling: pooling)
    let notes = try LayOutPicturesTests.run(layout, on: &after)
    #expect(notes.count == (views == 5 ? 1 : 0), "\(notes)")
    let vision = try #require(after.configuration.vision)
    #expect(vision == layout.applied(to: try #require(before.configuration.vision)))
    #expect(vision.grid.count == [1: 0, 2: 1, 3: 3, 5: 4][views] && vision.pooling == pooling ?? 1)
    #expect(vision.grid.allSatisfy { vision.tiles($0) < views })
    #expect(after.graphs.map(\.graph) == before.graphs.map(\.graph))
    #expect(after.tensors.map(\.name) == before.tensors.map(\.name))
    var same = after.configuration
    same.vision = before.configuration.vision
    #expect(same == before.configuration)
    // The order of the two does not matter, nor does another pass between them.
    var other = before
    var ignored: [String] = []
    try Pass.run(layout.passes.reversed(), on: &other, notes: &ignored)
    #expect(other.configuration == after.configuration)
    try Pass.run(Pass.fusions, on: &after, notes: &ignored)
    #expect(after.configuration == other.configuration)
  }

  @Test("what cannot be laid out otherwise is refused in a line")
  func whatCannotBeLaidOutIsRefused() throws {
    let llave = try TinyLlave.model()
    var tower = llave
    tower.graphs.removeAll { $0.name == "projector" }
    let text = try FusionTests.preNorm()
    for (model, layout, words) in [
      (text, PictureLayout(views: 2), "--views is for models of text and pictures"),
      (text, PictureLayout(pooling: 2), "--pool-pictures is for models of text and pictures"),
      (tower, PictureLayout(views: 2), "sees one view"), (llave, PictureLayout(views: 0), "at least one view"),
      (llave, PictureLayout(pooling: 3), "pooled by 2"),
    ] {
      var copy = model
      let result = outcome { () throws(Failure) in try LayOutPicturesTests.run(layout, on: &copy) }
      guard case .failure(let failure) = result else {
        Issue.record("\(layout) was accepted")
        continue
      }
      #expect(failure.kind == .usage && failure.description.contains(words), "\(failure)")
    }
  }

  @Test("what changes nothing, or leaves one view where more were asked for, is said")
  func whatChangesNothingIsSaid() throws {
    var model = try TinyLlave.model()
    #expect(try LayOutPicturesTests.run(.init(views: 9), on: &model).first?.contains("changes nothing") == true)
    #expect(try LayOutPicturesTests.run(.init(pooling: 2), on: &model).isEmpty)
    #expect(try LayOutPicturesTests.run(.init(pooling: 2), on: &model).first?.contains("already") == true)
    model.configuration.vision?.grid.removeFirst()
    #expect(try LayOutPicturesTests.run(.init(views: 2), on: &model).first?.contains("one view") == true)
    #expect(model.configuration.vision?.grid.isEmpty == true)
  }
}
