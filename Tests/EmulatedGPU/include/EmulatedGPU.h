// A CUDA driver with one GPU that is not there: memory is the processor's, a launch runs the kernels' own source.
#pragma once
#ifdef __cplusplus
extern "C" {
#endif

// The driver's entry point of this name; null for those it has not.
void *emulated_entry(const char *name);
// The driver's entry point, but one; for tests of drivers that lack something.
void *emulated_entry_without(const char *name, const char *missing);

// How the one GPU behaves from now on. Only one test at a time may change it.
typedef struct {
  int major, minor;      // compute capability
  unsigned long long memory;
  int late_copies;       // copies inside a kernel land at the wait and not at once
  int late_products;     // Hopper's products likewise
  unsigned order;        // of warps; 0: in turn
  int late_streams;      // work of a stream is done when somebody waits for it and not at once
  int devices;
} emulated_settings;
extern const emulated_settings emulated_default;
void emulated_use(emulated_settings settings);
// Bytes that are allocated at the moment, and blocks.
unsigned long long emulated_allocated(void);

#ifdef __cplusplus
}
#endif
