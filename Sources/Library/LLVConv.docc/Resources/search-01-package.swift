// swift-tools-version: 6.0
import PackageDescription

let package = Package(
  name: "search",
  dependencies: [.package(name: "llvconv", path: "../llvconv")],
  targets: [
    .executableTarget(name: "Search", dependencies: [.product(name: "LLVConv", package: "llvconv")])
  ]
)
