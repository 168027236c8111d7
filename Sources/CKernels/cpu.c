#include "internal.h"

#if defined(LLV_ARM) && defined(__linux__)
#include <sys/auxv.h>
#endif

// Of a thread, so that a test that lowers it disturbs no other: activations are rounded for the set that takes them.
static _Thread_local unsigned allowed = ~0u;

#if defined(LLV_X86) && !defined(LLV_EMULATED)
// CPUID leaf 7, EBX bit 29. (The compiler's feature test does not know the name on every version.)
static int has_sha(void) {
  unsigned a = 7, b, c = 0, d;
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return b >> 29 & 1;
}
#endif

static unsigned detect(void) {
  unsigned found = 0;
#if defined(LLV_EMULATED)
  found = LLV_CPU_AVX2 | LLV_CPU_AVX_VNNI | LLV_CPU_AVX512 | LLV_CPU_AVX512_VNNI | LLV_CPU_AVX512_BF16;
#elif defined(LLV_X86)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"))
    found |= LLV_CPU_AVX2;
  if (__builtin_cpu_supports("avxvnni")) found |= LLV_CPU_AVX_VNNI;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    found |= LLV_CPU_AVX512;
  if (__builtin_cpu_supports("avx512vnni")) found |= LLV_CPU_AVX512_VNNI;
  if (__builtin_cpu_supports("avx512bf16")) found |= LLV_CPU_AVX512_BF16;
  if (found & LLV_CPU_AVX512 && found & LLV_CPU_AVX512_BF16 && llv_is_bf16_slow()) found |= LLV_CPU_SLOW_BF16;
  if (__builtin_cpu_supports("sse4.1") && has_sha()) found |= LLV_CPU_SHA;
#elif defined(LLV_ARM) && defined(__linux__)
  if (getauxval(AT_HWCAP) & (1 << 20)) found |= LLV_CPU_DOT_PRODUCT;  // HWCAP_ASIMDDP
  if (getauxval(AT_HWCAP2) & (1 << 13)) found |= LLV_CPU_I8MM;        // HWCAP2_I8MM
#endif
  return found;
}

// Without what they stand on, kernels for these are not run.
static unsigned with_their_base(unsigned set) {
  if (!(set & LLV_CPU_AVX2)) set &= ~(LLV_CPU_AVX_VNNI | LLV_CPU_AVX512);
  if (!(set & LLV_CPU_AVX512)) set &= ~(LLV_CPU_AVX512_VNNI | LLV_CPU_AVX512_BF16);
  if (!(set & LLV_CPU_AVX512_BF16)) set &= ~LLV_CPU_SLOW_BF16;
  if (!(set & LLV_CPU_DOT_PRODUCT)) set &= ~LLV_CPU_I8MM;
  return set;
}

unsigned llv_cpu_features(void) {
  static unsigned found;
  static int known;
  if (!__atomic_load_n(&known, __ATOMIC_ACQUIRE)) {
    __atomic_store_n(&found, detect(), __ATOMIC_RELAXED);
    __atomic_store_n(&known, 1, __ATOMIC_RELEASE);
  }
  return with_their_base(__atomic_load_n(&found, __ATOMIC_RELAXED) & allowed);
}

void llv_cpu_allow(unsigned features) { allowed = features; }

const char *llv_cpu_name(unsigned feature) {
  switch (feature) {
    case LLV_CPU_AVX2: return "AVX2";
    case LLV_CPU_AVX_VNNI: return "AVX-VNNI";
    case LLV_CPU_AVX512: return "AVX-512";
    case LLV_CPU_AVX512_VNNI: return "AVX-512 VNNI";
    case LLV_CPU_AVX512_BF16: return "AVX-512 BF16";
    case LLV_CPU_SHA: return "SHA";
    case LLV_CPU_DOT_PRODUCT: return "NEON dot products";
    case LLV_CPU_I8MM: return "NEON i8mm";
    case LLV_CPU_SLOW_BF16: return "slow BF16";
    default: return 0;
  }
}
