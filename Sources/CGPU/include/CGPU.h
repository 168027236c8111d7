// What the GPU target needs of C: the CUDA driver's entry points as typed pointers, found at run time, and the kernels'
// PTX as text.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct CUctx_st *llv_context;
typedef struct CUmod_st *llv_module;
typedef struct CUfunc_st *llv_function;
typedef struct CUstream_st *llv_stream;
typedef struct CUevent_st *llv_event;
typedef struct CUmemPoolHandle_st *llv_pool;

// name, arguments: the entry points that we use, all of which return 0 or an error's number (CUDA driver API reference;
// cuda.h). The name is the one to look for: where a second version exists, it.
#define LLV_ENTRY_POINTS(X)                                                                                            \
  X(cuInit, (unsigned flags))                                                                                          \
  X(cuDriverGetVersion, (int *version))                                                                                \
  X(cuDeviceGetCount, (int *count))                                                                                    \
  X(cuDeviceGet, (int *device, int ordinal))                                                                           \
  X(cuDeviceGetName, (char *name, int size, int device))                                                               \
  X(cuDeviceTotalMem_v2, (size_t *bytes, int device))                                                                  \
  X(cuDeviceGetAttribute, (int *value, int attribute, int device))                                                     \
  X(cuDevicePrimaryCtxRetain, (llv_context * context, int device))                                                     \
  X(cuCtxSetCurrent, (llv_context context))                                                                            \
  X(cuMemGetInfo_v2, (size_t *free, size_t *total))                                                                    \
  X(cuModuleLoadDataEx, (llv_module * module, const void *image, unsigned count, int *options, void **values))         \
  X(cuModuleGetFunction, (llv_function * function, llv_module module, const char *name))                               \
  X(cuFuncSetAttribute, (llv_function function, int attribute, int value))                                             \
  X(cuMemAllocAsync, (uint64_t *address, size_t bytes, llv_stream stream))                                             \
  X(cuMemFreeAsync, (uint64_t address, llv_stream stream))                                                             \
  X(cuMemAllocHost_v2, (void **memory, size_t bytes))                                                                  \
  X(cuMemFreeHost, (void *memory))                                                                                     \
  X(cuMemcpyHtoDAsync_v2, (uint64_t to, const void *from, size_t bytes, llv_stream stream))                            \
  X(cuMemcpyDtoHAsync_v2, (void *to, uint64_t from, size_t bytes, llv_stream stream))                                  \
  X(cuLaunchKernel,                                                                                                    \
      (llv_function function, unsigned x, unsigned y, unsigned z, unsigned threads_x, unsigned threads_y,              \
          unsigned threads_z, unsigned shared, llv_stream stream, void **arguments, void **extra))                     \
  X(cuStreamCreate, (llv_stream * stream, unsigned flags))                                                             \
  X(cuStreamDestroy_v2, (llv_stream stream))                                                                           \
  X(cuStreamSynchronize, (llv_stream stream))                                                                          \
  X(cuStreamWaitEvent, (llv_stream stream, llv_event event, unsigned flags))                                           \
  X(cuEventCreate, (llv_event * event, unsigned flags))                                                                \
  X(cuEventDestroy_v2, (llv_event event))                                                                              \
  X(cuEventRecord, (llv_event event, llv_stream stream))                                                               \
  X(cuEventSynchronize, (llv_event event))                                                                             \
  X(cuDeviceGetDefaultMemPool, (llv_pool * pool, int device))                                                          \
  X(cuMemPoolSetAttribute, (llv_pool pool, int attribute, void *value))                                                \
  X(cuGetErrorString, (int code, const char **text))

#define LLV_POINTER(name, arguments) int (*name) arguments;
typedef struct { LLV_ENTRY_POINTS(LLV_POINTER) } llv_driver;
#undef LLV_POINTER

// Looks every entry point up. Returns null, or the name of the first that `find` does not know.
const char *llv_driver_find(llv_driver *driver, void *(*find)(void *library, const char *name), void *library);

// Modules as NUL-terminated PTX text (kernels/*.cu, made by Tools/make-ptx).
extern const char *const llv_ptx_attention,
    *const llv_ptx_attention_int8, *const llv_ptx_gemm, *const llv_ptx_hopper, *const llv_ptx_lookup,
                                                                                   *const llv_ptx_rows,
                                                                                       *const llv_ptx_truth,
                                                                                           *const llv_ptx_weights;

// Where `word` starts in a text, or null.
static inline const char *llv_find(const char *text, const char *word) { return __builtin_strstr(text, word); }
