import Hummingbird
import LLVConv

/// Vectors by HTTP: `swift run -c release Server MODEL.llv [PORT]`, then
/// `curl localhost:8080/embed -d '{"texts": ["a red fox"]}' -H 'Content-Type: application/json'`.
@main
struct Server {
  struct Question: Decodable {
    var texts: [String]
    var prompt: String?
  }

  struct Answer: ResponseEncodable {
    var vectors: [[Float]]
  }

  static func main() async throws {
    let arguments = CommandLine.arguments
    guard (2...3).contains(arguments.count), let port = Int(arguments.count == 3 ? arguments[2] : "8080") else {
      print("usage: Server MODEL.llv [PORT]")
      return
    }
    var options = EmbeddingQueue.Options()
    options.refusesWhenFull = true
    options.capacity = 4_096
    let queue = EmbeddingQueue(try EmbeddingModel(arguments[1]), options: options)
    let router = Router()
    router.post("embed") { request, context in
      let question = try await request.decode(as: Question.self, context: context)
      return Answer(vectors: try await vectors(question, queue))
    }
    let application = Application(
      router: router, configuration: .init(address: .hostname("127.0.0.1", port: port)))
    try await application.runService()
  }

  /// All texts at once: the queue joins them with those of other requests.
  static func vectors(_ question: Question, _ queue: EmbeddingQueue) async throws -> [[Float]] {
    do {
      return try await withThrowingTaskGroup(of: (Int, [Float]).self) { group in
        for (index, text) in question.texts.enumerated() {
          group.addTask { (index, try await queue.embed(text, prompt: question.prompt)) }
        }
        var vectors = [[Float]](repeating: [], count: question.texts.count)
        for try await (index, vector) in group { vectors[index] = vector }
        return vectors
      }
    } catch let failure as Failure {
      throw HTTPError(failure.kind == .limit ? .serviceUnavailable : .badRequest, message: failure.description)
    }
  }
}
