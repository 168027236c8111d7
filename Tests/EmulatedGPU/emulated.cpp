#include "encoding.h"
#include "epilogue.h"
#include "span.h"

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

// Every kernel's source, each file in a namespace of its own.
namespace attention_cu {
#include "attention.cu"
}
namespace attention_int8_cu {
#include "attention_int8.cu"
}
namespace gemm_cu {
#include "gemm.cu"
}
namespace hopper_cu {
#include "hopper.cu"
}
namespace lookup_cu {
#include "lookup.cu"
}
namespace rows_cu {
#include "rows.cu"
}
namespace truth_cu {
#include "truth.cu"
}
namespace weights_cu {
#include "weights.cu"
}

const emulated_settings emulated_default = {9, 0, 4ull << 30, 0, 0, 0, 0, 1};

// For a program that cannot set them: EMULATED_GPU="compute copies products order streams".
static emulated_settings from_environment() {
  emulated_settings settings = emulated_default;
  if (const char *text = getenv("EMULATED_GPU"))
    sscanf(text, "%d %d %d %u %d", &settings.major, &settings.late_copies, &settings.late_products, &settings.order,
        &settings.late_streams);
  return settings;
}
emulated_settings emulated = from_environment();

namespace {

// The driver's numbers for what went wrong.
enum {
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NO_DEVICE = 100,
  INVALID_PTX = 218,
  INVALID_CONTEXT = 201,
  NOT_FOUND = 500
};

// MARK: Kernels

// Reads a launch's arguments by the kernel's own types, and gives the work of one thread.
struct Kernel {
  std::function<std::function<void()>(void **)> bind;
  size_t shared = 48 << 10;
};

template <class... A, size_t... I> std::function<void()> bound(void (*f)(A...), void **p, std::index_sequence<I...>) {
  return [f, values = std::tuple<A...>(*(A *)p[I]...)] { std::apply(f, values); };
}
template <class... A> Kernel kernel(void (*f)(A...)) {
  return {[f](void **p) { return bound(f, p, std::index_sequence_for<A...>{}); }};
}

#define NAMED(file, name) {#name, kernel(file##_cu::name)}
std::map<std::string, Kernel> kernels{
    NAMED(attention, attention_32),
    NAMED(attention, attention_64),
    NAMED(attention, attention_72),
    NAMED(attention, attention_128),
    NAMED(attention, attention_256),
    NAMED(attention, attention_any),
    NAMED(attention_int8, attention_sums),
    NAMED(attention_int8, attention_means),
    NAMED(attention_int8, attention_codes),
    NAMED(attention_int8, attention_int8_32),
    NAMED(attention_int8, attention_int8_64),
    NAMED(attention_int8, attention_int8_80),
    NAMED(attention_int8, attention_int8_128),
    NAMED(gemm, gemm_int8),
    NAMED(gemm, gemm_int8_groups),
    NAMED(gemm, gemm_bfloat16),
    NAMED(hopper, hopper_int8),
    NAMED(hopper, hopper_bfloat16),
    NAMED(lookup, lookup),
    NAMED(lookup, interpolate),
    NAMED(lookup, distance_biases),
    NAMED(lookup, pool),
    NAMED(rows, rows_float),
    NAMED(rows, rows_bfloat16),
    NAMED(rows, rows_int8),
    NAMED(rows, norm_heads),
    NAMED(rows, rope),
    NAMED(rows, rescale),
    NAMED(truth, truth),
    NAMED(weights, weight_codes),
    NAMED(weights, weight_scales),
    NAMED(weights, weight_bfloat16),
};

// MARK: Memory, streams, events. One lock for all: the emulated GPU is one.

std::recursive_mutex lock;
std::map<u64, size_t> blocks;
size_t allocated = 0;
thread_local bool has_context = false;

struct Stream {
  std::deque<std::function<void()>> work;
  u64 given = 0, done = 0;

  void add(std::function<void()> f) {
    work.push_back(std::move(f));
    given++;
    if (!emulated.late_streams) drain(given);
  }
  void drain(u64 until) {
    while (done < until && !work.empty()) {
      auto f = std::move(work.front());
      work.pop_front();
      done++;
      f();
    }
  }
};
struct Event { Stream *stream = nullptr; u64 place = 0; };

bool is_ready() { return has_context; }

// The block that an address lies in, with so many bytes left.
bool holds(u64 at, size_t count) {
  auto i = blocks.upper_bound(at);
  return i != blocks.begin() && (--i, at + count <= i->first + i->second);
}

}  // namespace

// MARK: Entry points

extern "C" {

#define HERE                                     \
  std::lock_guard guard(lock);                   \
  if (!is_ready()) return INVALID_CONTEXT

int cuInit(unsigned) { return emulated.devices > 0 ? OK : NO_DEVICE; }
int cuDriverGetVersion(int *v) { return *v = 13000, OK; }
int cuDeviceGetCount(int *n) { return *n = emulated.devices, OK; }
int cuDeviceGet(int *device, int index) { return *device = index, index < emulated.devices ? OK : INVALID_VALUE; }
int cuDeviceGetName(char *to, int size, int) { return snprintf(to, size, "emulated GPU"), OK; }
int cuDeviceTotalMem_v2(size_t *n, int) { return *n = emulated.memory, OK; }
int cuDeviceGetAttribute(int *v, int which, int) {
  *v = which == 75   ? emulated.major
      : which == 76  ? emulated.minor
      : which == 97  ? 227 << 10
      : which == 115 ? 1
      : which == 16  ? 132
                     : 0;
  return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = (void *)1, OK; }
int cuCtxSetCurrent(void *context) { return has_context = context != nullptr, OK; }
int cuMemGetInfo_v2(size_t *free, size_t *total) {
  HERE;
  return *free = emulated.memory - allocated, *total = emulated.memory, OK;
}
// The image is checked for being PTX, and keeps the names of its entries.
int cuModuleLoadDataEx(void **module, const char *image, unsigned, int *, void **options) {
  HERE;
  if (!strstr(image, ".version") || !strstr(image, ".entry")) {
    snprintf((char *)options[0], (size_t)options[1], "no PTX in sight");
    return INVALID_PTX;
  }
  return *module = (void *)image, OK;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
  HERE;
  auto i = kernels.find(name);
  if (i == kernels.end() || !strstr((const char *)module, (std::string(".entry ") + name + "(").c_str()))
    return NOT_FOUND;
  return *function = &i->second, OK;
}
int cuFuncSetAttribute(Kernel *k, int which, int value) {
  HERE;
  if (which != 8 || value > 227 << 10) return INVALID_VALUE;
  return k->shared = value, OK;
}
int cuMemAllocAsync(u64 *p, size_t count, Stream *) {
  HERE;
  if (allocated + count > emulated.memory) return OUT_OF_MEMORY;
  void *memory = nullptr;
  if (posix_memalign(&memory, 256, count)) return OUT_OF_MEMORY;
  memset(memory, 0xFF, count);  // not a number, so that what was never written shows in every result that it reaches
  blocks[*p = (u64)memory] = count;
  allocated += count;
  return OK;
}
int cuMemFreeAsync(u64 p, Stream *stream) {
  HERE;
  auto i = blocks.find(p);
  if (i == blocks.end()) return INVALID_VALUE;
  stream->add([p] {
    allocated -= blocks[p];
    blocks.erase(p);
    free((void *)p);
  });
  return OK;
}
int cuMemAllocHost_v2(void **p, size_t count) {
  HERE;
  return *p = aligned_alloc(4096, (count + 4095) / 4096 * 4096), OK;
}
int cuMemFreeHost(void *p) { return free(p), OK; }
int cuMemcpyHtoDAsync_v2(u64 to, const void *from, size_t count, Stream *stream) {
  HERE;
  if (!holds(to, count)) return INVALID_VALUE;
  return stream->add([=] { memcpy((void *)to, from, count); }), OK;
}
int cuMemcpyDtoHAsync_v2(void *to, u64 from, size_t count, Stream *stream) {
  HERE;
  if (!holds(from, count)) return INVALID_VALUE;
  return stream->add([=] { memcpy(to, (void *)from, count); }), OK;
}
int cuLaunchKernel(Kernel *k, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned, unsigned shared,
    Stream *stream, void **arguments, void **) {
  HERE;
  if (x == 0 || y == 0 || z != 1 || y > 65535 || threads == 0 || threads > 1024 || shared > k->shared)
    return INVALID_VALUE;
  stream->add([x, y, threads, shared, work = k->bind(arguments)] { gpu::launch(x, y, threads, shared, work); });
  return OK;
}
int cuStreamCreate(Stream **stream, unsigned) {
  HERE;
  return *stream = new Stream, OK;
}
int cuStreamDestroy_v2(Stream *stream) {
  HERE;
  stream->drain(stream->given);
  return delete stream, OK;
}
int cuStreamSynchronize(Stream *stream) {
  HERE;
  return stream->drain(stream->given), OK;
}
int cuEventCreate(Event **event, unsigned) {
  HERE;
  return *event = new Event, OK;
}
int cuEventDestroy_v2(Event *event) { return delete event, OK; }
int cuEventRecord(Event *event, Stream *stream) {
  HERE;
  return *event = {stream, stream->given}, OK;
}
int cuStreamWaitEvent(Stream *stream, Event *event, unsigned) {
  HERE;
  return stream->add([e = *event] { if (e.stream) e.stream->drain(e.place); }), OK;
}
int cuEventSynchronize(Event *event) {
  HERE;
  if (event->stream) event->stream->drain(event->place);
  return OK;
}
int cuDeviceGetDefaultMemPool(void **pool, int) { return *pool = (void *)1, OK; }
int cuMemPoolSetAttribute(void *, int, void *) { return OK; }
int cuGetErrorString(int code, const char **text) {
  *text = code == OUT_OF_MEMORY ? "out of memory"
      : code == NO_DEVICE       ? "no CUDA-capable device is detected"
                                : "emulated error";
  return OK;
}

}  // extern "C"

#define ENTRY(name) {#name, (void *)name}
static const std::map<std::string, void *> entries{
    ENTRY(cuInit), ENTRY(cuDriverGetVersion), ENTRY(cuDeviceGetCount), ENTRY(cuDeviceGet), ENTRY(cuDeviceGetName),
    ENTRY(cuDeviceTotalMem_v2), ENTRY(cuDeviceGetAttribute), ENTRY(cuDevicePrimaryCtxRetain), ENTRY(cuCtxSetCurrent),
    ENTRY(cuMemGetInfo_v2), ENTRY(cuModuleLoadDataEx), ENTRY(cuModuleGetFunction), ENTRY(cuFuncSetAttribute),
    ENTRY(cuMemAllocAsync), ENTRY(cuMemFreeAsync), ENTRY(cuMemAllocHost_v2), ENTRY(cuMemFreeHost),
    ENTRY(cuMemcpyHtoDAsync_v2), ENTRY(cuMemcpyDtoHAsync_v2), ENTRY(cuLaunchKernel), ENTRY(cuStreamCreate),
    ENTRY(cuStreamDestroy_v2), ENTRY(cuStreamSynchronize), ENTRY(cuStreamWaitEvent), ENTRY(cuEventCreate),
    ENTRY(cuEventDestroy_v2), ENTRY(cuEventRecord), ENTRY(cuEventSynchronize),
    ENTRY(cuDeviceGetDefaultMemPool), ENTRY(cuMemPoolSetAttribute), ENTRY(cuGetErrorString),
};

extern "C" void *emulated_entry(const char *name) {
  auto i = entries.find(name);
  return i == entries.end() ? nullptr : i->second;
}
extern "C" void *emulated_entry_without(const char *name, const char *missing) {
  return strcmp(name, missing) == 0 ? nullptr : emulated_entry(name);
}
extern "C" void emulated_use(emulated_settings settings) {
  std::lock_guard guard(lock);
  emulated = settings;
}
extern "C" unsigned long long emulated_allocated(void) {
  std::lock_guard guard(lock);
  return allocated;
}

#if defined(__x86_64__)
asm(".text\n"
    ".globl emulated_switch\n"
    ".type emulated_switch,@function\n"
    "emulated_switch:\n"
    " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp,(%rdi)\n mov %rsi,%rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n ret\n");
#endif
