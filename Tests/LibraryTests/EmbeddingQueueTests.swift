import LLVConv
import TestSupport
import Testing

/// Items of many callers.
struct EmbeddingQueueTests {
  @Test("a thousand callers at once get the vectors that each alone would get")
  func aThousandCallersAtOnce() async throws {
    let path = try EmbeddingModelTests.path()
    let model = try EmbeddingModel(path)
    var options = EmbeddingQueue.Options()
    (options.largestBatch, options.capacity) = (32, 50)
    let queue = EmbeddingQueue(model, options: options)
    let texts = (0..<1_000).map { "hello world \(["the", "quick", "brown", "fox"][$0 % 4]) a\($0 % 13)" }
    let expected = try model.embed(texts)
    let found = try await withThrowingTaskGroup(of: (Int, [Float]).self) { group in
      for (index, text) in texts.enumerated() {
        group.addTask { (index, try await queue.embed(text)) }
      }
      return try await group.reduce(into: [Int: [Float]]()) { $0[$1.0] = $1.1 }
    }
    #expect(found.count == texts.count && texts.indices.allSatisfy { found[$0] == expected[$0] })
  }

  @Test("what is cancelled ends with CancellationError, and all others get their vectors")
  func whatIsCancelledEnds() async throws {
    let path = try EmbeddingModelTests.path()
    let model = try EmbeddingModel(path)
    var options = EmbeddingQueue.Options()
    (options.largestBatch, options.capacity) = (4, 8)
    let queue = EmbeddingQueue(model, options: options)
    let tasks = (0..<400).map { index in Task { try await queue.embed("the fox a\(index)") } }
    for index in stride(from: 1, to: 400, by: 2) { tasks[index].cancel() }
    var cancelled = 0
    for (index, task) in tasks.enumerated() {
      switch await task.result {
      case .success(let vector): #expect(vector.count == model.dimensions)
      case .failure(let error):
        #expect(error is CancellationError && index % 2 == 1)
        cancelled += 1
      }
    }
    #expect(cancelled > 0)
    // Nothing is left behind: the queue works on.
    #expect(try await queue.embed("fox") == model.embed("fox"))
  }

  @Test("a full queue refuses where it is told to, and a bad item fails alone")
  func aFullQueueRefuses() async throws {
    let path = try EmbeddingModelTests.path()
    let model = try EmbeddingModel(path)
    var options = EmbeddingQueue.Options()
    (options.largestBatch, options.capacity, options.refusesWhenFull) = (1, 2, true)
    let queue = EmbeddingQueue(model, options: options)
    let outcomes = await withTaskGroup(of: Failure.Kind?.self) { group in
      for _ in 0..<200 {
        group.addTask {
          do {
            _ = try await queue.embed("hello world the quick brown fox")
            return nil
          } catch { return (error as? Failure)?.kind }
        }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(outcomes.contains(nil) && outcomes.contains(.limit))
    #expect(outcomes.allSatisfy { $0 == nil || $0 == .limit })
    let bad = await #expect(throws: Failure.self) { try await queue.embed(Item(images: ["none.png"])) }
    #expect(bad?.kind == .unsupported)
    let unknown = await #expect(throws: Failure.self) { try await queue.embed("a", prompt: "none") }
    #expect(unknown?.kind == .usage)
  }
}
