// swift-tools-version: 6.0
import PackageDescription

// The GPU on a processor is for our own tests alone: Tools/test and Tools/test-gpu ask for it.
let isEmulated = Context.environment["LLVCONV_EMULATED_GPU"] != nil
let emulated: [Target.Dependency] = isEmulated ? ["EmulatedGPU"] : []

// The layers, lowest first; Docs/explanation/architecture.md has the picture and `LayerTests` holds it.
let package = Package(
  name: "llvconv",
  products: [
    .executable(name: "llvconv", targets: ["llvconv"]),
    .library(name: "LLVConv", targets: ["LLVConv"]),
    // For other languages; Tools/library makes libllvconv.so of it.
    .library(name: "llvconv-c", type: .dynamic, targets: ["CInterface"]),
  ],
  targets: [
    .systemLibrary(name: "CLZ4", providers: [.apt(["liblz4-dev"])]),
    .systemLibrary(name: "COpenBLAS", providers: [.apt(["libopenblas-dev"])]),
    .target(name: "CKernels"),
    // libjpeg-turbo, libpng, libwebp and libavif, behind calls that do not jump.
    .target(
      name: "CImages",
      linkerSettings: ["jpeg", "png", "webp", "webpdemux", "avif"].map { .linkedLibrary($0) }),
    .target(name: "Bytes", dependencies: ["CLZ4", "CKernels"]),
    .target(name: "Tensors", dependencies: ["Bytes", "CKernels"]),
    .target(name: "Formats", dependencies: ["Bytes", "Tensors", "CKernels"]),
    .target(name: "Passes", dependencies: ["Bytes", "Tensors", "CKernels"]),
    .target(name: "Inputs", dependencies: ["Bytes", "Tensors", "CImages"]),
    .target(name: "Inference", dependencies: ["Bytes", "Tensors", "CKernels"]),
    // The CUDA driver's entry points, and the kernels as PTX that Tools/make-ptx makes of kernels/.
    .target(name: "CGPU", exclude: ["kernels", "ptx"]),
    .target(name: "GPU", dependencies: ["Bytes", "Tensors", "Inference", "CKernels", "CGPU"]),
    .target(name: "Fidelity", dependencies: ["Bytes", "Tensors", "CKernels"]),
    .target(
      name: "Calibration",
      dependencies: ["Bytes", "Tensors", "Passes", "Inference", "Fidelity", "CKernels", "COpenBLAS"]),
    .target(
      name: "Gradients",
      dependencies: ["Bytes", "Tensors", "Inference", "Fidelity", "CKernels"]),
    // A folder whose name differs from llvconv in more than its case.
    .target(
      name: "LLVConv",
      dependencies: [
        "Bytes", "Tensors", "Formats", "Passes", "Inputs", "Inference", "GPU", "Fidelity", "Calibration", "Gradients",
      ],
      path: "Sources/Library"),
    // llvconv.h, and its functions over the library.
    .target(name: "CLLVConv"),
    .target(name: "CInterface", dependencies: ["LLVConv", "Bytes", "Inputs", "CLLVConv"]),
    .executableTarget(
      name: "llvconv",
      dependencies: [
        "LLVConv", "Bytes", "Tensors", "Formats", "Passes", "Inputs", "Inference", "GPU", "Fidelity", "Calibration",
        "Gradients", "COpenBLAS",
      ]),
    .target(
      name: "TestSupport",
      dependencies: [
        "Bytes", "Tensors", "Formats", "Passes", "Inputs", "Inference", "GPU", "Fidelity", "Calibration", "Gradients",
        "LLVConv",
      ] + emulated,
      path: "Tests/TestSupport"),
    .testTarget(name: "BytesTests", dependencies: ["TestSupport"]),
    .testTarget(name: "TensorsTests", dependencies: ["TestSupport"]),
    .testTarget(name: "FormatsTests", dependencies: ["TestSupport"]),
    .testTarget(name: "PassesTests", dependencies: ["TestSupport"]),
    .testTarget(name: "InputsTests", dependencies: ["TestSupport"]),
    .testTarget(name: "InferenceTests", dependencies: ["TestSupport"]),
    .testTarget(name: "FidelityTests", dependencies: ["TestSupport"]),
    .testTarget(name: "CalibrationTests", dependencies: ["TestSupport"]),
    .testTarget(name: "GradientsTests", dependencies: ["TestSupport"]),
    .testTarget(name: "LibraryTests", dependencies: ["TestSupport"]),
    .testTarget(name: "CommandTests", dependencies: ["TestSupport", "llvconv"]),
  ],
  swiftLanguageModes: [.v6],
  cxxLanguageStandard: .cxx20
)

if isEmulated {
  // A libcuda.so.1 for tests of the program itself.
  package.products.append(.library(name: "EmulatedDriver", type: .dynamic, targets: ["EmulatedGPU"]))
  package.targets += [
    // The same kernels on the processor, behind the driver's own entry points.
    .target(
      name: "EmulatedGPU", path: "Tests/EmulatedGPU",
      cxxSettings: [.headerSearchPath("."), .headerSearchPath("../../Sources/CGPU/kernels")]),
    .testTarget(name: "GPUTests", dependencies: ["TestSupport"]),
  ]
}
