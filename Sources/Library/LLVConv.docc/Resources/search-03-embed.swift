import LLVConv

try Conversion.importModel("all-MiniLM-L6-v2", to: "minilm.llv", options: ["force": true])
try Conversion.quantize("minilm.llv", to: "minilm-8bit.llv", options: ["bits": 8, "force": true])

let model = try EmbeddingModel("minilm-8bit.llv")
let documents = ["foxes hunt at night", "the harbour was built in 1850", "a queen moves in any direction"]
let vectors = try model.embed(documents)
let question = try model.embed("when was the port made?")
let cosines = vectors.map { zip($0, question).reduce(0) { $0 + $1.0 * $1.1 } }
print(documents[cosines.indices.max { cosines[$0] < cosines[$1] } ?? 0])
