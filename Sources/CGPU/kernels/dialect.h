// What a kernel may use: one spelling for each operation. For a GPU each is one PTX instruction or a compiler's
// builtin; for a processor emulated.h gives each its meaning, so that tests run the very source that ships. No header
// and no library of CUDA is needed.
#pragma once

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#if defined(__CUDA__)

#define DEV __attribute__((device)) inline __attribute__((always_inline))
// A kernel for blocks of so many threads, of which a multiprocessor should hold at least `blocks`.
#define KERNEL(threads, blocks) \
  extern "C" __attribute__((global)) __attribute__((launch_bounds(threads, blocks))) void
#define TID ((int)__nvvm_read_ptx_sreg_tid_x())
#define BX ((int)__nvvm_read_ptx_sreg_ctaid_x())
#define BY ((int)__nvvm_read_ptx_sreg_ctaid_y())
// All threads of the block wait for each other.
#define SYNC() __syncthreads()
#define UNROLL _Pragma("unroll")
extern __attribute__((shared)) __attribute__((aligned(1024))) u8 smem[];

// A cast, not `cvta`: clang cannot see through assembly, and hoists every address out of the loops.
DEV u32 shared_address(const void *p) { return (u32)(u64)(__attribute__((address_space(3))) const void *)p; }

// MARK: Copies from global to shared memory that go on beside the thread

// 16 bytes; zeros where not live. They land at the wait for their group at the latest.
DEV void cp16(void *to, const void *from, bool live) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(live ? 16 : 0)
               : "memory");
}
DEV void cp_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Until at most N groups are under way.
template <int N> DEV void cp_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// MARK: Matrix products of a warp

// Four 8 x 8 matrices of 16 bits; lane l names the row l % 8 of matrix l / 8, and gets of each matrix its row l / 4,
// columns l % 4 * 2 and + 1.
DEV void ldsm4(u32 (&r)[4], const void *p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}
// The same, each matrix transposed.
DEV void ldsm4t(u32 (&r)[4], const void *p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}
// d[16, 8] += a[16, 32] b[8, 32]ᵀ of bytes.
DEV void mma(int (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// d[16, 8] += a[16, 16] b[8, 16]ᵀ of BF16, added in Float32.
DEV void mma(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// MARK: Numbers

DEV u32 shfl_xor(u32 v, int mask) {
  u32 r;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 31, 0xffffffff;" : "=r"(r) : "r"(v), "r"(mask));
  return r;
}
DEV float as_float(u32 x) { return __builtin_bit_cast(float, x); }
DEV u32 as_bits(float x) { return __builtin_bit_cast(u32, x); }
// Two BF16, nearest, ties to even; `low` in the low half.
DEV u32 bf16x2(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
DEV float from_half(u16 x) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
  return r;
}
// 2^x to two units in the last place; results below the normal numbers are 0.
DEV float exp2_fast(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
// Nearest, ties to even.
DEV int round_int(float x) {
  int r;
  asm("cvt.rni.s32.f32 %0, %1;" : "=r"(r) : "f"(x));
  return r;
}
DEV float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEV float largest(float a, float b) { return a > b ? a : b; }
DEV float magnitude(float x) { return as_float(as_bits(x) & 0x7fffffff); }
DEV float with_sign(float x, float sign) { return as_float((as_bits(x) & 0x7fffffff) | (as_bits(sign) & 0x80000000)); }
DEV double root(double x) { return __builtin_sqrt(x); }

#ifdef HOPPER
// MARK: Hopper's products of four warps

// A tile of rows of 128 bytes, K-major, swizzled by 128 bytes, eight rows in 1,024 bytes.
DEV u64 tile(const void *p) {
  return ((u64)(shared_address(p) & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
// What this thread has stored is there for the products.
DEV void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
DEV void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEV void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N> DEV void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory"); }
#define LLV_PLACES                                                                                                     \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%"   \
  "30,"                                                                                                                \
  "%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%"  \
  "59,"                                                                                                                \
  "%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%"  \
  "88,"                                                                                                                \
  "%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113," \
  "%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, %128, %129, 1"
#define LLV_4(c, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define LLV_16(c, i) LLV_4(c, i), LLV_4(c, i + 4), LLV_4(c, i + 8), LLV_4(c, i + 12)
#define LLV_128(c) \
  LLV_16(c, 0), LLV_16(c, 16), LLV_16(c, 32), LLV_16(c, 48), LLV_16(c, 64), LLV_16(c, 80), LLV_16(c, 96), LLV_16(c, 112)
#define LLV_INT(x) "+r"(x)
#define LLV_FLOAT(x) "+f"(x)
// d[64, 256] += a[64, 32 bytes] b[256, 32 bytes]ᵀ, both in shared memory.
DEV void wgmma(int (&d)[128], u64 a, u64 b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 " LLV_PLACES ";" : LLV_128(LLV_INT) : "l"(a), "l"(b));
}
DEV void wgmma(float (&d)[128], u64 a, u64 b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " LLV_PLACES ", 1, 1, 0, 0;"
               : LLV_128(LLV_FLOAT) : "l"(a), "l"(b));
}
#endif

#else
#include "emulated.h"
#endif

DEV float shfl_xor(float v, int mask) { return as_float(shfl_xor(as_bits(v), mask)); }
DEV double shfl_xor(double v, int mask) {
  u64 bits = __builtin_bit_cast(u64, v);
  u64 low = shfl_xor((u32)bits, mask), high = shfl_xor((u32)(bits >> 32), mask);
  return __builtin_bit_cast(double, high << 32 | low);
}
DEV int shfl_xor(int v, int mask) { return (int)shfl_xor((u32)v, mask); }
DEV float from_bfloat16(u16 x) { return as_float((u32)x << 16); }
