import Bytes
import Calibration
import Formats
import Inference
import Inputs
import Passes
import Tensors

let measureCommand = Command(
  name: "measure",
  abstract: "Measures on your data what the weights of a model are multiplied with, for quantize --calibration.",
  positionals: ["MODEL.llv"],
  options: [
    .init("--data", "X.jsonl", "items, or labelled pairs of items, like those the model will meet", isRequired: true),
    Command.output, .init("--no-fuse", nil, "for quantize --no-fuse"), Command.force,
  ] + Command.modelOptions,
  discussion: """
    Runs the model as quantize will fuse it over all items and keeps, for each weight of a linear operation, the second moments of
    its inputs. A few hundred items are enough; do not measure on what you will verify with. The file belongs to this model.
    """
) { (arguments) throws(Failure) in
  let options = try LoadedModel.Options(arguments)
  let dataPath = try arguments.required("--data")
  let output = try OutputFile(try arguments.required("-o"), isReplacing: arguments.has("--force"))
  let items = try Item.read(dataPath)
  let moments = SecondMoments(threads: options.threads)
  let passes = arguments.has("--no-fuse") ? [] : Pass.fusions
  let model = try LoadedModel(arguments.positionals[0], options, passes: passes, observer: moments)
  let progress = Progress("measuring", of: items.count)
  let embedded = try model.embed(items, folder: directory(of: dataPath)) { progress.show($0) }
  for case .failure(let failure) in embedded.lazy.map(\.result) { throw failure.inFile(dataPath) }
  Progress.clear()
  model.complain(ofCuts: embedded.count { $0.cut > 0 }, of: items.count)
  var result = Model(configuration: model.configuration)
  for tensor in try moments.tensors() { result.set(tensor) }
  result.history = model.contents.model.history
  result.history.append([
    "step": "measure", "model": .string(String(model.contents.checksum, radix: 16)), "items": .int(items.count),
    "passes": .array(passes.map { .string($0.name) }),
  ])
  let writer = try ContainerWriter(output, threads: options.threads)
  try writer.writeData(result)
  try writer.finish(result, program: "llvconv \(Program.version)")
  try writer.commit()
  return 0
}
