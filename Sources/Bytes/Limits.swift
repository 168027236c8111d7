/// Every limit on what a file may ask of this program, in one place; `llvconv --limits` prints them.
public enum Limits {
  public static let safetensorsHeader = 100_000_000
  public static let tensors = 1_000_000
  public static let nameBytes = 4_096
  public static let rank = 8
  public static let jsonDepth = 64
  public static let jsonNumber = 1_024
  public static let jsonString = 64 << 20
  public static let config = 16 << 20
  public static let shardIndex = 64 << 20
  public static let tokenizer = 256 << 20
  public static let shards = 10_000
  public static let manifest = 1 << 30
  public static let arrayElements = 16 << 20
  public static let itemLine = 16 << 20
  public static let imageSide = 16_384
  public static let imagePixels = 64 << 20
  public static let imageFile = 256 << 20
  public static let imageScans = 64
  public static let videoFrames = 1_000_000
  public static let anchors = 1 << 20
  public static let answer = 32 << 20
  /// No LZ4 block expands more than this many times (the codec's own bound).
  public static let lz4Expansion = 255
  /// Of tensor data in a GGUF file.
  public static let alignment = 1 << 16

  /// Name, value and unit, in the order printed.
  public static let table: [(name: String, value: Int, unit: String)] = [
    ("safetensors header", safetensorsHeader, "bytes"),
    ("tensors in a checkpoint", tensors, "tensors"),
    ("tensor name", nameBytes, "bytes"),
    ("tensor rank", rank, "dimensions"),
    ("JSON nesting", jsonDepth, "levels"),
    ("JSON number", jsonNumber, "bytes"),
    ("JSON string", jsonString, "bytes"),
    ("config file", config, "bytes"),
    ("shard index", shardIndex, "bytes"),
    ("tokenizer file", tokenizer, "bytes"),
    ("shards", shards, "files"),
    ("container manifest", manifest, "bytes"),
    ("GGUF array", arrayElements, "elements"),
    ("GGUF alignment", alignment, "bytes"),
    ("input line", itemLine, "bytes"),
    ("image side", imageSide, "pixels"),
    ("image", imagePixels, "pixels"),
    ("image file", imageFile, "bytes"),
    ("JPEG scans", imageScans, "scans"),
    ("video", videoFrames, "frames"),
    ("anchors file", anchors, "lines"),
    ("answer of a server", answer, "bytes"),
    ("LZ4 expansion", lz4Expansion, "times"),
  ]
}
