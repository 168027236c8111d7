#include "internal.h"

#include <limits.h>
#include <time.h>

// Twelve independent sums, enough to hide the latency of any of these instructions. The empty statements keep the
// compiler from computing anything ahead; they copy nothing, since copies of long vectors take a product's place.
enum { SUMS = 12 };

#if defined(LLV_X86) && !defined(LLV_EMULATED)
#define LLV_PEAK(NAME, TARGET, VECTOR, LOAD, STEP)                                                                     \
  TARGET static void NAME(size_t rounds) {                                                                             \
    VECTOR x = LOAD, sum[SUMS];                                                                                        \
    for (int i = 0; i < SUMS; i++) sum[i] = x;                                                                         \
    for (size_t k = 0; k < rounds; k++) {                                                                              \
      _Pragma("clang loop unroll(full)") for (int i = 0; i < SUMS; i++) {                                              \
        __asm__ volatile("" : "+v"(x), "+v"(sum[i]));                                                                  \
        sum[i] = STEP;                                                                                                 \
      }                                                                                                                \
    }                                                                                                                  \
    for (int i = 0; i < SUMS; i++) __asm__ volatile("" : : "v"(sum[i]));                                               \
  }
LLV_PEAK(float_avx2, LLV_AVX2, __m256, _mm256_set1_ps(1e-9f), _mm256_fmadd_ps(x, x, sum[i]))
LLV_PEAK(bytes_avx2, LLV_AVX2, __m256i, _mm256_set1_epi8(3),
    _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, x), x)))
LLV_PEAK(nibbles_avx2, LLV_AVX2, __m256i, _mm256_set1_epi8(3), _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(x, x)))
LLV_PEAK(bytes_avx_vnni, LLV_AVX_VNNI, __m256i, _mm256_set1_epi8(3), _mm256_dpbusd_avx_epi32(sum[i], x, x))
LLV_PEAK(float_avx512, LLV_AVX512, __m512, _mm512_set1_ps(1e-9f), _mm512_fmadd_ps(x, x, sum[i]))
LLV_PEAK(
    pairs_avx512, LLV_AVX512_BF16, __m512, _mm512_set1_ps(1e-9f), _mm512_dpbf16_ps(sum[i], (__m512bh)x, (__m512bh)x))
LLV_PEAK(bytes_avx512, LLV_AVX512_VNNI, __m512i, _mm512_set1_epi8(3), _mm512_dpbusd_epi32(sum[i], x, x))

// The least time of some short trials of either, 20 microseconds in all: on an Intel Xeon of Emerald Rapids as many
// products take the instruction twice as long.
int llv_is_bf16_slow(void) {
  enum { TRIALS = 6, ROUNDS = 200 };
  long least[2] = {LONG_MAX, LONG_MAX};
  for (int i = 0; i < 2 * TRIALS; i++) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    if (i % 2) pairs_avx512(ROUNDS);
    else float_avx512(2 * ROUNDS);
    clock_gettime(CLOCK_MONOTONIC, &end);
    long time = (end.tv_sec - start.tv_sec) * 1000000000 + end.tv_nsec - start.tv_nsec;
    if (time < least[i % 2]) least[i % 2] = time;
  }
  return least[1] > least[0];
}
#endif

double llv_peak(int kind, size_t rounds) {
#if defined(LLV_X86) && !defined(LLV_EMULATED)
  unsigned features = llv_cpu_features();
  double count = (double)rounds * SUMS;
  if (kind == LLV_PEAK_BF16 && llv_takes_bf16()) return pairs_avx512(rounds), count * 32;
  if (kind == LLV_PEAK_FLOAT || kind == LLV_PEAK_BF16) {
    if (features & LLV_CPU_AVX512) return float_avx512(rounds), count * 16;
    if (features & LLV_CPU_AVX2) return float_avx2(rounds), count * 8;
  } else if (features & LLV_CPU_AVX512_VNNI) {
    return bytes_avx512(rounds), count * 64;
  } else if (features & LLV_CPU_AVX2) {
    if (features & LLV_CPU_AVX_VNNI) return bytes_avx_vnni(rounds), count * 32;
    if (kind == LLV_PEAK_INT8) return bytes_avx2(rounds), count * 32;
    return nibbles_avx2(rounds), count * 32;
  }
#endif
  (void)kind, (void)rounds;
  return 0;
}
