#include "sight.h"

#include <math.h>
#include <string.h>

// Attention whose products are of 8-bit integers, after SageAttention (Zhang et al. 2024, arXiv 2410.02367): queries
// and keys with a scale a row, keys without their mean, which softmax does not see; weights of a block of keys relative
// to the largest of the block, 0...127, values without their mean with a scale a column. Weights too small for a code
// are still in the sum that the result is divided by: what they would add is then the values' mean, not nothing.
enum { KEYS = 256, TILE = 12 };

typedef uint8_t b16 __attribute__((ext_vector_type(LLV_PANEL), aligned(1)));

LLV_INLINE size_t up(size_t n, size_t step) { return (n + step - 1) / step * step; }
LLV_INLINE size_t least(size_t a, size_t b) { return a < b ? a : b; }

// MARK: Keys and values

// Where things are in what `llv_pack_attention_int8` makes: floats first.
typedef struct {
  float *key_scales, *key_mean, *value_scales, *value_mean;  // [count up to 16], [width], [width], [width]
  uint8_t *keys;   // [count / 16][d / 4][16, 4], stored 128 larger
  int8_t *values;  // [width / 16][count / 4][16, 4]: four keys of a column side by side
} packed;

LLV_INLINE packed packed_at(void *memory, size_t count, size_t d) {
  size_t rows = up(count, LLV_PANEL), width = up(d, LLV_PANEL);
  packed p = {.key_scales = memory};
  p.key_mean = p.key_scales + rows, p.value_scales = p.key_mean + width, p.value_mean = p.value_scales + width;
  p.keys = (uint8_t *)(p.value_mean + width);
  p.values = (int8_t *)(p.keys + rows * up(d, 4));
  return p;
}

size_t llv_attention_int8_bytes(size_t count, size_t d) {
  size_t rows = up(count, LLV_PANEL), width = up(d, LLV_PANEL);
  return up((rows + 3 * width) * 4 + rows * up(d, 4) + width * up(count, 4), 64);
}

// Sixteen columns of a row, or the n that it has.
LLV_INLINE v16 load(const float *x, size_t n) {
  if (n >= LLV_PANEL) return *(const v16 *)x;
  v16 row = 0;
  for (size_t j = 0; j < n; j++) row[j] = x[j];
  return row;
}

LLV_INLINE v16 magnitude(v16 x) { return (v16)((w16)x & 0x7FFFFFFF); }
LLV_INLINE v16 larger(v16 a, v16 b) { return a > b ? a : b; }

// Nearest, ties to even, of magnitudes up to 127: the low byte is the code in two's complement.
LLV_INLINE w16 codes_of(v16 x, v16 inverse) { return (w16)(x * inverse + 12582912.0f) & 255; }

// Heads lie side by side in rows so long that no processor foresees what is read next.
LLV_INLINE void ahead(const float *x, size_t stride, size_t row, size_t rows) {
  enum { AHEAD = 12 };
  if (row + AHEAD < rows) __builtin_prefetch(x + (row + AHEAD) * stride);
}

// Mean of each column [width], zeros beyond d: sums in double of 64 rows each, which a GPU can compute side by side,
// rounded once.
LLV_INLINE void column_means(const float *x, size_t stride, size_t count, size_t d, float *mean) {
  for (size_t first = 0; first < d; first += LLV_PANEL) {
    typedef double d16 __attribute__((ext_vector_type(LLV_PANEL)));
    d16 sum = 0;
    for (size_t i = 0; i < count;) {
      d16 part = 0;
      for (size_t end = least(i + 64, count); i < end; i++) {
        ahead(x + first, stride, i, count);
        part += __builtin_convertvector(load(x + i * stride + first, d - first), d16);
      }
      sum += part;
    }
    *(v16 *)(mean + first) = __builtin_convertvector(sum / (double)count, v16);
  }
}

// Keys of one panel: words of four columns, sixteen keys side by side.
LLV_INLINE void pack_keys(
    const float *k, size_t stride, size_t count, size_t d, const float *mean, float *scales, uint8_t *panel) {
  for (size_t r = 0; r < LLV_PANEL; r++) {
    if (r >= count) {
      scales[r] = 0;
      for (size_t c = 0; c < d; c += 4) memset(panel + c * LLV_PANEL + 4 * r, 128, 4);
      continue;
    }
    v16 most = 0;
    for (size_t c = 0; c < d; c += LLV_PANEL)
      most = larger(magnitude(load(k + r * stride + c, d - c) - *(const v16 *)(mean + c)), most);
    float all = llv_most_of(most);
    v16 inverse = all > 0 ? 127.0f / all : 0;
    for (size_t c = 0; c < d; c += LLV_PANEL) {
      b16 codes = __builtin_convertvector(
          codes_of(load(k + r * stride + c, d - c) - *(const v16 *)(mean + c), inverse) ^ 128, b16);
      for (size_t word = 0; word < 4 && c + 4 * word < d; word++)
        memcpy(panel + (c + 4 * word) * LLV_PANEL + 4 * r, (const uint8_t *)&codes + 4 * word, 4);
    }
    scales[r] = all / 127.0f;
  }
}

// Values of sixteen columns, n of which there are: words of four keys.
LLV_INLINE void pack_values(
    const float *v, size_t stride, size_t count, size_t n, v16 mean, float *scales, int8_t *panel) {
  v16 most = 0;
  for (size_t i = 0; i < count; i++) most = larger(magnitude(load(v + i * stride, n) - mean), most);
  *(v16 *)scales = most / 127.0f;
  v16 inverse = 127.0f / most;
  inverse = most > 0 ? inverse : 0;
  for (size_t i = 0; i < count; i += 4) {
    w16 word = 0;
    for (size_t k = 0; k < 4 && i + k < count; k++)
      word |= codes_of(load(v + (i + k) * stride, n) - mean, inverse) << (uint32_t)(8 * k);
    *(w16 *)(panel + i * LLV_PANEL) = word;
  }
}

LLV_INLINE void llv_pack_attention_int8_body(
    const float *k, size_t k_stride, const float *v, size_t v_stride, size_t count, size_t d, void *memory) {
  packed p = packed_at(memory, count, d);
  column_means(k, k_stride, count, d, p.key_mean);
  for (size_t i = 0; i < count; i += LLV_PANEL)
    pack_keys(k + i * k_stride, k_stride, least(count - i, LLV_PANEL), d, p.key_mean, p.key_scales + i,
        p.keys + i * up(d, 4));
  column_means(v, v_stride, count, d, p.value_mean);
  for (size_t first = 0; first < d; first += LLV_PANEL)
    pack_values(v + first, v_stride, count, d - first, *(const v16 *)(p.value_mean + first), p.value_scales + first,
                p.values + first * up(count, 4));
}
LLV_DISPATCH(llv_pack_attention_int8,
             (const float *k, size_t k_stride, const float *v, size_t v_stride, size_t count, size_t d, void *memory),
             (k, k_stride, v, v_stride, count, d, memory))

// MARK: Products

// Scores of some queries and `keys` keys, whole panels of 16: the exact integer sum times the key's scale, [rows,
// KEYS]. q: rows `stride` apart; starts: [rows], -128 times the sum of a query's codes.
typedef void (*score_tiles)(size_t rows, const int8_t *q, size_t stride, size_t places, const int32_t *starts,
    const uint8_t *panels, const float *scales, size_t keys, float *scores);
// total = total shrink + grow (weights values) for all columns and `fours` times four keys of panels `stride` apart.
// weights: [rows, KEYS].
typedef void (*mix_tiles)(size_t rows, const uint8_t *weights, const int8_t *values, size_t fours, size_t stride,
                          const float *shrink, const float *grow, float *total, size_t width);

LLV_INLINE void score_plain(const size_t rows, const int8_t *q, size_t stride, size_t places, const int32_t *starts,
    const uint8_t *panels, const float *scales, size_t keys, float *scores) {
  for (size_t first = 0; first < keys; first += LLV_PANEL, panels += LLV_PANEL * places)
    for (size_t r = 0; r < rows; r++) {
      int32_t sum[LLV_PANEL];
      for (size_t j = 0; j < LLV_PANEL; j++) sum[j] = starts[r];
      for (size_t i = 0; i < places; i += 4)
        for (size_t j = 0; j < LLV_PANEL; j++)
          for (size_t k = 0; k < 4; k++) sum[j] += (int32_t)q[r * stride + i + k] * panels[i * LLV_PANEL + 4 * j + k];
      for (size_t j = 0; j < LLV_PANEL; j++) scores[r * KEYS + first + j] = (float)sum[j] * scales[first + j];
    }
}

LLV_INLINE void mix_plain(const size_t rows, const uint8_t *weights, const int8_t *values, size_t fours,
    const float *shrink, const float *grow, float *total, size_t width) {
  for (size_t r = 0; r < rows; r++) {
    int32_t sum[LLV_PANEL] = {0};
    for (size_t i = 0; i < fours; i++)
      for (size_t j = 0; j < LLV_PANEL; j++)
        for (size_t k = 0; k < 4; k++)
          sum[j] += (int32_t)weights[r * KEYS + 4 * i + k] * values[i * 4 * LLV_PANEL + 4 * j + k];
    for (size_t j = 0; j < LLV_PANEL; j++)
      total[r * width + j] = fmaf((float)sum[j], grow[r], total[r * width + j] * shrink[r]);
  }
}

#if defined(LLV_X86)
LLV_INLINE int32_t four(const void *codes) {
  int32_t word;
  memcpy(&word, codes, 4);
  return word;
}

// 16 keys, or 16 columns, a vector; the other side's codes come from memory as part of the instruction.
LLV_AVX512_VNNI LLV_INLINE void score_avx512(const size_t rows, const int8_t *q, size_t stride, size_t places,
    const int32_t *starts, const uint8_t *panels, const float *scales, size_t keys, float *scores) {
  for (size_t first = 0; first < keys; first += LLV_PANEL) {
    __m512i sum[TILE];
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sum[r] = _mm512_set1_epi32(starts[r]);
    for (size_t i = 0; i < places; i += 4, panels += 4 * LLV_PANEL) {
      __m512i codes = _mm512_loadu_si512(panels);
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++)
        sum[r] = _mm512_dpbusd_epi32(sum[r], codes, _mm512_set1_epi32(four(q + r * stride + i)));
    }
    __m512 scale = _mm512_loadu_ps(scales + first);
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++)
      _mm512_storeu_ps(scores + r * KEYS + first, _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r]), scale));
  }
}

LLV_AVX512_VNNI LLV_INLINE void mix_avx512(const size_t rows, const uint8_t *weights, const int8_t *values,
    size_t fours, const float *shrink, const float *grow, float *total, size_t width) {
  __m512i sum[TILE];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) sum[r] = _mm512_setzero_si512();
  for (size_t i = 0; i < fours; i++, values += 4 * LLV_PANEL) {
    __m512i codes = _mm512_loadu_si512(values);
#pragma clang loop unroll(full)
    // Weights are at most 127, so either side may be the signed one.
    for (size_t r = 0; r < rows; r++)
      sum[r] = _mm512_dpbusd_epi32(sum[r], _mm512_set1_epi32(four(weights + r * KEYS + 4 * i)), codes);
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    float *to = total + r * width;
    __m512 before = _mm512_mul_ps(_mm512_loadu_ps(to), _mm512_set1_ps(shrink[r]));
    _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r]), _mm512_set1_ps(grow[r]), before));
  }
}

// 8 keys, or 8 columns, a vector. A query's magnitude is the unsigned side and its sign goes to the key, so that
// vpmaddubsw's sums of two products, 2 · 127² at most, fit 16 bits.
#define LLV_256(SET, TARGET, DOT)                                                                                      \
  TARGET LLV_INLINE void score_##SET(const size_t rows, const int8_t *q, size_t stride, size_t places,                 \
      const int32_t *starts, const uint8_t *panels, const float *scales, size_t keys, float *scores) {                 \
    (void)starts;                                                                                                      \
    for (size_t first = 0; first < keys; first += LLV_PANEL) {                                                         \
      __m256i sum[4][2];                                                                                               \
      _Pragma("clang loop unroll(full)") for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] =                     \
          _mm256_setzero_si256();                                                                                      \
      for (size_t i = 0; i < places; i += 4, panels += 4 * LLV_PANEL) {                                                \
        __m256i low = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)panels), _mm256_set1_epi8(-128));           \
        __m256i high = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(panels + 32)), _mm256_set1_epi8(-128));   \
        _Pragma("clang loop unroll(full)") for (size_t r = 0; r < rows; r++) {                                         \
          __m256i codes = _mm256_set1_epi32(four(q + r * stride + i)), size = _mm256_abs_epi8(codes);                  \
          sum[r][0] = DOT(sum[r][0], size, _mm256_sign_epi8(low, codes));                                              \
          sum[r][1] = DOT(sum[r][1], size, _mm256_sign_epi8(high, codes));                                             \
        }                                                                                                              \
      }                                                                                                                \
      _Pragma("clang loop unroll(full)") for (size_t r = 0; r < rows; r++) for (int half = 0; half < 2; half++)        \
          _mm256_storeu_ps(scores + r * KEYS + first + 8 * half,                                                       \
              _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][half]), _mm256_loadu_ps(scales + first + 8 * half)));            \
    }                                                                                                                  \
  }                                                                                                                    \
  TARGET LLV_INLINE void mix_##SET(const size_t rows, const uint8_t *weights, const int8_t *values, size_t fours,      \
      const float *shrink, const float *grow, float *total, size_t width) {                                            \
    __m256i sum[4][2];                                                                                                 \
    _Pragma("clang loop unroll(full)") for (size_t r = 0; r < rows; r++) sum[r][0] = sum[r][1] =                       \
        _mm256_setzero_si256();                                                                                        \
    for (size_t i = 0; i < fours; i++, values += 4 * LLV_PANEL) {                                                      \
      __m256i low = _mm256_loadu_si256((const __m256i *)values),                                                       \
              high = _mm256_loadu_si256((const __m256i *)(values + 32));                                               \
      _Pragma("clang loop unroll(full)") for (size_t r = 0; r < rows; r++) {                                           \
        __m256i codes = _mm256_set1_epi32(four(weights + r * KEYS + 4 * i));                                           \
        sum[r][0] = DOT(sum[r][0], codes, low);                                                                        \
        sum[r][1] = DOT(sum[r][1], codes, high);                                                                       \
      }                                                                                                                \
    }                                                                                                                  \
    _Pragma("clang loop unroll(full)") for (size_t r = 0; r < rows; r++) for (int half = 0; half < 2; half++) {        \
      float *to = total + r * width + 8 * half;                                                                        \
      __m256 before = _mm256_mul_ps(_mm256_loadu_ps(to), _mm256_set1_ps(shrink[r]));                                   \
      _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][half]), _mm256_set1_ps(grow[r]), before));        \
    }                                                                                                                  \
  }

#define DOT_AVX2(sum, u, s) _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)))
LLV_256(avx2, LLV_AVX2, DOT_AVX2)
LLV_256(avx_vnni, LLV_AVX_VNNI, LLV_DPBUSD_256)
#endif

// Tiles of MOST rows, then of four, then of one.
#define LLV_PAIR(SET, TARGET, MOST)                                                                                    \
  TARGET static void score_tiles_##SET(size_t rows, const int8_t *q, size_t stride, size_t places,                     \
      const int32_t *starts, const uint8_t *panels, const float *scales, size_t keys, float *scores) {                 \
    size_t r = 0;                                                                                                      \
    for (; r + MOST <= rows; r += MOST)                                                                                \
      score_##SET(MOST, q + r * stride, stride, places, starts + r, panels, scales, keys, scores + r * KEYS);          \
    for (; r + 4 <= rows; r += 4)                                                                                      \
      score_##SET(4, q + r * stride, stride, places, starts + r, panels, scales, keys, scores + r * KEYS);             \
    for (; r < rows; r++)                                                                                              \
      score_##SET(1, q + r * stride, stride, places, starts + r, panels, scales, keys, scores + r * KEYS);             \
  }                                                                                                                    \
  TARGET static void mix_tiles_##SET(size_t rows, const uint8_t *weights, const int8_t *values, size_t fours,          \
      size_t stride, const float *shrink, const float *grow, float *total, size_t width) {                             \
    for (size_t c = 0; c < width; c += LLV_PANEL, values += stride) {                                                  \
      size_t r = 0;                                                                                                    \
      for (; r + MOST <= rows; r += MOST)                                                                              \
        mix_##SET(MOST, weights + r * KEYS, values, fours, shrink + r, grow + r, total + r * width + c, width);        \
      for (; r + 4 <= rows; r += 4)                                                                                    \
        mix_##SET(4, weights + r * KEYS, values, fours, shrink + r, grow + r, total + r * width + c, width);           \
      for (; r < rows; r++)                                                                                            \
        mix_##SET(1, weights + r * KEYS, values, fours, shrink + r, grow + r, total + r * width + c, width);           \
    }                                                                                                                  \
  }
LLV_PAIR(plain, , 4)
#if defined(LLV_X86)
LLV_PAIR(avx2, LLV_AVX2, 4)
LLV_PAIR(avx_vnni, LLV_AVX_VNNI, 4)
LLV_PAIR(avx512, LLV_AVX512_VNNI, TILE)
#endif

// MARK: Softmax

// 2^x for -126 <= x <= 127, relative error below 3e-6: x = n + f, a polynomial in f, and n into the exponent.
LLV_INLINE v16 exp2_fast(v16 x) {
  const v16 magic = 12582912.0f;  // 1.5 · 2^23: what is added to it is rounded to a whole number in its low bits
  v16 shifted = x + magic, f = x - (shifted - magic), p = 9.5700966856e-03f;
  p = __builtin_elementwise_fma(p, f, (v16)5.5917863341e-02f);
  p = __builtin_elementwise_fma(p, f, (v16)2.4024744987e-01f);
  p = __builtin_elementwise_fma(p, f, (v16)6.9312181440e-01f);
  p = __builtin_elementwise_fma(p, f, (v16)9.9999926139e-01f);
  return (v16)((w16)p + ((w16)shifted << 23));
}

LLV_INLINE float sum_of(v16 x) {
  __typeof__(x.lo) a = x.lo + x.hi;
  __typeof__(a.lo) b = a.lo + a.hi;
  return (b[0] + b[1]) + (b[2] + b[3]);
}

LLV_INLINE w16 below(size_t n) {
  w16 index = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return (w16)(index < (w16)(uint32_t)n);
}

// Lanes of the panel at i that are seen.
LLV_INLINE w16 seen_lanes(llv_range seen, size_t i) {
  return below(seen.to > i ? seen.to - i : 0) & ~below(seen.from > i ? seen.from - i : 0);
}

// Codes of weights 2^(scores factor + offset), of which `is_far` takes `most` off the scores first; gives the sum of
// weights.
LLV_INLINE v16 weigh_scores(
    const float *scores, llv_range seen, const int is_far, v16 most, v16 factor, v16 offset, uint8_t *weights) {
  const v16 least = -40, round = 8388608.0f;  // 2^23: as `magic` above, for numbers that are not negative
  v16 total = 0;
  for (size_t i = seen.from / LLV_PANEL * LLV_PANEL; i < seen.to; i += LLV_PANEL) {
    v16 x = *(const v16 *)(scores + i);
    x = __builtin_elementwise_fma(is_far ? x - most : x, factor, offset);
    v16 weight = exp2_fast(x > least ? x : least);
    if (i < seen.from || seen.to - i < LLV_PANEL) weight = (v16)((w16)weight & seen_lanes(seen, i));
    total += weight;
    *(b16 *)(weights + i) = __builtin_convertvector((w16)(weight + round) & 255, b16);
  }
  return total;
}

// Scores of the keys that are seen, in units of `scale`, to codes of weights relative to the largest, which is 127; of
// others 0. Gives that largest score and the sum of weights before they were rounded.
LLV_INLINE void weigh_row(
    const float *scores, llv_range seen, size_t keys, float scale, uint8_t *weights, float *most, float *sum) {
  size_t start = seen.from / LLV_PANEL * LLV_PANEL;
  v16 best = -INFINITY;
  for (size_t i = start; i < seen.to; i += LLV_PANEL) {
    v16 s = *(const v16 *)(scores + i);
    if (i < seen.from || seen.to - i < LLV_PANEL) {
      w16 lanes = seen_lanes(seen, i);
      s = (v16)(((w16)s & lanes) | ((w16)(v16)-INFINITY & ~lanes));
    }
    best = s > best ? s : best;
  }
  *most = llv_most_of(best);
  const float log2_127 = 6.98868468677f, offset = fmaf(-*most, scale, log2_127);
  // Where the offset is so large that its rounding could take the largest weight to another code, differences come
  // first.
  v16 total = fabsf(offset) > 16384 ? weigh_scores(scores, seen, 1, *most, scale, log2_127, weights)
                                    : weigh_scores(scores, seen, 0, 0, scale, offset, weights);
  // By vectors: mostly there is nothing to do, for which a call of memset is too much.
  for (size_t i = 0; i < start; i += LLV_PANEL) *(b16 *)(weights + i) = 0;
  for (size_t i = up(seen.to, LLV_PANEL); i < up(keys, LLV_PANEL); i += LLV_PANEL) *(b16 *)(weights + i) = 0;
  *sum = sum_of(total);
}

// What a row of attention is so far: the largest score; of this stretch of keys what its total has been shrunk by, and
// the sum of weights; that sum of the stretches before.
typedef struct { float most, carry; double part, sum; } running;

// Weights of a tile's rows for a block of keys, and how the totals so far and the block's are to be added. means:
// scores of the keys' mean.
LLV_INLINE void llv_weigh_codes_body(const float *scores, size_t rows, const llv_range *seen, size_t keys,
    const float *scales, const float *means, uint8_t *weights, running *state, float *shrink, float *grow) {
  float most[LLV_PANEL] = {0}, sum[LLV_PANEL] = {0};
  for (size_t r = 0; r < LLV_PANEL; r++) shrink[r] = grow[r] = 0;
  for (size_t r = 0; r < rows; r++) {
    weigh_row(scores + r * KEYS, seen[r], keys, scales[r], weights + r * KEYS, most + r, sum + r);
    if (seen[r].from == seen[r].to) continue;
    float block = fmaf(most[r], scales[r], means[r]), before = state[r].most;
    state[r].most = block > before || isnan(block) ? block : before;  // what is not a number stays that to the end
    shrink[r] = before - state[r].most, grow[r] = block - state[r].most;
  }
  // Not to -126: that power comes out a little below the smallest normal number, and each product with such a number
  // costs a hundred others.
  for (int i = 0; i < 2; i++) {
    v16 *to = (v16 *)(i ? grow : shrink), x = *to < -125 ? (v16)-125 : *to;
    *to = exp2_fast(x) + x * 0;
  }
  for (size_t r = 0; r < rows; r++) {
    if (seen[r].from == seen[r].to) shrink[r] = 1, grow[r] = 0;
    state[r].carry *= shrink[r];
    state[r].part = state[r].part * shrink[r] + (double)sum[r] * grow[r];
  }
}
LLV_DISPATCH(llv_weigh_codes,
    (const float *scores, size_t rows, const llv_range *seen, size_t keys, const float *scales, const float *means,
        uint8_t *weights, running *state, float *shrink, float *grow),
    (scores, rows, seen, keys, scales, means, weights, state, shrink, grow))

// Queries times `scale` to floats [m, width] and codes [m, width], with their scales and starts.
LLV_INLINE void llv_code_queries_body(const float *q, size_t stride, size_t m, size_t d, float scale, float *floats,
    int8_t *codes, float *scales, int32_t *starts) {
  size_t width = up(d, LLV_PANEL);
  for (size_t r = 0; r < m; r++, floats += width, codes += width) {
    v16 most = 0;
    for (size_t c = 0; c < d; c += LLV_PANEL) {
      ahead(q + c, stride, r, m);
      v16 x = load(q + r * stride + c, d - c) * scale;
      *(v16 *)(floats + c) = x;
      most = larger(magnitude(x), most);
    }
    float all = llv_most_of(most);
    v16 inverse = all > 0 ? 127.0f / all : 0;
    // Sums of codes that are 128 larger, so that none is negative.
    w16 sums = 0;
    for (size_t c = 0; c < d; c += LLV_PANEL) {
      w16 code = codes_of(*(const v16 *)(floats + c), inverse);
      *(b16 *)(codes + c) = __builtin_convertvector(code, b16);
      sums += code ^ 128;
    }
    scales[r] = all / 127.0f, starts[r] = -128 * ((int32_t)llv_sum_of(sums) - 128 * (int32_t)width);
  }
}
LLV_DISPATCH(llv_code_queries,
    (const float *q, size_t stride, size_t m, size_t d, float scale, float *floats, int8_t *codes, float *scales,
        int32_t *starts),
    (q, stride, m, d, scale, floats, codes, scales, starts))

// result = result carry + total scales + part mean, for the columns of one row.
LLV_INLINE void llv_end_part_body(
    const float *total, const packed *p, size_t width, float carry, float part, float *result) {
  for (size_t c = 0; c < width; c++)
    result[c] = fmaf(result[c], carry, fmaf(total[c], p->value_scales[c], part * p->value_mean[c]));
}
LLV_DISPATCH(llv_end_part, (const float *total, const packed *p, size_t width, float carry, float part, float *result),
             (total, p, width, carry, part, result))

// MARK: Attention

enum { QUERIES = LLV_ATTENTION_QUERIES };

size_t llv_attention_int8_scratch(size_t d) {
  size_t width = up(d, LLV_PANEL);
  return (TILE * KEYS + 3 * QUERIES * width) * 4 + TILE * KEYS + QUERIES * width;
}

void llv_attention_int8(const llv_attention_codes *parts, size_t part_count, const float *q, size_t stride, size_t m,
    size_t d, float scale, llv_sight sight, void *scratch, float *y, size_t y_stride) {
  size_t width = up(d, LLV_PANEL), places = up(d, 4);
  float *scores = scratch, *total = scores + TILE * KEYS, *result = total + QUERIES * width,
        *floats = result + QUERIES * width;
  int8_t *codes = (int8_t *)(floats + QUERIES * width);
  uint8_t *weights = (uint8_t *)(codes + QUERIES * width);
  float scales[QUERIES], means[QUERIES];
  LLV_ALIGNED float shrink[LLV_PANEL], grow[LLV_PANEL];
  int32_t starts[QUERIES];
  running state[QUERIES];
  score_tiles score = score_tiles_plain;
  mix_tiles mix = mix_tiles_plain;
#if defined(LLV_X86)
  unsigned features = llv_cpu_features();
  if (features & LLV_CPU_AVX512_VNNI) score = score_tiles_avx512, mix = mix_tiles_avx512;
  else if (features & LLV_CPU_AVX_VNNI) score = score_tiles_avx_vnni, mix = mix_tiles_avx_vnni;
  else if (features & LLV_CPU_AVX2) score = score_tiles_avx2, mix = mix_tiles_avx2;
#endif
  llv_code_queries(q, stride, m, d, scale * 1.44269504088896341f, floats, codes, scales, starts);  // 2^x for e^x
  for (size_t r = 0; r < m; r++) state[r] = (running){.most = -INFINITY};
  memset(result, 0, m * width * 4);
  for (size_t number = 0, base = 0; number < part_count; base += parts[number].count, number++) {
    size_t count = parts[number].count;
    packed p = packed_at((void *)parts[number].packed, count, d);
    size_t start = llv_seen(&sight, 0, base, count).from / KEYS * KEYS, last = llv_seen(&sight, m - 1, base, count).to;
    llv_dot_rows(p.key_mean, floats, m, width, means);
    memset(total, 0, m * width * 4);
    for (size_t r = 0; r < m; r++) state[r].carry = 1, state[r].part = 0;
    for (size_t first = start; first < last; first += KEYS) {
      size_t keys = least(last - first, KEYS);
      for (size_t row = 0; row < m; row += TILE) {
        size_t rows = least(m - row, TILE);
        llv_range seen[TILE];
        for (size_t r = 0; r < rows; r++) seen[r] = llv_in_block(llv_seen(&sight, row + r, base, count), first, keys);
        score(rows, codes + row * width, width, places, starts + row, p.keys + first * places, p.key_scales + first,
            keys, scores);
        llv_weigh_codes(scores, rows, seen, keys, scales + row, means + row, weights, state + row, shrink, grow);
        mix(rows, weights, p.values + first * LLV_PANEL, up(keys, 4) / 4, up(count, 4) * LLV_PANEL, shrink, grow,
            total + row * width, width);
      }
    }
    for (size_t r = 0; r < m; r++) {
      llv_end_part(total + r * width, &p, width, state[r].carry, (float)state[r].part, result + r * width);
      state[r].sum = state[r].sum * state[r].carry + state[r].part;
    }
  }
  for (size_t r = 0; r < m; r++)
    for (size_t c = 0; c < d; c++) y[r * y_stride + c] = result[r * width + c] * (float)(1 / state[r].sum);
}
