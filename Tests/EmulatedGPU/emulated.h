// The dialect's meaning on a processor. Every thread of a block is a fiber; an operation of a warp waits for its 32
// lanes, and the last to come does it for all; SYNC waits for the block. Copies and Hopper's products land at once or
// as late as the program allows, and warps run in turn or in a random order, so that a missing wait or barrier shows as
// a wrong number. Shared memory starts as garbage.
#pragma once
#pragma STDC FP_CONTRACT OFF
#pragma clang diagnostic ignored "-Wunknown-pragmas"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <functional>
#include <utility>
#include <vector>

#include "EmulatedGPU.h"
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#define DEV inline
#define KERNEL(threads, blocks) extern "C" void
#define TID (gpu::current->thread)
#define BX (gpu::block_x)
#define BY (gpu::block_y)
#define SYNC() gpu::barrier()
#define UNROLL

alignas(1024) inline u8 smem[232 << 10];

extern emulated_settings emulated;

namespace gpu {

struct Meeting { int arrived = 0; unsigned round = 0; };
struct Copy { void *to; const void *from; bool live; };

struct Fiber {
  int thread = 0;
  bool done = false;
  const Meeting *waits = nullptr;  // for the others of this, until its round is another
  unsigned round = 0;
  const void *in = nullptr;
  void *out = nullptr;
  std::vector<std::vector<Copy>> copies{1};
  std::vector<size_t> unseen;  // chunks of 16 bytes that it has stored and no fence has shown to the products
  std::vector<std::vector<std::function<void()>>> products{1};
#if defined(__x86_64__)
  void *stack = nullptr;
#else
  ucontext_t context;
#endif
};

inline Fiber *current;
inline int block_x, block_y, threads;
inline std::vector<Fiber> fibers;
inline std::vector<Meeting> warps, groups;
inline Meeting block;
inline std::function<void()> body;
inline unsigned state;  // of the random order
inline bool is_unseen[sizeof smem / 16];

// MARK: Fibers

#if defined(__x86_64__)
inline void *scheduler;
// Saves the registers that a call keeps and the stack pointer, and takes up another's.
extern "C" void emulated_switch(void **from, void *to);
inline void enter(Fiber &f) { emulated_switch(&scheduler, f.stack); }
inline void leave() { emulated_switch(&current->stack, scheduler); }
#else
inline ucontext_t scheduler;
inline void enter(Fiber &f) { swapcontext(&scheduler, &f.context); }
inline void leave() { swapcontext(&current->context, &scheduler); }
#endif

inline void run_fiber() {
  body();
  current->done = true;
  leave();
}

inline void prepare(Fiber &f, char *stack, size_t size) {
#if defined(__x86_64__)
  void **top = (void **)((size_t)(stack + size) & ~size_t(15));
  *--top = nullptr;
  *--top = (void *)run_fiber;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  f.stack = top;
#else
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = stack;
  f.context.uc_stack.ss_size = size;
  f.context.uc_link = nullptr;
  makecontext(&f.context, run_fiber, 0);
#endif
}

template <class F> void meet(Meeting &m, int count, F all) {
  unsigned round = m.round;
  if (++m.arrived == count) {
    all();
    m.arrived = 0;
    m.round++;
  } else {
    current->waits = &m;
    current->round = round;
    while (m.round == round) leave();
    current->waits = nullptr;
  }
}
inline void barrier() { meet(block, threads, [] {}); }

// Lane by lane what each gave and where each wants the result.
template <class F> void of_warp(const void *in, void *out, F f) {
  current->in = in;
  current->out = out;
  Fiber *lanes = &fibers[current->thread & ~31];
  meet(warps[current->thread >> 5], 32, [&] { f(lanes); });
}

// MARK: Launches

// - shared: bytes of shared memory that the launch asked for; what lies behind them must stay as it was.
inline void run_block(char *stacks, size_t size, size_t shared) {
  fibers.resize(threads);
  warps.assign((threads + 31) / 32, {});
  groups.assign((threads + 127) / 128, {});
  block = {};
  size_t used = shared + 4096 < sizeof smem ? shared + 4096 : sizeof smem;
  memset(smem, 0xA5, used);
  memset(is_unseen, 0, used / 16);
  for (int t = 0; t < threads; t++) {
    fibers[t].thread = t;
    fibers[t].done = false;
    fibers[t].waits = nullptr;
    fibers[t].copies.resize(1);
    fibers[t].copies[0].clear();
    fibers[t].products.resize(1);
    fibers[t].products[0].clear();
    fibers[t].unseen.clear();
    prepare(fibers[t], stacks + t * size, size);
  }
  auto random = [] { return (state = state * 1664525u + 1013904223u) >> 8; };
  auto rounds = [] {
    unsigned all = block.round;
    for (auto &w : warps) all += w.round;
    for (auto &g : groups) all += g.round;
    return all;
  };
  std::vector<int> order(warps.size());
  for (size_t i = 0; i < order.size(); i++) order[i] = (int)i;
  for (int left = threads, idle = 0; left > 0;) {
    int before = left;
    unsigned met = rounds();
    if (state)
      for (size_t i = order.size(); i-- > 1;) std::swap(order[i], order[random() % (i + 1)]);
    for (int w : order)
      for (int again = state ? 1 + random() % 16 : 1; again-- > 0;)
        for (int t = w * 32; t < w * 32 + 32 && t < threads; t++)
          if (Fiber &f = fibers[t]; !f.done && !(f.waits && f.waits->round == f.round)) {
            current = &f;
            enter(f);
            left -= f.done;
          }
    idle = before == left && met == rounds() ? idle + 1 : 0;
    if (idle > 1) {
      fprintf(stderr, "emulated GPU: a barrier or an operation of a warp that some lanes never reach\n");
      abort();
    }
  }
  for (size_t i = shared; i < used; i++)
    if (smem[i] != 0xA5) {
      fprintf(stderr, "emulated GPU: shared memory written at byte %zu of %zu\n", i, shared);
      abort();
    }
}

inline void launch(int x, int y, int count, size_t shared, std::function<void()> kernel) {
  // Not a power of two: what lies at the same place of all stacks would share few lines of the cache.
  constexpr size_t SIZE = (128 << 10) + 5 * 64;
  static std::vector<char> stacks;
  if (stacks.size() < count * SIZE) stacks.resize(count * SIZE);
  threads = count;
  body = std::move(kernel);
  state = emulated.order;
  for (block_y = 0; block_y < y; block_y++)
    for (block_x = 0; block_x < x; block_x++) run_block(stacks.data(), SIZE, shared);
}

inline void copy(const Copy &c) {
  if (c.live) memcpy(c.to, c.from, 16);
  else memset(c.to, 0, 16);
  size_t chunk = ((u8 *)c.to - smem) / 16;
  is_unseen[chunk] = true;
  current->unseen.push_back(chunk);
}

}  // namespace gpu

// MARK: Copies

DEV void cp16(void *to, const void *from, bool live) {
  if (((size_t)to | (size_t)from) & 15) {
    fprintf(stderr, "emulated GPU: a copy of 16 bytes from or to an address that is no multiple of 16\n");
    abort();
  }
  gpu::Copy copy{to, from, live};
  if (emulated.late_copies) gpu::current->copies.back().push_back(copy);
  else gpu::copy(copy);
}
DEV void cp_commit() { gpu::current->copies.push_back({}); }
template <int N> DEV void cp_wait() {
  auto &groups = gpu::current->copies;
  while (groups.size() > N + 1) {
    for (auto &copy : groups.front()) gpu::copy(copy);
    groups.erase(groups.begin());
  }
}

// MARK: Products of a warp

DEV void load_matrices(u32 (&r)[4], const void *p, bool transposed) {
  gpu::of_warp(p, r, [transposed](gpu::Fiber *lanes) {
    for (int m = 0; m < 4; m++)
      for (int lane = 0; lane < 32; lane++)
        for (int e = 0; e < 2; e++) {
          int row = lane >> 2, column = (lane & 3) * 2 + e;
          if (transposed) std::swap(row, column);
          ((u16 *)((u32 *)lanes[lane].out + m))[e] = ((const u16 *)lanes[m * 8 + row].in)[column];
        }
  });
}
DEV void ldsm4(u32 (&r)[4], const void *p) { load_matrices(r, p, false); }
DEV void ldsm4t(u32 (&r)[4], const void *p) { load_matrices(r, p, true); }

template <class T> struct Fragments { T *d; const u32 *a; u32 b[2]; };

// d[16, 8] += a[16, K] b[8, K]ᵀ; a register holds K / 8 elements of E in a row.
template <class T, class E, int K, T value(E)> DEV void product(T (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  Fragments<T> own{d, a, {b0, b1}};
  gpu::of_warp(&own, nullptr, [](gpu::Fiber *lanes) {
    E A[16][K], B[8][K];
    constexpr int N = K / 8;
    for (int lane = 0; lane < 32; lane++) {
      auto &f = *(const Fragments<T> *)lanes[lane].in;
      int row = lane >> 2, column = (lane & 3) * N;
      for (int i = 0; i < 4; i++) memcpy(&A[row + (i & 1) * 8][column + (i >> 1) * (K / 2)], &f.a[i], 4);
      for (int i = 0; i < 2; i++) memcpy(&B[row][column + i * (K / 2)], &f.b[i], 4);
    }
    for (int lane = 0; lane < 32; lane++) {
      auto &f = *(const Fragments<T> *)lanes[lane].in;
      for (int e = 0; e < 4; e++) {
        const E *p = A[(lane >> 2) + (e >> 1) * 8], *q = B[(lane & 3) * 2 + (e & 1)];
        T sum = 0;
        for (int k = 0; k < K; k++) sum += value(p[k]) * value(q[k]);
        f.d[e] += sum;
      }
    }
  });
}
DEV int byte_value(i8 x) { return x; }
DEV float bfloat16_value(u16 x) { return __builtin_bit_cast(float, (u32)x << 16); }
DEV void mma(int (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) { product<int, i8, 32, byte_value>(d, a, b0, b1); }
DEV void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  product<float, u16, 16, bfloat16_value>(d, a, b0, b1);
}

// MARK: Numbers

DEV u32 shfl_xor(u32 v, int mask) {
  u32 r;
  gpu::of_warp(&v, &r, [mask](gpu::Fiber *lanes) {
    u32 all[32];
    for (int i = 0; i < 32; i++) all[i] = *(const u32 *)lanes[i].in;
    for (int i = 0; i < 32; i++) *(u32 *)lanes[i].out = all[i ^ mask];
  });
  return r;
}
DEV float as_float(u32 x) { return __builtin_bit_cast(float, x); }
DEV u32 as_bits(float x) { return __builtin_bit_cast(u32, x); }
DEV u32 bfloat16_bits(float f) {
  u32 x = as_bits(f);
  return f != f ? 0x7fff : (x + 0x7fff + (x >> 16 & 1)) >> 16;
}
DEV u32 bf16x2(float low, float high) { return bfloat16_bits(low) | bfloat16_bits(high) << 16; }
DEV float from_half(u16 x) {
  int exponent = x >> 10 & 31, fraction = x & 1023;
  float size = exponent == 31 ? (fraction ? NAN : INFINITY)
               : exponent == 0 ? ldexpf((float)fraction, -24) : ldexpf((float)(fraction + 1024), exponent - 25);
  return x >> 15 ? -size : size;
}
DEV float exp2_fast(float x) {
  float r = exp2f(x);
  return r < 0x1p-126f ? 0 : r;
}
DEV int round_int(float x) {
  if (x != x) return 0;
  float r = rintf(x);
  return r >= 0x1p31f ? 0x7fffffff : r <= -0x1p31f ? (int)0x80000000 : (int)r;
}
DEV float fused(float a, float b, float c) { return fmaf(a, b, c); }
DEV float largest(float a, float b) { return a > b ? a : b; }
DEV float magnitude(float x) { return fabsf(x); }
DEV float with_sign(float x, float sign) { return copysignf(x, sign); }
DEV double root(double x) { return sqrt(x); }

// MARK: Hopper's products. 128 threads issue one; it reads shared memory and adds to registers at once or at the wait.

DEV u64 tile(const void *p) {
  return ((const u8 *)p - smem) >> 4 | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
DEV void fence_async() {
  for (size_t chunk : gpu::current->unseen) gpu::is_unseen[chunk] = false;
  gpu::current->unseen.clear();
}
DEV void wgmma_fence() {}
DEV void wgmma_commit() { gpu::current->products.push_back({}); }
template <int N> DEV void wgmma_wait() {
  auto &groups = gpu::current->products;
  while (groups.size() > N + 1) {
    for (auto &product : groups.front()) product();
    groups.erase(groups.begin());
  }
}
// 32 bytes of a row of a tile, through the swizzle, which moves pieces of 16.
template <class T, class E, T value(E)> DEV void read_tile(u64 tile, int row, T *to) {
  E elements[32 / sizeof(E)];
  for (int half = 0; half < 2; half++) {
    size_t address = ((tile & 0x3fff) << 4) + (row >> 3) * ((tile >> 32 & 0x3fff) << 4) + (row & 7) * 128 + 16 * half;
    memcpy((u8 *)elements + 16 * half, smem + (address ^ (address >> 7 & 7) << 4), 16);
  }
  for (size_t k = 0; k < 32 / sizeof(E); k++) to[k] = value(elements[k]);
}
template <class T, class E, T value(E)> DEV void group_product(T (&d)[128], u64 a, u64 b) {
  using namespace gpu;
  meet(groups[current->thread >> 7], 128, [=] {
    for (auto [tile, rows] : {std::pair{a, 64}, std::pair{b, 256}}) {
      size_t first = (tile & 0x3fff) << 4 & ~size_t(1023);
      for (size_t i = 0; i < rows * 128u; i += 16)
        if (is_unseen[(first + i) / 16]) {
          fprintf(stderr, "emulated GPU: a product of a warp group reads what was stored without fence_async\n");
          abort();
        }
    }
  });
  int t = current->thread & 127, row = (t >> 5) * 16 + (t & 31) / 4, column = (t & 3) * 2;
  T *to = d;
  auto multiply = [=] {
    constexpr int K = 32 / sizeof(E);
    T x[2][K], w[K];
    for (int h = 0; h < 2; h++) read_tile<T, E, value>(a, row + h * 8, x[h]);
    for (int j = 0; j < 64; j++) {
      read_tile<T, E, value>(b, (j >> 1) * 8 + column + (j & 1), w);
      for (int h = 0; h < 2; h++) {
        T sum = 0;
        for (int k = 0; k < K; k++) sum += x[h][k] * w[k];
        to[(j >> 1) * 4 + h * 2 + (j & 1)] += sum;
      }
    }
  };
  if (emulated.late_products) current->products.back().push_back(multiply);
  else multiply();
}
DEV void wgmma(int (&d)[128], u64 a, u64 b) { group_product<int, i8, byte_value>(d, a, b); }
DEV void wgmma(float (&d)[128], u64 a, u64 b) { group_product<float, u16, bfloat16_value>(d, a, b); }
