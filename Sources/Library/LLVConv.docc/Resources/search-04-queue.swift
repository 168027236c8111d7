import LLVConv

let model = try EmbeddingModel("minilm-8bit.llv")
let queue = EmbeddingQueue(model)

// Each caller waits for its own vector; the model sees batches.
let vectors = try await withThrowingTaskGroup(of: [Float].self) { group in
  for text in ["foxes hunt at night", "the harbour was built in 1850"] {
    group.addTask { try await queue.embed(text) }
  }
  return try await group.reduce(into: []) { $0.append($1) }
}
print(vectors.count)
