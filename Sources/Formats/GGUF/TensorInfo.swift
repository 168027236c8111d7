import Bytes
import Tensors

/// What a GGUF file says of one tensor.
struct TensorInfo {
  let name: TensorName
  /// Outermost first; the file has them the other way round.
  let shape: [Int]
  let type: BlockType
  let offset: UInt64
  /// Of the info in the file.
  let at: Int

  static func all(_ reader: inout ByteReader, _ header: GGUF.Header) throws(Failure) -> [TensorInfo] {
    var result: [TensorInfo] = []
    var seen = Set<TensorName>()
    result.reserveCapacity(header.tensors)
    for _ in 0..<header.tensors {
      let info = try TensorInfo(&reader, header)
      guard seen.insert(info.name).inserted else {
        throw Failure(
          .malformed, "duplicate: the name comes twice", thing: "tensor \(info.name.quoted)", place: "byte \(info.at)")
      }
      result.append(info)
    }
    return result
  }

  private init(_ reader: inout ByteReader, _ header: GGUF.Header) throws(Failure) {
    let at = reader.at
    let bytes = try reader.bytes(try header.length(&reader, "name length", limit: Limits.nameBytes), "name")
    if var problem = TensorName.problem(with: bytes) {
      problem.place = "byte \(at)"
      throw problem
    }
    guard String(validating: bytes, as: UTF8.self) != nil else {
      throw Failure(.malformed, "name \(Failure.quoted(bytes)) is not UTF-8", place: "byte \(at)")
    }
    let name = TensorName(bytes)
    do throws(Failure) {
      let rank = try reader.integer(UInt32.self, "number of dimensions")
      guard rank <= 4 else {
        throw Failure(
          rank <= 16 ? .unsupported : .malformed, "\(rank) dimensions, at most 4", place: "byte \(reader.at - 4)")
      }
      var shape: [Int] = []
      for _ in 0..<rank {
        shape.append(try header.length(&reader, "dimension", limit: .max))
      }
      (self.name, self.shape, self.at) = (name, shape.reversed(), at)
      type = try BlockType.find(try reader.integer(UInt32.self, "type"))
      offset = try reader.integer(UInt64.self, "offset")
    } catch { throw error.about("tensor \(name.quoted)") }
  }

  /// The tensors over their bytes, which follow each other in order, each at the next multiple of the alignment.
  static func tensors(
    _ infos: [TensorInfo], _ file: InputFile, dataStart: Int, _ alignment: Int, isBigEndian: Bool, notes: inout [String]
  ) throws(Failure) -> [Tensor] {
    let room = max(0, file.count - dataStart)
    var result: [Tensor] = []
    var next = 0
    var end = 0
    // Judged first, because a hole or an overlap would be a wrong word for it.
    for (info, after) in zip(infos, infos.dropFirst()) where after.offset < info.offset {
      throw Failure(
        .malformed, "out of order: offset \(after.offset) comes after \(info.offset)",
        thing: "tensor \(after.name.quoted)", place: "byte \(after.at)")
    }
    for info in infos {
      do throws(Failure) {
        let bytes = try info.type.byteCount(info.shape)
        guard info.offset % UInt64(alignment) == 0 else {
          throw Failure(.malformed, "offset \(info.offset) is not a multiple of \(alignment)")
        }
        guard info.offset <= UInt64(room) || bytes == 0 && info.offset == UInt64(next) else {
          throw Failure(.malformed, "offset \(info.offset) is beyond the end of the file")
        }
        let offset = Int(info.offset)
        guard offset >= next else {
          throw Failure(.malformed, "tensors overlap: offset \(offset), but the one before ends at \(end)")
        }
        guard offset == next else {
          throw Failure(.malformed, "hole of \(offset - next) bytes at \(next)")
        }
        guard bytes <= room - offset else {
          let missing = bytes - max(0, room - offset)
          throw Failure(.malformed, "needs \(bytes) bytes: \(missing) byte\(missing == 1 ? "" : "s") missing")
        }
        let view = ByteView(file, min(dataStart + offset, file.count), bytes)
        result.append(try info.type.tensor(info.name, info.shape, view, isBigEndian: isBigEndian))
        end = offset + bytes
        guard let following = Checked.roundUp(end, to: alignment) else {
          throw Failure(.malformed, "ends at byte \(end) of the data")
        }
        next = following
      } catch {
        var failure = error.about("tensor \(info.name.quoted)")
        if failure.place == nil { failure.place = "byte \(info.at)" }
        throw failure
      }
    }
    if room > next { notes.append("\(room - next) bytes after the last tensor are ignored") }
    return result
  }
}
