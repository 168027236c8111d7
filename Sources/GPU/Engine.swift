import Bytes
import CGPU

/// One GPU at work: memory, copies and launches, all in the order of one stream.
///
/// Weights and inputs go up on a stream of their own, through pinned memory, while kernels run; what is launched after
/// a copy waits for it. Memory comes from the driver's pool and goes back to it in the stream's order, so that nothing
/// waits for the GPU but a download.
final class Engine: @unchecked Sendable {
  let driver: Driver
  let card: Driver.Card
  private let context: llv_context
  /// Where kernels run, and where copies to the GPU do.
  private let work, copies: llv_stream
  private let staging: Lock<Staging>
  private let functions = Lock(Functions())

  /// Pinned memory that copies go through, in turn.
  private struct Staging: @unchecked Sendable {
    var slots: [(memory: UnsafeMutableRawPointer, event: llv_event)]
    var next = 0
    static let bytes = 16 << 20
  }

  private struct Loaded {
    let function: llv_function
    /// Bytes of each argument, by the PTX.
    let arguments: [Int]
  }

  private struct Functions: @unchecked Sendable {
    var modules: [Module: llv_module] = [:]
    var kernels: [String: Loaded] = [:]
  }

  init(_ driver: Driver, index: Int) throws(Failure) {
    let cards = try driver.cards()
    guard cards.indices.contains(index) else {
      throw Failure(.unsupported, "no GPU \(index); the NVIDIA driver lists \(cards.count)")
    }
    card = cards[index]
    if let problem = card.problem { throw Failure(.unsupported, "GPU \(index), \(card.name): \(problem)") }
    self.driver = driver
    let calls = driver.calls
    var device: Int32 = 0
    try driver.check(calls.cuDeviceGet(&device, Int32(index)), "choosing GPU \(index)")
    func made<T>(_ what: String, _ make: (UnsafeMutablePointer<T?>) -> Int32) throws(Failure) -> T {
      var result: T?
      try driver.check(make(&result), what)
      guard let result else { throw Failure(.internal, "\(what): the driver gave nothing") }
      return result
    }
    context = try made("opening \(card.name)") { calls.cuDevicePrimaryCtxRetain($0, device) }
    try driver.check(calls.cuCtxSetCurrent(context), "using \(card.name)")
    // Memory that was freed stays with the pool.
    let pool: llv_pool = try made("finding the memory pool") { calls.cuDeviceGetDefaultMemPool($0, device) }
    var all = UInt64.max
    try driver.check(calls.cuMemPoolSetAttribute(pool, 4, &all), "keeping freed memory")
    work = try made("making a stream") { calls.cuStreamCreate($0, 1) }
    copies = try made("making a stream") { calls.cuStreamCreate($0, 1) }
    var slots: [(UnsafeMutableRawPointer, llv_event)] = []
    for _ in 0..<2 {
      let memory: UnsafeMutableRawPointer = try made("allocating pinned memory") {
        calls.cuMemAllocHost_v2($0, Staging.bytes)
      }
      slots.append((memory, try made("making an event") { calls.cuEventCreate($0, 2) }))
    }
    let kept = slots
    staging = Lock(Staging(slots: kept))
  }

  // The primary context stays until the process ends.
  deinit {
    try? enter()
    _ = driver.calls.cuStreamSynchronize(work)
    staging.withLock { staging in
      for slot in staging.slots {
        _ = driver.calls.cuEventDestroy_v2(slot.event)
        _ = driver.calls.cuMemFreeHost(slot.memory)
      }
    }
    _ = driver.calls.cuStreamDestroy_v2(copies)
    _ = driver.calls.cuStreamDestroy_v2(work)
  }

  /// Makes the GPU the calling thread's.
  private func enter() throws(Failure) { try driver.check(driver.calls.cuCtxSetCurrent(context), "using \(card.name)") }

  // MARK: Memory

  /// Bytes of the GPU's memory that nobody uses.
  func freeMemory() throws(Failure) -> Int {
    try enter()
    var (free, total) = (0, 0)
    try driver.check(driver.calls.cuMemGetInfo_v2(&free, &total), "asking for free memory")
    return free
  }

  /// Uninitialised memory on the GPU.
  func allocate(_ count: Int) throws(Failure) -> Memory { try allocate(count, work) }

  /// Memory that is there once its stream comes to this place.
  private func allocate(_ count: Int, _ stream: llv_stream) throws(Failure) -> Memory {
    try enter()
    var address: UInt64 = 0
    var status = driver.calls.cuMemAllocAsync(&address, max(count, 1), stream)
    if status == 2 {
      // What was freed lately is there once the work before it is done.
      try finish()
      status = driver.calls.cuMemAllocAsync(&address, max(count, 1), stream)
    }
    try driver.check(status, "allocating \(count) bytes on \(card.name)")
    return Memory(self, address, count)
  }

  fileprivate func free(_ address: UInt64) {
    try? enter()
    _ = driver.calls.cuMemFreeAsync(address, work)
  }

  /// Waits until all that was asked for is done.
  func finish() throws(Failure) {
    try enter()
    try driver.check(driver.calls.cuStreamSynchronize(work), "running on \(card.name)")
  }

  // MARK: Copies

  func upload(_ bytes: UnsafeRawBufferPointer) throws(Failure) -> Memory {
    let memory = try allocate(bytes.count, copies)
    let calls = driver.calls
    try staging.withLock { (staging) throws(Failure) in
      var done = 0
      while done < bytes.count, let from = bytes.baseAddress {
        let (slot, event) = staging.slots[staging.next]
        staging.next = (staging.next + 1) % staging.slots.count
        let count = min(Staging.bytes, bytes.count - done)
        try driver.check(calls.cuEventSynchronize(event), "copying to \(card.name)")
        slot.copyMemory(from: from + done, byteCount: count)
        try driver.check(
          calls.cuMemcpyHtoDAsync_v2(memory.address + UInt64(done), slot, count, copies), "copying to \(card.name)")
        try driver.check(calls.cuEventRecord(event, copies), "copying to \(card.name)")
        done += count
        if done == bytes.count {
          try driver.check(calls.cuStreamWaitEvent(work, event, 0), "copying to \(card.name)")
        }
      }
    }
    return memory
  }

  func upload<T: BitwiseCopyable & Sendable>(_ elements: [T]) throws(Failure) -> Memory {
    var result: Result<Memory, Failure>?
    elements.withUnsafeBytes { bytes in
      do throws(Failure) { result = .success(try upload(bytes)) } catch { result = .failure(error) }
    }
    guard let result else { throw Failure(.internal, "nothing was copied") }
    return try result.get()
  }

  /// Bytes from `offset` on, once all work before is done.
  func download(_ memory: Memory, at offset: Int, into target: UnsafeMutableRawBufferPointer) throws(Failure) {
    guard target.count > 0 else { return }
    try enter()
    try driver.check(
      driver.calls.cuMemcpyDtoHAsync_v2(target.baseAddress, memory.address + UInt64(offset), target.count, work),
      "copying from \(card.name)")
    try finish()
  }

  // MARK: Launches

  /// Runs a kernel on a grid of blocks; nothing where the grid is empty.
  func launch(_ kernel: Kernel, _ grid: (x: Int, y: Int), _ arguments: [Argument]) throws(Failure) {
    guard grid.x > 0, grid.y > 0 else { return }
    try enter()
    let loaded = try load(kernel)
    guard loaded.arguments == arguments.map(\.size) else {
      throw Failure(.internal, "kernel \(kernel.name) takes \(loaded.arguments), given \(arguments.map(\.size))")
    }
    guard arguments.allSatisfy(\.fits) else {
      throw Failure(.limit, "a number of more than 32 bits for \(kernel.name)")
    }
    guard let x = UInt32(exactly: grid.x), grid.y <= 65_535 else {
      throw Failure(.limit, "\(grid.x) × \(grid.y) blocks of \(kernel.name) are too many for one launch")
    }
    var words = arguments.map(\.bits)
    let status = words.withUnsafeMutableBufferPointer { words in
      var pointers = words.indices.map { index in words.baseAddress.map { UnsafeMutableRawPointer($0 + index) } }
      return driver.calls.cuLaunchKernel(
        loaded.function, x, UInt32(grid.y), 1, UInt32(kernel.threads), 1, 1, UInt32(kernel.shared), work, &pointers, nil
      )
    }
    withExtendedLifetime(arguments) {}
    try driver.check(status, "starting \(kernel.name) on \(card.name)")
  }

  private func load(_ kernel: Kernel) throws(Failure) -> Loaded {
    try functions.withLock { (functions) throws(Failure) in
      if let loaded = functions.kernels[kernel.name] { return loaded }
      let module = try module(kernel.module, &functions)
      var function: llv_function?
      try driver.check(driver.calls.cuModuleGetFunction(&function, module, kernel.name), "finding \(kernel.name)")
      guard let function else { throw Failure(.internal, "kernel \(kernel.name) is missing") }
      if kernel.shared > 48 << 10 {
        try driver.check(
          driver.calls.cuFuncSetAttribute(function, 8, Int32(kernel.shared)),
          "\(kernel.name) needs \(kernel.shared) bytes of shared memory")
      }
      let loaded = Loaded(function: function, arguments: try kernel.module.arguments(of: kernel.name))
      functions.kernels[kernel.name] = loaded
      return loaded
    }
  }

  /// A module, compiled for this GPU; what the driver's compiler says of it goes into the error.
  private func module(_ module: Module, _ functions: inout Functions) throws(Failure) -> llv_module {
    if let loaded = functions.modules[module] { return loaded }
    var loaded: llv_module?
    var log = [CChar](repeating: 0, count: 8192)
    let status = log.withUnsafeMutableBufferPointer { log in
      var keys: [Int32] = [5, 6]  // CU_JIT_ERROR_LOG_BUFFER and its size
      var values = [UnsafeMutableRawPointer(log.baseAddress), UnsafeMutableRawPointer(bitPattern: log.count)]
      return driver.calls.cuModuleLoadDataEx(&loaded, module.text, 2, &keys, &values)
    }
    let said = String(decoding: log.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    try driver.check(
      status,
      "compiling the \(module.rawValue) kernels for \(card.name)"
        + (said.isEmpty ? "" : ": \(Failure.escaped(Array(said.utf8), limit: 300))"))
    guard let loaded else { throw Failure(.internal, "no module of \(module.rawValue) kernels") }
    functions.modules[module] = loaded
    return loaded
  }
}

/// Bytes on the GPU, given back when nobody holds them any more.
final class Memory: Sendable {
  let engine: Engine
  let address: UInt64
  let count: Int

  fileprivate init(_ engine: Engine, _ address: UInt64, _ count: Int) {
    (self.engine, self.address, self.count) = (engine, address, count)
  }

  deinit { engine.free(address) }
}
