#if canImport(EmulatedGPU)
  import Bytes
  import EmulatedGPU
  import GPU

  /// The emulated driver, one user at a time: its GPU and how it behaves belong to the whole process.
  public enum EmulatedDriver {
    private static let user = Lock(())

    public static func use<R>(_ settings: emulated_settings? = nil, _ body: (Driver) throws -> R) throws -> R {
      try user.withLock { _ in
        emulated_use(settings ?? emulated_default)
        defer { emulated_use(emulated_default) }
        return try body(try Driver { _, name in emulated_entry(name) })
      }
    }

    /// Every way in which a kernel's copies, products, warps and streams may be timed.
    public static var timings: [emulated_settings] {
      var all: [emulated_settings] = []
      for (lateCopies, lateProducts, order, lateStreams) in [(0, 0, 0, 0), (1, 0, 7, 1), (0, 1, 3, 0), (1, 1, 0, 1)] {
        var settings = emulated_default
        settings.late_copies = Int32(lateCopies)
        settings.late_products = Int32(lateProducts)
        settings.order = UInt32(order)
        settings.late_streams = Int32(lateStreams)
        all.append(settings)
      }
      return all
    }
  }
#endif
