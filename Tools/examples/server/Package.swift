// swift-tools-version: 6.0
import PackageDescription

// An outsider's package. Its HTTP library is its own; of llvconv it takes the library alone.
let package = Package(
  name: "server",
  dependencies: [
    .package(name: "llvconv", path: "../../.."),
    .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.5.0"),
  ],
  targets: [
    .executableTarget(
      name: "Server",
      dependencies: [
        .product(name: "LLVConv", package: "llvconv"), .product(name: "Hummingbird", package: "hummingbird"),
      ])
  ],
  swiftLanguageModes: [.v6]
)
