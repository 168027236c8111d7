import Bytes

/// Refuses to compare a model with one of another kind: the reference is what the candidate was made from.
package func checkKinds(
  of candidates: [(path: String, model: LoadedModel?)], _ path: String, _ reference: LoadedModel
) throws(Failure) {
  let known = reference.configuration.architecture
  for candidate in candidates {
    guard let found = candidate.model?.configuration.architecture, found != known else { continue }
    throw Failure(
      .usage,
      "is of the kind \(known), \(candidate.path) of the kind \(found); the reference is the model that the candidate "
        + "was made from, as llvconv import writes it", file: path)
  }
}
