import Bytes
import EmulatedGPU
import Foundation
import GPU
import Inference
import Tensors
import TestSupport
import Testing

/// What a user hears when there is no GPU, or not enough of one; and what the device does with its memory.
struct DriverTests {
  @Test("no driver is said plainly")
  func noDriverIsSaidPlainly() throws {
    let failure = #expect(throws: Failure.self) { try Driver.installed("libnothing.so.1") }
    #expect(failure?.kind == .unsupported)
    #expect(failure?.problem.contains("no NVIDIA driver") == true && failure?.problem.contains("--device cpu") == true)
  }

  @Test("a driver that lacks something is named with what it lacks")
  func aDriverThatLacksSomethingIsNamed() throws {
    let failure = #expect(throws: Failure.self) {
      try Driver { _, name in emulated_entry_without(name, "cuMemAllocAsync") }
    }
    #expect(failure?.kind == .unsupported && failure?.problem.contains("cuMemAllocAsync") == true)
  }

  @Test("no GPU, one too old, and a number that no GPU has")
  func noGPUIsSaidPlainly() throws {
    var settings = emulated_default
    settings.devices = 0
    try EmulatedDriver.use(settings) { driver in
      let failure = #expect(throws: Failure.self) { try GPUDevice(driver) }
      #expect(failure?.kind == .unsupported && failure?.problem.contains("no CUDA-capable device") == true)
    }
    settings = emulated_default
    (settings.major, settings.minor) = (7, 5)
    try EmulatedDriver.use(settings) { driver in
      let cards = try driver.cards()
      #expect(cards.first?.problem?.contains("7.5") == true)
      let failure = #expect(throws: Failure.self) { try GPUDevice(driver) }
      #expect(failure?.kind == .unsupported && failure?.problem.contains("8.0") == true)
    }
    try EmulatedDriver.use { driver in
      let failure = #expect(throws: Failure.self) { try GPUDevice(driver, index: 3) }
      #expect(failure?.problem == "no GPU 3; the NVIDIA driver lists 1")
    }
  }

  @Test("too little memory is one line with what to do")
  func tooLittleMemoryIsOneLine() throws {
    var settings = emulated_default
    settings.memory = 1 << 20
    try EmulatedDriver.use(settings) { driver in
      let device = try GPUDevice(driver)
      let failure = #expect(throws: Failure.self) {
        try device.upload(floats: [Float](repeating: 0, count: 1 << 19), columns: 16)
      }
      #expect(failure?.kind == .limit && failure?.problem.contains("--memory") == true)
    }
  }

  @Test("memory is given back, and copies through pinned memory arrive whole")
  func memoryIsGivenBack() throws {
    for settings in EmulatedDriver.timings {
      try EmulatedDriver.use(settings) { driver in
        let device = try GPUDevice(driver)
        // Larger than the pinned memory, so that both halves are used several times.
        let floats = (0..<(70 << 20) / 4).map { Float($0 & 0xFFFF) }
        do {
          let buffer = try device.upload(floats: floats, columns: 1024)
          #expect(try device.download(buffer) == floats)
        }
        try device.finish()
        #expect(emulated_allocated() == 0)
      }
    }
  }
}
