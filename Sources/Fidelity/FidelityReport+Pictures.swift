import Bytes

extension FidelityReport {
  /// A picture or video that is shown inside the page.
  public struct Picture: Sendable {
    public let isVideo: Bool
    public let bytes: [UInt8]
    /// Larger files are not shown.
    public static let limit = 4 << 20

    public init(isVideo: Bool, bytes: [UInt8]) {
      self.isVideo = isVideo
      self.bytes = bytes
    }

    /// The element that shows it, with the file's own bytes inside.
    func html(name: String) -> String {
      let (data, name) = (Base64.encoded(bytes), Page.escaped(name))
      if isVideo {
        return
          "<video src=\"data:video/mp4;base64,\(data)\" aria-label=\"video of \(name)\" controls muted loop></video>"
      }
      let type = bytes.starts(with: [0xFF, 0xD8]) ? "jpeg" : "png"
      return "<img src=\"data:image/\(type);base64,\(data)\" alt=\"picture of \(name)\">"
    }
  }

  /// Pictures on their way into a page, which stays small enough to open.
  struct Gallery {
    /// Bytes of all pictures of a page.
    static let limit = 24 << 20
    private let pictures: (Int) -> [Picture]
    private var left = Gallery.limit

    init(_ pictures: @escaping (Int) -> [Picture]) { self.pictures = pictures }

    /// The pictures of an item; a line where the page is full.
    mutating func html(_ item: Int, name: String) -> String {
      var result = ""
      for picture in pictures(item) {
        guard picture.bytes.count <= left else {
          result += "<p class=\"soft\">not shown: the page is full</p>"
          continue
        }
        left -= picture.bytes.count
        result += picture.html(name: name)
      }
      return result
    }
  }
}
