import Bytes
import Fidelity
import Formats
import Inputs
import Passes
import Tensors

/// What two models and the data of a comparison say of themselves: reasons why it is no evidence.
package struct VerifyEvidence {
  /// - Parameters:
  ///   - divergence: nil where nobody looked inside; then only what files say is known.
  ///   - isFedAlike: whether the candidate runs where and as the reference does; otherwise a model may be held to
  ///     itself.
  package static func remarks(
    candidate: LoadedModel, reference: LoadedModel, data: VerifyData, divergence: Divergence?, isFedAlike: Bool
  ) throws(Failure) -> [Remark] {
    var result = data.remarks
    let (a, b) = (reference.file, candidate.file)
    if isFedAlike, a.checksum == b.checksum || divergence?.isIdentical ?? false {
      result.append(
        Remark(.reference, "candidate and reference hold the same weights and settings: nothing was compared"))
    } else if let own = divergence?.rounding, own.reference > 2 * own.candidate {
      result.append(
        Remark(
          .reference,
          "the reference's weights are coarser than the candidate's (rounding explains "
            + "\((own.reference * 100).fixed(2)) % and \((own.candidate * 100).fixed(2)) %): were the two swapped? "
            + "verify takes CANDIDATE.llv --reference ORIGINAL.llv"))
    }
    for step in b.model.history {
      guard let text = step["sketch"] else { continue }
      let sketch = try b.sketch(text)
      let items = data.items.map(\.item)
      let common = sketch.common(with: items)
      if common * 20 > items.count {
        result.append(
          Remark(
            .calibration,
            "about \(common) of these \(items.count) items were calibrated on, which flatters the candidate: verify on "
              + "others"))
      }
    }
    return result
  }

  /// The same of vectors that were given.
  package static func remarks(
    _ given: FidelityReport.Vectors, _ reference: FidelityReport.Vectors, _ data: VerifyData
  ) throws(Failure) -> [Remark] {
    for (a, b) in [(given.queries, reference.queries), (given.documents, reference.documents)] {
      guard try a.rows(0..<a.count) == b.rows(0..<b.count) else { return data.remarks }
    }
    return data.remarks + [
      Remark(.reference, "the given vectors are the reference's to the last bit: nothing was compared")
    ]
  }
}

extension ModelFile {
  fileprivate func sketch(_ text: JSONText) throws(Failure) -> ItemSketch {
    do throws(Failure) {
      return try ItemSketch(try JSON.parse(text.bytes(), what: "sketch"))
    } catch { throw error.about("the history's sketch").inFile(path) }
  }
}

extension Model {
  /// How the steps of its history laid its pictures out.
  package var pictureLayout: PictureLayout {
    var layout = PictureLayout()
    for step in history {
      if case .int(let views)? = step["views"] { layout.views = views }
      if case .int(let pooling)? = step["pool_pictures"] { layout.pooling = pooling }
    }
    return layout
  }
}
