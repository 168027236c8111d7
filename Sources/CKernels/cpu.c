#include "internal.h"

// The only state in this target: found once, and only ever lowered by tests.
static int limit = 1000;

static int detect(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return 1;
#endif
  return 0;
}

int llv_cpu_level(void) {
  static int found = -1;
  int level = __atomic_load_n(&found, __ATOMIC_RELAXED);
  if (level < 0) {
    level = detect();
    __atomic_store_n(&found, level, __ATOMIC_RELAXED);
  }
  int most = __atomic_load_n(&limit, __ATOMIC_RELAXED);
  return level < most ? level : most;
}

void llv_cpu_limit(int level) { __atomic_store_n(&limit, level, __ATOMIC_RELAXED); }
