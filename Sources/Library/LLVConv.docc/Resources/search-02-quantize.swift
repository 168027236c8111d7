import LLVConv

try Conversion.importModel("all-MiniLM-L6-v2", to: "minilm.llv", options: ["force": true])
try Conversion.quantize("minilm.llv", to: "minilm-8bit.llv", options: ["bits": 8, "force": true])
