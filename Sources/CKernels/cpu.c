#include "internal.h"

#if defined(LLV_ARM) && defined(__linux__)
#include <sys/auxv.h>
#endif

// Of a thread, so that a test that lowers it disturbs no other: activations are rounded for the set that takes them.
static _Thread_local int limit = 1000;

static int detect(void) {
#if defined(LLV_EMULATED)
  return LLV_LEVEL_AVX512_BF16;
#elif defined(LLV_X86)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c")) return 0;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni"))
    return __builtin_cpu_supports("avx512bf16") ? LLV_LEVEL_AVX512_BF16 : LLV_LEVEL_AVX512_VNNI;
  return __builtin_cpu_supports("avxvnni") ? LLV_LEVEL_AVX_VNNI : LLV_LEVEL_AVX2;
#elif defined(LLV_ARM) && defined(__linux__)
  if (!(getauxval(AT_HWCAP) & (1 << 20))) return 0;  // HWCAP_ASIMDDP
  return getauxval(AT_HWCAP2) & (1 << 13) ? LLV_LEVEL_I8MM : LLV_LEVEL_DOT_PRODUCT;  // HWCAP2_I8MM
#else
  return 0;
#endif
}

int llv_cpu_level(void) {
  static int found = -1;
  int level = __atomic_load_n(&found, __ATOMIC_RELAXED);
  if (level < 0) {
    level = detect();
    __atomic_store_n(&found, level, __ATOMIC_RELAXED);
  }
  if (level <= limit) return level;
#if defined(LLV_X86) && !defined(LLV_EMULATED)
  // AVX-512 VNNI does not bring AVX-VNNI with it.
  if (limit == LLV_LEVEL_AVX_VNNI && !__builtin_cpu_supports("avxvnni")) return LLV_LEVEL_AVX2;
#endif
  return limit;
}

void llv_cpu_limit(int level) { limit = level; }

const char *llv_cpu_name(void) {
#if defined(LLV_ARM)
  static const char *const names[] = {"plain C", "NEON dot products", "NEON i8mm"};
#else
  static const char *const names[] = {"plain C", "AVX2", "AVX-VNNI", "AVX-512 VNNI", "AVX-512 VNNI and BF16"};
#endif
  return names[llv_cpu_level()];
}
