import Bytes
import Calibration
import Fidelity
import Glibc
import Passes
import TestSupport
import Tensors
import Testing

/// Choosing bits.
struct PlanTests {
  @Test("the best combination is found, as trying all finds it", arguments: 0..<20)
  func theBestCombinationIsFound(_ seed: UInt64) throws {
    var random = Random(seed: seed)
    func number(_ range: ClosedRange<Int>) -> Int { range.lowerBound + Int(random.next() % UInt64(range.count)) }
    let options = (0..<6).map { _ in
      (0..<number(1...4)).map { _ in Allocation.Option(bytes: number(1...900), cost: Double(number(0...1_000))) }
    }
    let least = options.reduce(0) { $0 + ($1.map(\.bytes).min() ?? 0) }
    let budget = least + number(0...2_000)
    var best = Double.infinity
    func search(_ place: Int, _ bytes: Int, _ cost: Double) {
      guard bytes <= budget else { return }
      guard place < options.count else { return best = min(best, cost) }
      for option in options[place] { search(place + 1, bytes + option.bytes, cost + option.cost) }
    }
    search(0, 0, 0)
    let found = try #require(Allocation.best(options, budget: budget))
    let taken = zip(options, found).map { $0[$1] }
    #expect(taken.reduce(0) { $0 + $1.bytes } <= budget)
    #expect(taken.reduce(0) { $0 + $1.cost } == best)
    #expect(Allocation.best(options, budget: least - 1) == nil)
  }

  @Test("objectives are what their definitions say")
  func objectivesAreWhatTheirDefinitionsSay() throws {
    // Two queries, three documents, in a plane; the first query's margin to document 1 changes alone.
    func unit(_ degrees: [Double]) -> Embeddings {
      Embeddings(width: 2, values: degrees.flatMap { [Float(cosine($0)), Float(cosine($0 - 90))] })
    }
    let before = (queries: unit([0, 90]), documents: unit([10, 60, 80]))
    let moved = (queries: unit([0, 90]), documents: unit([10, 50, 80]))
    let labels = Objective.Labels(positives: [0, 2])
    let mse = try Objective.mse.cost(reference: before, moved: moved, labels: labels)
    #expect(abs(mse - 2 * (1 - cosine(10)) / 5) < 1e-6)
    // Of the first query's negatives weigh exp(59 cos 60°) and exp(59 cos 80°), of the second's exp(59 cos 80°) and
    // exp(59 cos 30°).
    let (a, b) = (exp(59 * cosine(60)), exp(59 * cosine(80)))
    let (c, d) = (exp(59 * cosine(80)), exp(59 * cosine(30)))
    let first = a / (a + b) * square(cosine(60) - cosine(50))
    let second = d / (c + d) * square(cosine(30) - cosine(40))
    let margin = try Objective.margin(alpha: 9).cost(reference: before, moved: moved, labels: labels)
    #expect(abs(margin - (first + second) / 2) < 1e-6)
    func loss(_ positive: Double, _ others: [Double]) -> Double {
      log(others.reduce(exp(50 * positive)) { $0 + exp(50 * $1) }) - 50 * positive
    }
    let firstChange =
      loss(cosine(10), [cosine(50), cosine(80)]) - loss(cosine(10), [cosine(60), cosine(80)])
    let secondChange =
      loss(cosine(10), [cosine(80), cosine(40)]) - loss(cosine(10), [cosine(80), cosine(30)])
    let infonce = try Objective.infonce.cost(reference: before, moved: moved, labels: labels)
    #expect(abs(infonce - (square(firstChange) + square(secondChange)) / 2) < 1e-6 * infonce)
    let nearest = try Objective.Labels(nearest: before.documents)
    #expect(nearest.positives == [1, 2, 1])
  }

  @Test("a calibration of wrong shapes, or with NaN, is refused", arguments: ["shape", "empty", "moved", "none"])
  func aBadCalibrationIsRefused(_ what: String) throws {
    var (model, _, _) = try TinyLlave.samples()
    var notes: [String] = []
    try Pass.run(Pass.fusions, on: &model, notes: &notes)
    let names = try Pass.quantizableWeights(of: model)
    var tensors = try ["embeddings"].map { try Tensor($0, floats: [1, 0, 0, 1], shape: [2, 2]) }
    tensors.append(
      Tensor("positives", shape: [0], encoding: .plain(.I32), content: .bytes(ByteView(try Buffer(count: 0)))))
    for name in names {
      tensors.append(
        try Tensor(Sensitivity.moved(name), floats: [what == "moved" ? .nan : 1, 0, 0, 1], shape: [2, 2]))
    }
    if what == "shape" { tensors.append(try Tensor(names[0], floats: [1, 2], shape: [1, 2])) }
    if what == "empty" { tensors.append(try Tensor(names[0], floats: [], shape: [3, 0])) }
    func planner() throws -> Planner {
      try Planner(
        model, checksum: "", calibration: Calibration(tensors), objective: .mse, input: .float, threads: 2)
    }
    if what == "none" {
      #expect(try planner().plan(bytes: 1 << 30).entries.count == names.count)
    } else {
      #expect(throws: Failure.self) { try planner() }
    }
  }

  @Test("every so many layers are measured, and the last")
  func everySoManyLayersAreMeasured() {
    let names = (0..<9).map { TensorName("a.layers.\($0).b.weight") } + ["table", "a.layers.1.c"]
    let found = Sensitivity.spread(names, every: 3).map(\.text).sorted()
    #expect(
      found == [
        "a.layers.0.b.weight", "a.layers.1.c", "a.layers.3.b.weight", "a.layers.6.b.weight", "a.layers.8.b.weight",
        "table",
      ])
  }

  @Test("a plan is read as it was written, and a bad one is refused")
  func aPlanIsReadAsItWasWritten() throws {
    var plan = Plan(
      model: "abc", input: .int8,
      entries: [
        .init(name: "a", choice: try #require(WeightChoice("4:g64")), hasFloatInput: true, cost: 1, relativeError: 0.1),
        .init(name: "b", choice: .keep),
      ])
    plan.notes = [("objective", "mse")]
    #expect(!plan.json.text().contains("views") && plan.changesWeights)
    plan.layout = PictureLayout(views: 3, pooling: 2)
    let read = try Plan(try JSON.parse(plan.json.bytes(pretty: true), what: "plan"))
    #expect(read.entries.map(\.name) == plan.entries.map(\.name) && read.recipe.json == plan.recipe.json)
    #expect(read.layout == plan.layout)
    for (old, new) in [
      ("4:g64:two-level", "9:g64"), ("llvconv plan", "plan"), ("\"b\"", "\"a\""), ("int8", "int7"),
      ("\"cost\"", "\"coast\""), ("\"views\":3", "\"views\":0"), ("\"views\":3", "\"views\":\"3\""),
      ("\"pool_pictures\":2", "\"pool_pictures\":3"), ("\"pool_pictures\"", "\"pool\""),
    ] {
      let bad = plan.json.text().replacing(old, with: new)
      #expect(throws: Failure.self, "\(new)") { try Plan(try JSON.parse(Array(bad.utf8), what: "plan")) }
    }
  }

  private func cosine(_ degrees: Double) -> Double { cos(degrees * .pi / 180) }
  private func square(_ x: Double) -> Double { x * x }
}
