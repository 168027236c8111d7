import CLLVConv
import Glibc
import LLVConv

/// A failure that another language holds, and those after it.
final class ErrorBox {
  let code: Int32
  let row: Int64
  let kind, message: UnsafeMutablePointer<CChar>
  fileprivate(set) var next: ErrorBox?

  init(_ failure: Failure, row: Int64 = -1) {
    (code, self.row) = (failure.exitCode, row)
    (kind, message) = (copy(failure.kind.rawValue), copy(failure.description))
  }

  deinit {
    free(kind)
    free(message)
    // One after the other: a chain of a million would be as deep a recursion.
    var rest = next
    next = nil
    while isKnownUniquelyReferenced(&rest) {
      let after = rest?.next
      rest?.next = nil
      rest = after
    }
  }

  /// The first of a list that leads to the others; nil where there are none.
  static func chain(_ failures: [(row: Int, failure: Failure)]) -> ErrorBox? {
    var first: ErrorBox?
    for (row, failure) in failures.reversed() {
      let error = ErrorBox(failure, row: Int64(row))
      (error.next, first) = (first, error)
    }
    return first
  }

  /// Hands it over to `target`, or drops it where nobody asks.
  func hand(to target: UnsafeMutablePointer<OpaquePointer?>?) {
    target?.pointee = OpaquePointer(Unmanaged.passRetained(self).toOpaque())
  }

  static func from(_ pointer: OpaquePointer) -> ErrorBox {
    Unmanaged<ErrorBox>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
  }
}

/// A C text that `free` takes back.
func copy(_ text: String) -> UnsafeMutablePointer<CChar> { strdup(text) }

/// Runs a call of C: its code, and its failure for who asked.
func answer(
  _ target: UnsafeMutablePointer<OpaquePointer?>?, _ body: () throws(Failure) -> Void
) -> Int32 {
  target?.pointee = nil
  do throws(Failure) {
    try body()
    return 0
  } catch {
    ErrorBox(error).hand(to: target)
    return error.exitCode
  }
}

@_cdecl("llvconv_error_code")
public func errorCode(_ error: OpaquePointer) -> Int32 { ErrorBox.from(error).code }

@_cdecl("llvconv_error_kind")
public func errorKind(_ error: OpaquePointer) -> UnsafePointer<CChar> { UnsafePointer(ErrorBox.from(error).kind) }

@_cdecl("llvconv_error_message")
public func errorMessage(_ error: OpaquePointer) -> UnsafePointer<CChar> { UnsafePointer(ErrorBox.from(error).message) }

@_cdecl("llvconv_error_row")
public func errorRow(_ error: OpaquePointer) -> Int64 { ErrorBox.from(error).row }

@_cdecl("llvconv_error_next")
public func errorNext(_ error: OpaquePointer) -> OpaquePointer? {
  ErrorBox.from(error).next.map { OpaquePointer(Unmanaged.passUnretained($0).toOpaque()) }
}

@_cdecl("llvconv_error_free")
public func errorFree(_ error: OpaquePointer?) {
  if let error { Unmanaged<ErrorBox>.fromOpaque(UnsafeRawPointer(error)).release() }
}

@_cdecl("llvconv_text_free")
public func textFree(_ text: UnsafeMutablePointer<CChar>?) { free(text) }
