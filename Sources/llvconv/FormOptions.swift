extension Command {
  /// What an index keeps of each vector.
  static let formOptions: [Option] = [
    .init("--width", "N", "keep the first N columns, brought to length 1 again (default: all)"),
    .init("--precision", "float32|float16|int8|binary|ternary", "numbers that are kept (default float32)"),
  ]

  /// Of commands that compare searches.
  static let outputs = Option(
    "--outputs", "LIST",
    "also compare what the index finds in other forms, with commas: a width, a precision, or both, and how many times "
      + "ten documents float queries rank again, as float32,256,int8,binary,256:binary+rescore4")
}
