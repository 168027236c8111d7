import Bytes
import Passes
import Tensors
import TestSupport
import Testing

/// What fused weights were made of, and mean squares of their inputs before and after.
struct FusedWeightTests {
  static func models() throws -> [(name: String, model: Model)] {
    [
      ("pre-norm", try FusionTests.preNorm()), ("uneven", try FusionTests.uneven()), ("bert", try FusionTests.bert()),
      ("llave", try FusionTests.llave()),
    ]
  }

  @Test("every linear weight is a member of one fused weight, and fits it")
  func everyLinearWeightIsAMember() throws {
    for (name, model) in try FusedWeightTests.models() {
      var (fused, notes) = (model, [String]())
      try Pass.run(Pass.fusions, on: &fused, notes: &notes)
      let own = FusedWeight.all(of: model, from: model)
      #expect(own.allSatisfy { $0.members == [$0.name] }, "\(name)")
      let all = FusedWeight.all(of: fused, from: model)
      #expect(all.count < own.count, "\(name): nothing was fused")
      #expect(Set(all.flatMap(\.members)) == Set(own.map(\.name)), "\(name)")
      for weight in all {
        let members = weight.members.compactMap { model[$0]?.matrix }
        let whole = try #require(fused[weight.name]).matrix
        #expect(members.reduce(0) { $0 + $1.rows } <= whole.rows, "\(name): \(weight.name.text)")
        #expect(members.allSatisfy { $0.columns <= whole.columns }, "\(name): \(weight.name.text)")
      }
    }
  }

  @Test("mean squares before a fold are those of the gain times what is seen, plus the shift, and lead back")
  func meanSquaresBeforeAFold() throws {
    let model = try FusionTests.preNorm()
    var (fused, notes) = (model, [String]())
    try Pass.run(Pass.fusions, on: &fused, notes: &notes)
    let all = FusedWeight.all(of: fused, from: model)
    func weight(_ member: TensorName) throws -> FusedWeight { try #require(all.first { $0.members.contains(member) }) }
    // Two tokens, 16 columns.
    var random = Random(seed: 5)
    let tokens = (0..<2).map { _ in (0..<16).map { _ in random.normal() } }
    func means(_ of: (Float, Int) -> Float) -> [Float] {
      (0..<16).map { column in (of(tokens[0][column], column) + of(tokens[1][column], column)) / 2 }
    }
    let (squares, firsts) = (means { x, _ in x * x }, means { x, _ in x })
    for (member, gain, shift) in [("k.weight", "norm.gain", nil), ("up.weight", "mlp.gain", "mlp.shift")] {
      let g = try #require(model[TensorName(gain)]).floats().array(of: Float.self)
      let h = try shift.map { try #require(model[TensorName($0)]).floats().array(of: Float.self) }
      let expected = means { x, column in
        let y = g[column] * x + (h?[column] ?? 0)
        return y * y
      }
      let fold = try weight(TensorName(member))
      let found = try fold.squaresBefore(squares, means: firsts, columns: 16)
      #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= 1e-5 * max(1, $1) }, "\(member)")
      let back = try fold.squaresAfter(found, columns: 20)
      // A shift cannot be taken back from squares alone.
      #expect((back == nil) == (shift != nil), "\(member)")
      if let back {
        #expect(back.count == 20 && back.suffix(4).allSatisfy { $0 == 0 })
        #expect(zip(back, squares).allSatisfy { abs($0 - $1) <= 1e-5 * max(1, $1) }, "\(member)")
      }
    }
    let plain = try weight("o.weight")
    #expect(try plain.squaresBefore(squares, means: firsts, columns: 16) == squares)
    #expect(throws: Failure.self) { try plain.squaresBefore(squares, means: firsts, columns: 17) }
    #expect(throws: Failure.self) { try plain.squaresAfter(squares, columns: 15) }
  }
}
