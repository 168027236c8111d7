#include "internal.h"

#include <math.h>
#include <string.h>

// Groups are filled up to fours: a dot-product instruction takes four codes at a time.
LLV_INLINE size_t places_of(size_t n) { return (n + 3) / 4 * 4; }
LLV_INLINE size_t least(size_t a, size_t b) { return a < b ? a : b; }

// Which of the kernels below runs.
typedef enum { PLAIN, AVX2, AVX_VNNI, AVX512_VNNI, DOT_PRODUCT, I8MM } kernel;

static kernel kernel_of(void) {
  unsigned features = llv_cpu_features();
  if (features & LLV_CPU_AVX512_VNNI) return AVX512_VNNI;
  if (features & LLV_CPU_AVX_VNNI) return AVX_VNNI;
  if (features & LLV_CPU_AVX2) return AVX2;
  if (features & LLV_CPU_I8MM) return I8MM;
  return features & LLV_CPU_DOT_PRODUCT ? DOT_PRODUCT : PLAIN;
}

// AVX2's product of bytes takes one side unsigned: activations, where weights have 8 bits.
int llv_code_bias(int bits) {
#if defined(LLV_X86)
  return kernel_of() == AVX2 && bits == 8 ? 128 : 0;
#else
  (void)bits;
  return 0;
#endif
}

size_t llv_places(size_t columns, size_t group) {
  size_t whole = columns / group, rest = columns % group;
  return whole * places_of(group) + places_of(rest);
}

// MARK: Activations

typedef uint8_t b16 __attribute__((ext_vector_type(LLV_PANEL), aligned(1)));

LLV_INLINE v16 larger(v16 a, v16 b) { return a > b ? a : b; }
LLV_INLINE v16 magnitude(const float *x) { return (v16)(*(const w16 *)x & 0x7FFFFFFF); }

// The largest magnitude. Four vectors at a time: each comparison waits for the one before.
LLV_INLINE float largest(const float *x, size_t n) {
  enum { AT_A_TIME = 4 };
  v16 lanes[AT_A_TIME] = {0};
  float most = 0;
  size_t i = 0;
  for (; i + AT_A_TIME * LLV_PANEL <= n; i += AT_A_TIME * LLV_PANEL)
    for (size_t k = 0; k < AT_A_TIME; k++) lanes[k] = larger(magnitude(x + i + k * LLV_PANEL), lanes[k]);
  for (; i + LLV_PANEL <= n; i += LLV_PANEL) lanes[0] = larger(magnitude(x + i), lanes[0]);
  for (; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
  v16 lane = larger(larger(lanes[0], lanes[1]), larger(lanes[2], lanes[3]));
  float whole = llv_most_of(lane);
  return whole > most ? whole : most;
}

LLV_INLINE void llv_quantize_row_body(const float *x, size_t columns, size_t group, int bias, int offset,
    uint8_t *codes, float *scales, int32_t *starts, float *sums) {
  for (size_t g = 0, first = 0; first < columns; g++, first += group) {
    size_t n = least(columns - first, group);
    float most = largest(x + first, n);
    float scale = most / 127.0f, inverse = scale > 0 ? 127.0f / most : 0;
    // What 1.5 · 2^23 is added to is rounded to a whole number in its low bits: nearest, ties to even.
    const float magic = 12582912.0f;
    const uint32_t zero = 0x4B400000;  // magic itself
    w16 sums16 = 0;
    size_t i = 0;
#pragma clang loop unroll_count(4)
    for (; i + LLV_PANEL <= n; i += LLV_PANEL) {
      w16 code = (w16)(*(const v16 *)(x + first + i) * inverse + magic) - zero;
      sums16 += code;
      *(b16 *)(codes + i) = __builtin_convertvector((code + (uint32_t)bias) & 255, b16);
    }
    uint32_t sum16 = llv_sum_of(sums16);
    for (; i < n; i++) {
      float shifted = x[first + i] * inverse + magic;
      uint32_t code;
      memcpy(&code, &shifted, 4);
      codes[i] = (uint8_t)(code - zero + (uint32_t)bias);
      sum16 += code - zero;
    }
    int32_t sum = (int32_t)sum16;
    for (size_t i = n; i < places_of(n); i++) codes[i] = (uint8_t)bias;
    codes += places_of(n);
    scales[g] = scale;
    starts[g] = (bias - offset) * sum;
    sums[g] = (float)sum * scale;
  }
}
LLV_DISPATCH(llv_quantize_row,
             (const float *x, size_t columns, size_t group, int bias, int offset, uint8_t *codes, float *scales,
              int32_t *starts, float *sums),
             (x, columns, group, bias, offset, codes, scales, starts, sums))

// MARK: Weights

// Bytes of a block of 8-bit codes, and of what blocks of fewer bits share.
enum { BLOCK = 4 * LLV_PANEL };

// Blocks of fewer bits lie in eights, `bits` times BLOCK bytes each. Where a byte of block `block` lies among them, and
// by how much it is shifted; of 3 bits the lower two, of which the third is bit `block` % 8 of what lies 2 BLOCK after
// the eight's start.
LLV_INLINE const uint8_t *eight_of(const uint8_t *panel, size_t block, int bits) {
  return panel + block / 8 * (size_t)bits * BLOCK;
}
LLV_INLINE size_t part_of(size_t block, int bits) { return (bits == 4 ? block % 8 / 2 : block % 8 / 4) * BLOCK; }
LLV_INLINE int shift_of(size_t block, int bits) { return (int)(bits == 4 ? block % 2 * 4 : block % 4 * 2); }

// The code of output r at a place.
static unsigned get_code(const uint8_t *panel, size_t place, size_t r, int bits) {
  size_t block = place / 4, i = 4 * r + place % 4;
  if (bits == 8) return panel[block * BLOCK + i];
  const uint8_t *eight = eight_of(panel, block, bits);
  unsigned code = eight[part_of(block, bits) + i] >> shift_of(block, bits) & (bits == 4 ? 15 : 3);
  return bits == 3 ? code | (eight[2 * BLOCK + i] >> block % 8 & 1u) << 2 : code;
}

// Puts it into a panel of zeros.
static void set_code(uint8_t *panel, size_t place, size_t r, int bits, unsigned code) {
  size_t block = place / 4, i = 4 * r + place % 4;
  if (bits == 8) {
    panel[block * BLOCK + i] = (uint8_t)code;
    return;
  }
  uint8_t *eight = (uint8_t *)eight_of(panel, block, bits);
  eight[part_of(block, bits) + i] |= (uint8_t)((code & (bits == 4 ? 15 : 3)) << shift_of(block, bits));
  if (bits == 3) eight[2 * BLOCK + i] |= (uint8_t)(code >> 2 << block % 8);
}

// What turns stored codes to those of a panel, which are unsigned, and back.
LLV_INLINE unsigned flip_of(int bits, int affine) { return affine ? 0 : 1u << (bits - 1); }

LLV_INLINE uint32_t load32(const uint8_t *from) {
  uint32_t word;
  memcpy(&word, from, 4);
  return word;
}

// Codes of 8 and 4 bits where groups are not filled up: whole words are moved, four codes or eight.
static void pack_words(const uint8_t *codes, size_t row_bytes, size_t outputs, size_t columns, int bits, int affine,
                       uint8_t *panel) {
  uint32_t flip = affine ? 0 : bits == 8 ? 0x80808080u : 0x08080808u;
  for (size_t r = 0; r < outputs; r++) {
    const uint8_t *row = codes + r * row_bytes;
    uint8_t *to = panel + 4 * r;
    for (size_t i = 0; i < columns; i += bits == 8 ? 4 : 8, row += 4, to += 4 * LLV_PANEL) {
      uint32_t word = load32(row);
      if (bits == 4) {
        // Code i in the low half of byte i and code i + 4 in its high half.
        uint32_t low = word & 0xFFFF, high = word >> 16;
        low = (low | low << 8) & 0x00FF00FF, low = (low | low << 4) & 0x0F0F0F0F;
        high = (high | high << 8) & 0x00FF00FF, high = (high | high << 4) & 0x0F0F0F0F;
        word = (low ^ flip) | (high ^ flip) << 4;
      } else {
        word ^= flip;
      }
      memcpy(to, &word, 4);
    }
  }
}

void llv_pack_panel(const void *codes, size_t row_bytes, size_t outputs, size_t columns, size_t group, int bits,
    int affine, uint8_t *panel) {
  memset(panel, 0, llv_panel_bytes(columns, group, bits));
  if (bits >= 4 && columns % 8 == 0 && group % 8 == 0)
    return pack_words(codes, row_bytes, outputs, columns, bits, affine, panel);
  for (size_t r = 0; r < outputs; r++) {
    const uint8_t *row = (const uint8_t *)codes + r * row_bytes;
    for (size_t first = 0, place = 0; first < columns; first += group) {
      size_t n = least(columns - first, group);
      for (size_t i = 0; i < n; i++)
        set_code(panel, place + i, r, bits, llv_code(row, first + i, bits) ^ flip_of(bits, affine));
      place += places_of(n);
    }
  }
}

void llv_unpack_panel(const uint8_t *panel, size_t row_bytes, size_t outputs, size_t columns, size_t group, int bits,
    int affine, void *codes) {
  for (size_t r = 0; r < outputs; r++) {
    uint8_t *row = (uint8_t *)codes + r * row_bytes;
    for (size_t first = 0, place = 0; first < columns; first += group) {
      size_t n = least(columns - first, group);
      for (size_t i = 0; i < n; i++)
        llv_set_code(row, first + i, bits, get_code(panel, place + i, r, bits) ^ flip_of(bits, affine));
      place += places_of(n);
    }
  }
}

size_t llv_panel_bytes(size_t columns, size_t group, int bits) {
  size_t blocks = llv_places(columns, group) / 4;
  switch (bits) {
    case 8: return blocks * BLOCK;
    case 4: return (blocks + 1) / 2 * BLOCK;
    case 2: return (blocks + 3) / 4 * BLOCK;
    default: return (blocks + 7) / 8 * 3 * BLOCK;
  }
}

// A panel of codes of fewer than eight bits to one byte each. Unrolled over an eight, so that shifts are by constants.
LLV_INLINE void spread_few(const uint8_t *panel, size_t places, const int bits, uint8_t *target) {
  size_t blocks = places / 4;
  for (size_t block = 0; block < blocks; block += 8, panel += bits * BLOCK) {
#pragma clang loop unroll(full)
    for (size_t k = 0; k < 8; k++) {
      if (block + k == blocks) return;
      const uint8_t *from = panel + part_of(k, bits), *third = panel + 2 * BLOCK;
      uint8_t *to = target + (block + k) * BLOCK;
      for (size_t i = 0; i < BLOCK; i++) {
        uint8_t code = from[i] >> shift_of(k, bits) & (bits == 4 ? 15 : 3);
        to[i] = bits == 3 ? (uint8_t)(code | (third[i] >> k & 1) << 2) : code;
      }
    }
  }
}

LLV_INLINE void llv_spread_codes_body(const uint8_t *panel, size_t places, int bits, uint8_t *target) {
  if (bits == 4) spread_few(panel, places, 4, target);
  else if (bits == 3) spread_few(panel, places, 3, target);
  else spread_few(panel, places, 2, target);
}
LLV_DISPATCH(
    llv_spread_codes, (const uint8_t *panel, size_t places, int bits, uint8_t *target), (panel, places, bits, target))

// Blocks and outputs side by side, read and written at any address.
typedef uint8_t bytes16 __attribute__((ext_vector_type(LLV_PANEL), aligned(1)));
typedef uint16_t words16 __attribute__((ext_vector_type(LLV_PANEL), aligned(1)));
typedef uint8_t bytes64 __attribute__((ext_vector_type(BLOCK), aligned(1)));
typedef uint16_t words32 __attribute__((ext_vector_type(BLOCK / 2), aligned(1)));
#define LLV_TWICE(i) i, i
#define LLV_EACH4(MACRO, i) MACRO(i), MACRO(i + 1), MACRO(i + 2), MACRO(i + 3)
#define LLV_EACH16(MACRO) LLV_EACH4(MACRO, 0), LLV_EACH4(MACRO, 4), LLV_EACH4(MACRO, 8), LLV_EACH4(MACRO, 12)
#define LLV_FOUR_TIMES(i) i, i, i, i

// A panel of groups in two levels to codes of 8 bits, 128 larger. Steps times codes are below 256, so that two bytes
// are multiplied as one word.
LLV_INLINE void spread_levels(
    const uint8_t *panel, const uint8_t *steps, size_t columns, size_t group, const int bits, uint8_t *target) {
  const uint16_t mask = bits == 4 ? 0x0F0F : 0x0303;
  size_t block = 0;
  for (size_t first = 0; first < columns; first += group, steps += LLV_PANEL) {
    bytes16 both = *(const bytes16 *)steps;
    words16 step = __builtin_convertvector(both & 15, words16) + 1;
    words16 start = 128 - step * __builtin_convertvector(both >> 4, words16);
    bytes16 low = __builtin_convertvector(start & 255, bytes16);
    bytes64 starts = __builtin_shufflevector(low, low, LLV_EACH16(LLV_FOUR_TIMES));
    step = step << (4 - bits);
    words32 factors = __builtin_shufflevector(step, step, LLV_EACH16(LLV_TWICE));
    size_t end = block + places_of(least(columns - first, group)) / 4;
    for (; block < end; block++, target += BLOCK) {
      const uint8_t *eight = eight_of(panel, block, bits);
      words32 codes = *(const words32 *)(eight + part_of(block, bits)) >> (uint16_t)shift_of(block, bits) & mask;
      if (bits == 3) codes |= (*(const words32 *)(eight + 2 * BLOCK) >> (uint16_t)(block % 8) & 0x0101) << 2;
      *(bytes64 *)target = (bytes64)(codes * factors) + starts;
    }
  }
}

LLV_INLINE void llv_spread_levels_body(
    const uint8_t *panel, const uint8_t *steps, size_t columns, size_t group, int bits, uint8_t *target) {
  if (bits == 4) spread_levels(panel, steps, columns, group, 4, target);
  else if (bits == 3) spread_levels(panel, steps, columns, group, 3, target);
  else spread_levels(panel, steps, columns, group, 2, target);
}
LLV_DISPATCH(llv_spread_levels,
             (const uint8_t *panel, const uint8_t *steps, size_t columns, size_t group, int bits, uint8_t *target),
             (panel, steps, columns, group, bits, target))

void llv_dequantize_panel(const llv_int8_panel *panel, void *working, float *target) {
  const uint8_t *codes = panel->codes;
  if (panel->bits < 8)
    llv_spread_codes(codes, llv_places(panel->columns, panel->group), panel->bits, working), codes = working;
  for (size_t g = 0, first = 0; first < panel->columns; g++, first += panel->group) {
    size_t n = least(panel->columns - first, panel->group);
    const float *scales = panel->scales + g * LLV_PANEL, *zeros = panel->zeros ? panel->zeros + g * LLV_PANEL : 0;
    for (size_t i = 0; i < n; i++, target += LLV_PANEL)
      for (size_t j = 0; j < LLV_PANEL; j++) {
        float v = (float)((int)codes[i / 4 * 4 * LLV_PANEL + 4 * j + i % 4] - panel->offset) * scales[j];
        target[j] = zeros ? v + zeros[j] : v;
      }
    codes += places_of(n) * LLV_PANEL;
  }
}

// MARK: Products

struct split;
struct levels;

// Everything that a tile of rows needs.
typedef struct {
  const void *x, *panel;
  const float *xs, *sums;
  const int32_t *starts;
  size_t places, groups;  // of a row of x
  const float *ws, *zeros;
  size_t columns, group;
  size_t column;  // the panel's place in the output
  const struct split *split;  // the panel for AVX2, where weights have 8 bits
  const struct levels *levels;  // the panel for AVX2, where groups have two levels
} product;

// What every instruction set computes for one row and each group, in this order: the exact integer sum, as Float32,
// times the product of the two scales, added to the total; zero times the scaled sum of the codes of x, added. Both
// additions are fused with their products.
static void row_plain(const product *p, size_t row, float *total) {
  const int8_t *x = (const int8_t *)p->x + row * p->places;
  const uint8_t *panel = p->panel;
  for (size_t j = 0; j < LLV_PANEL; j++) total[j] = 0;
  for (size_t g = 0, first = 0; first < p->columns; g++, first += p->group) {
    size_t n = places_of(least(p->columns - first, p->group));
    int32_t sum[LLV_PANEL];
    for (size_t j = 0; j < LLV_PANEL; j++) sum[j] = p->starts[row * p->groups + g];
    for (size_t i = 0; i < n; i += 4, panel += 4 * LLV_PANEL)
      for (size_t j = 0; j < LLV_PANEL; j++)
        for (size_t k = 0; k < 4; k++) sum[j] += (int32_t)x[i + k] * panel[4 * j + k];
    x += n;
    float scale = p->xs[row * p->groups + g];
    for (size_t j = 0; j < LLV_PANEL; j++) {
      total[j] = fmaf((float)sum[j], scale * p->ws[g * LLV_PANEL + j], total[j]);
      if (p->zeros) total[j] = fmaf(p->zeros[g * LLV_PANEL + j], p->sums[row * p->groups + g], total[j]);
    }
  }
}

// Tiles of 1 to MOST rows, with and without zeros, each a copy with its loops unrolled and its questions answered.
#define LLV_TILES(NAME, TARGET, MOST)                                                                                  \
  TARGET LLV_INLINE void NAME##_any(const int affine, const product *given, size_t m, const llv_output *out) {         \
    const product copy = *given, *p = &copy;                                                                           \
    LLV_ALIGNED float total[MOST * LLV_PANEL];                                                                         \
    size_t i = 0;                                                                                                      \
    for (; i + MOST <= m; i += MOST)                                                                                   \
      NAME##_tile(MOST, affine, p, i, total), llv_finish(total, i, MOST, p->column, 1, out);                           \
    for (; i + 4 <= m; i += 4) NAME##_tile(4, affine, p, i, total), llv_finish(total, i, 4, p->column, 1, out);        \
    for (; i + 2 <= m; i += 2) NAME##_tile(2, affine, p, i, total), llv_finish(total, i, 2, p->column, 1, out);        \
    for (; i < m; i++) NAME##_tile(1, affine, p, i, total), llv_finish(total, i, 1, p->column, 1, out);                \
  }                                                                                                                    \
  TARGET static void NAME(const product *p, size_t m, const llv_output *out) {                                         \
    if (p->zeros) NAME##_any(1, p, m, out);                                                                            \
    else NAME##_any(0, p, m, out);                                                                                     \
  }

#if defined(LLV_X86)
// Adds a group's exact sums, two vectors of eight outputs, to the totals in memory.
LLV_AVX2 LLV_INLINE void add_group_avx2(
    const int affine, const product *p, size_t row, size_t g, __m256i low, __m256i high, float *total) {
  __m256 scale = _mm256_set1_ps(p->xs[row * p->groups + g]);
  __m256 a = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), _mm256_mul_ps(scale, _mm256_loadu_ps(p->ws + g * LLV_PANEL)),
                             _mm256_loadu_ps(total));
  __m256 b = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), _mm256_mul_ps(scale, _mm256_loadu_ps(p->ws + g * LLV_PANEL + 8)),
                             _mm256_loadu_ps(total + 8));
  if (affine) {
    __m256 scaled = _mm256_set1_ps(p->sums[row * p->groups + g]);
    a = _mm256_fmadd_ps(_mm256_loadu_ps(p->zeros + g * LLV_PANEL), scaled, a);
    b = _mm256_fmadd_ps(_mm256_loadu_ps(p->zeros + g * LLV_PANEL + 8), scaled, b);
  }
  _mm256_storeu_ps(total, a);
  _mm256_storeu_ps(total + 8, b);
}

LLV_AVX2 LLV_INLINE __m256i four_codes_avx2(const void *x) {
  int32_t four;
  memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}

// 8-bit weights: vpmaddubsw adds two products of an unsigned and a signed byte in 16 bits and saturates. With
// activations of at most 255 it is exact as long as the sum of the two weights is within 128: of weights with two signs
// neither can be too large alone. Where it is not, which is the rarer the more weights share a scale, both are halved,
// and what is missing comes as one more block. Where that happens too often, codes are widened instead.
typedef struct split {
  int8_t *codes;  // blocks [LLV_PANEL, 4] of all places; widened, [2, 2, LLV_PANEL / 2, 2] words: halves; codes 0 and
                  // 2, 1 and 3
  int32_t *starts;  // [groups, LLV_PANEL]: -128 times the sum of the weights, for the activations' bias
  // For each half of the outputs: what is missing, blocks [LLV_PANEL / 2, 4]; the first place of each; for each group,
  // how many blocks there are up to its end.
  struct { int8_t *codes; uint32_t *place, *end; } more[2];
} split;

LLV_AVX2 static split split_avx2(const product *p, void *working) {
  size_t size = 4 * LLV_PANEL, blocks = p->places / 4;
  split s = {.starts = working};
  uint32_t *numbers = (uint32_t *)(s.starts + p->groups * LLV_PANEL);
  for (int half = 0; half < 2; half++, numbers += p->groups + blocks)
    s.more[half].end = numbers, s.more[half].place = numbers + p->groups;
  s.codes = (int8_t *)numbers;
  for (int half = 0; half < 2; half++) s.more[half].codes = s.codes + blocks * size + (size_t)half * blocks * size / 2;
  const __m256i ones = _mm256_set1_epi8(1), wide = _mm256_set1_epi16(1), most = _mm256_set1_epi16(128);
  const uint8_t *from = p->panel;
  int8_t *to = s.codes;
  uint32_t count[2] = {0, 0};
  for (size_t g = 0, first = 0, place = 0; first < p->columns; g++, first += p->group) {
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    size_t end = place + places_of(least(p->columns - first, p->group));
    for (; place < end; place += 4)
      for (int half = 0; half < 2; half++, from += 32, to += 32) {
        __m256i w = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)from), _mm256_set1_epi8(-128));
        __m256i pair = _mm256_maddubs_epi16(ones, w);
        sum[half] = _mm256_add_epi32(sum[half], _mm256_madd_epi16(pair, wide));
        __m256i large = _mm256_cmpgt_epi16(_mm256_abs_epi16(pair), most);
        // Half of each, rounded towards zero: by shifts of words, the sign by subtracting and adding again. Kept only
        // if there is any; a branch would rarely be foreseen.
        __m256i sign = _mm256_cmpgt_epi8(_mm256_setzero_si256(), w);
        __m256i size8 = _mm256_and_si256(_mm256_srli_epi16(_mm256_abs_epi8(w), 1), _mm256_set1_epi8(127));
        __m256i part = _mm256_and_si256(_mm256_sub_epi8(_mm256_xor_si256(size8, sign), sign), large);
        _mm256_storeu_si256((__m256i *)(s.more[half].codes + count[half] * 32), part);
        s.more[half].place[count[half]] = (uint32_t)place;
        count[half] += _mm256_movemask_epi8(large) != 0;
        w = _mm256_sub_epi8(w, part);
        _mm256_storeu_si256((__m256i *)to, w);
      }
    for (int half = 0; half < 2; half++) {
      s.more[half].end[g] = count[half];
      _mm256_storeu_si256(
          (__m256i *)(s.starts + g * LLV_PANEL + 8 * half), _mm256_mullo_epi32(sum[half], _mm256_set1_epi32(-128)));
    }
  }
  return s;
}

LLV_AVX2 LLV_INLINE void start_avx2(const size_t rows, const product *p, size_t row, size_t g, __m256i sum[6][2]) {
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    __m256i start = _mm256_set1_epi32(p->starts[(row + r) * p->groups + g]);
    for (int half = 0; half < 2; half++)
      sum[r][half] =
          _mm256_add_epi32(start, _mm256_loadu_si256((const __m256i *)(p->split->starts + g * LLV_PANEL + 8 * half)));
  }
}

LLV_AVX2 LLV_INLINE void add_bytes_avx2(const size_t rows, const uint8_t *x, size_t places, const int8_t *block,
                                        __m256i sum[6][2]) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i w0 = _mm256_loadu_si256((const __m256i *)block), w1 = _mm256_loadu_si256((const __m256i *)(block + 32));
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    __m256i four = four_codes_avx2(x + r * places);
    sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(_mm256_maddubs_epi16(four, w0), ones));
    sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(_mm256_maddubs_epi16(four, w1), ones));
  }
}

LLV_AVX2 LLV_INLINE void bytes_avx2_tile(
    const size_t rows, const int affine, const product *p, size_t row, float *total) {
  const uint8_t *x = (const uint8_t *)p->x + row * p->places;
  const split *s = p->split;
  const int8_t *block = s->codes;
  memset(total, 0, rows * LLV_PANEL * 4);
  for (size_t g = 0, first = 0, place = 0; first < p->columns; g++, first += p->group) {
    size_t end = place + places_of(least(p->columns - first, p->group));
    __m256i sum[6][2];
    start_avx2(rows, p, row, g, sum);
    for (; place < end; place += 4, block += 4 * LLV_PANEL) add_bytes_avx2(rows, x + place, p->places, block, sum);
    const __m256i ones = _mm256_set1_epi16(1);
#pragma clang loop unroll(full)
    for (int half = 0; half < 2; half++)
      for (uint32_t i = g > 0 ? s->more[half].end[g - 1] : 0; i < s->more[half].end[g]; i++) {
        __m256i w = _mm256_loadu_si256((const __m256i *)(s->more[half].codes + i * 32));
        const uint8_t *at = x + s->more[half].place[i];
#pragma clang loop unroll(full)
        for (size_t r = 0; r < rows; r++)
          sum[r][half] = _mm256_add_epi32(
              sum[r][half], _mm256_madd_epi16(_mm256_maddubs_epi16(four_codes_avx2(at + r * p->places), w), ones));
      }
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++)
      add_group_avx2(affine, p, row + r, g, sum[r][0], sum[r][1], total + r * LLV_PANEL);
  }
}
LLV_TILES(bytes_avx2, LLV_AVX2, 6)

// Whether more than a third of a panel's blocks would be taken twice: from there on products of words are faster.
static int is_widened(const product *p, const split *s) {
  return s->more[0].end[p->groups - 1] + s->more[1].end[p->groups - 1] > p->places / 2 / 3;
}

LLV_AVX2 static void widen_avx2(const product *p, const split *s) {
  const uint8_t *from = p->panel;
  int8_t *to = s->codes;
  for (size_t i = 0; i < p->places / 2; i++, from += 32, to += 64) {
    __m256i w = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)from), _mm256_set1_epi8(-128));
    _mm256_storeu_si256((__m256i *)to, _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8));
    _mm256_storeu_si256((__m256i *)(to + 32), _mm256_srai_epi16(w, 8));
  }
}

LLV_AVX2 LLV_INLINE void words_avx2_tile(
    const size_t rows, const int affine, const product *p, size_t row, float *total) {
  const uint8_t *x = (const uint8_t *)p->x + row * p->places;
  const __m256i *block = (const __m256i *)p->split->codes;
  memset(total, 0, rows * LLV_PANEL * 4);
  for (size_t g = 0, first = 0, place = 0; first < p->columns; g++, first += p->group) {
    size_t end = place + places_of(least(p->columns - first, p->group));
    __m256i sum[6][2];
    start_avx2(rows, p, row, g, sum);
    for (; place < end; place += 4, block += 4) {
      __m256i w[4];
#pragma clang loop unroll(full)
      for (int i = 0; i < 4; i++) w[i] = _mm256_loadu_si256(block + i);
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        __m256i four = four_codes_avx2(x + r * p->places + place);
        __m256i even = _mm256_and_si256(four, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(four, 8);
#pragma clang loop unroll(full)
        for (int half = 0; half < 2; half++) {
          sum[r][half] = _mm256_add_epi32(sum[r][half], _mm256_madd_epi16(even, w[2 * half]));
          sum[r][half] = _mm256_add_epi32(sum[r][half], _mm256_madd_epi16(odd, w[2 * half + 1]));
        }
      }
    }
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++)
      add_group_avx2(affine, p, row + r, g, sum[r][0], sum[r][1], total + r * LLV_PANEL);
  }
}
LLV_TILES(words_avx2, LLV_AVX2, 4)

// Codes of at most 4 bits as bytes: a pair of products is at most 2 · 15 · 127 in magnitude, so that the pairs of 32
// codes fit 16 bits.
LLV_AVX2 LLV_INLINE void add_codes_avx2(const size_t rows, const int8_t *x, size_t places, const uint8_t *panel,
                                        __m256i part[4][2]) {
  __m256i w0 = _mm256_loadu_si256((const __m256i *)panel), w1 = _mm256_loadu_si256((const __m256i *)(panel + 32));
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    __m256i four = four_codes_avx2(x + r * places);
    part[r][0] = _mm256_add_epi16(part[r][0], _mm256_maddubs_epi16(w0, four));
    part[r][1] = _mm256_add_epi16(part[r][1], _mm256_maddubs_epi16(w1, four));
  }
}

LLV_AVX2 LLV_INLINE void nibbles_avx2_tile(
    const size_t rows, const int affine, const product *p, size_t row, float *total) {
  const int8_t *x = (const int8_t *)p->x + row * p->places;
  const uint8_t *panel = p->panel;
  const __m256i ones = _mm256_set1_epi16(1);
  memset(total, 0, rows * LLV_PANEL * 4);
  for (size_t g = 0, first = 0; first < p->columns; g++, first += p->group) {
    size_t n = places_of(least(p->columns - first, p->group));
    __m256i sum[4][2], part[4][2];
    if (n == 32) {
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) part[r][0] = part[r][1] = _mm256_setzero_si256();
      // Unrolled, the compiler orders the additions anew and runs out of registers.
#pragma clang loop unroll(disable)
      for (size_t i = 0; i < 32; i += 4) add_codes_avx2(rows, x + i, p->places, panel + i * LLV_PANEL, part);
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        __m256i low = _mm256_madd_epi16(part[r][0], ones), high = _mm256_madd_epi16(part[r][1], ones);
        if (!affine) {
          __m256i start = _mm256_set1_epi32(p->starts[(row + r) * p->groups + g]);
          low = _mm256_add_epi32(low, start), high = _mm256_add_epi32(high, start);
        }
        add_group_avx2(affine, p, row + r, g, low, high, total + r * LLV_PANEL);
      }
    } else {
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++)
        sum[r][0] = sum[r][1] = _mm256_set1_epi32(p->starts[(row + r) * p->groups + g]);
      for (size_t start = 0; start < n; start += 32) {
#pragma clang loop unroll(full)
        for (size_t r = 0; r < rows; r++) part[r][0] = part[r][1] = _mm256_setzero_si256();
        for (size_t i = start; i < least(start + 32, n); i += 4)
          add_codes_avx2(rows, x + i, p->places, panel + i * LLV_PANEL, part);
#pragma clang loop unroll(full)
        for (size_t r = 0; r < rows; r++) {
          sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(part[r][0], ones));
          sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(part[r][1], ones));
        }
      }
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++)
        add_group_avx2(affine, p, row + r, g, sum[r][0], sum[r][1], total + r * LLV_PANEL);
    }
    x += n;
    panel += n * LLV_PANEL;
  }
}
LLV_TILES(nibbles_avx2, LLV_AVX2, 4)

// Groups in two levels: codes of four bits, or what fewer stand for, less their zero are at most 15 in magnitude, so
// that four pairs of products fit 16 bits; the step is the other side of the product that adds pairs in 32 bits. Half
// of the outputs at a time: sums and parts of six rows then stay in registers.
typedef struct levels {
  int8_t *codes;  // [2][places / 4][LLV_PANEL / 2, 4]
  int16_t *steps;  // [2][groups][LLV_PANEL / 2, 2]
  int32_t *starts;  // [LLV_PANEL]: -128 times the sum of the weights, for the activations' bias
} levels;

// Half a block's codes of fewer than four bits as those of four that they stand for.
LLV_AVX2 LLV_INLINE __m256i codes_avx2(const uint8_t *panel, size_t block, size_t half, const int bits) {
  const uint8_t *eight = eight_of(panel, block, bits) + 32 * half;
  __m256i codes = _mm256_loadu_si256((const __m256i *)(eight + part_of(block, bits)));
  codes = _mm256_srl_epi16(codes, _mm_cvtsi32_si128(shift_of(block, bits)));
  if (bits == 4) return _mm256_and_si256(codes, _mm256_set1_epi8(15));
  codes = _mm256_slli_epi16(_mm256_and_si256(codes, _mm256_set1_epi8(3)), 4 - bits);
  if (bits == 2) return codes;
  __m256i third = _mm256_loadu_si256((const __m256i *)(eight + 2 * BLOCK));
  third = _mm256_and_si256(_mm256_srl_epi16(third, _mm_cvtsi32_si128((int)(block % 8))), _mm256_set1_epi8(1));
  return _mm256_or_si256(codes, _mm256_slli_epi16(third, 3));
}

LLV_AVX2 LLV_INLINE levels prepare_levels(const product *p, const uint8_t *steps, const int bits, void *working) {
  size_t blocks = p->places / 4, groups = (p->columns + p->group - 1) / p->group;
  levels l = {.starts = working};
  l.steps = (int16_t *)(l.starts + LLV_PANEL);
  l.codes = (int8_t *)(l.steps + 2 * groups * LLV_PANEL);
  const __m256i ones = _mm256_set1_epi8(1);
  for (size_t half = 0; half < 2; half++) {
    __m256i sum = _mm256_setzero_si256();
    int8_t *to = l.codes + half * blocks * 32;
    for (size_t g = 0, block = 0; g < groups; g++) {
      __m256i both = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(steps + g * LLV_PANEL + 8 * half)));
      __m256i step = _mm256_add_epi32(_mm256_and_si256(both, _mm256_set1_epi32(15)), _mm256_set1_epi32(1));
      step = _mm256_or_si256(step, _mm256_slli_epi32(step, 16));
      __m256i zero = _mm256_mullo_epi32(_mm256_srli_epi32(both, 4), _mm256_set1_epi32(0x01010101));
      _mm256_storeu_si256((__m256i *)(l.steps + (half * groups + g) * LLV_PANEL), step);
      size_t end = block + places_of(least(p->columns - g * p->group, p->group)) / 4;
      for (; block < end; block++, to += 32) {
        __m256i codes = _mm256_sub_epi8(codes_avx2(p->panel, block, half, bits), zero);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(ones, codes), step));
        _mm256_storeu_si256((__m256i *)to, codes);
      }
    }
    _mm256_storeu_si256((__m256i *)(l.starts + 8 * half), _mm256_mullo_epi32(sum, _mm256_set1_epi32(-128)));
  }
  return l;
}

LLV_AVX2 static levels levels_of(const product *p, const uint8_t *steps, int bits, void *working) {
  if (bits == 4) return prepare_levels(p, steps, 4, working);
  return bits == 3 ? prepare_levels(p, steps, 3, working) : prepare_levels(p, steps, 2, working);
}

LLV_AVX2 LLV_INLINE void levels_avx2_tile(
    const size_t rows, const int affine, const product *p, size_t row, float *total) {
  (void)affine;
  size_t blocks = p->places / 4, groups = (p->columns + p->group - 1) / p->group;
  for (size_t half = 0; half < 2; half++) {
    const uint8_t *x = (const uint8_t *)p->x + row * p->places;
    const __m256i *codes = (const __m256i *)(p->levels->codes + half * blocks * 32);
    const __m256i *steps = (const __m256i *)(p->levels->steps + half * groups * LLV_PANEL);
    __m256i sum[6], part[6];
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sum[r] = _mm256_loadu_si256((const __m256i *)(p->levels->starts + 8 * half));
    for (size_t g = 0, block = 0; g < groups; g++) {
      size_t end = least((g + 1) * (p->group / 4), blocks);
      while (block < end) {
        size_t stop = least(block + 4, end);
        __m256i first = _mm256_loadu_si256(codes++);
#pragma clang loop unroll(full)
        for (size_t r = 0; r < rows; r++)
          part[r] = _mm256_maddubs_epi16(four_codes_avx2(x + r * p->places + 4 * block), first);
#pragma clang loop unroll(disable)
        for (block++; block < stop; block++) {
          __m256i next = _mm256_loadu_si256(codes++);
#pragma clang loop unroll(full)
          for (size_t r = 0; r < rows; r++)
            part[r] =
                _mm256_add_epi16(part[r], _mm256_maddubs_epi16(four_codes_avx2(x + r * p->places + 4 * block), next));
        }
        __m256i step = _mm256_loadu_si256(steps + g);
#pragma clang loop unroll(full)
        for (size_t r = 0; r < rows; r++) sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(part[r], step));
      }
    }
    __m256 scales = _mm256_loadu_ps(p->ws + 8 * half);
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++)
      _mm256_storeu_ps(total + r * LLV_PANEL + 8 * half,
          _mm256_fmadd_ps(
              _mm256_cvtepi32_ps(sum[r]), _mm256_mul_ps(_mm256_set1_ps(p->xs[row + r]), scales), _mm256_setzero_ps()));
  }
}
LLV_TILES(levels_avx2, LLV_AVX2, 6)

// Bytes with the dot-product instruction, 8 outputs a vector.
LLV_AVX_VNNI LLV_INLINE void bytes_avx_vnni_tile(
    const size_t rows, const int affine, const product *p, size_t row, float *total) {
  const int8_t *x = (const int8_t *)p->x + row * p->places;
  const uint8_t *panel = p->panel;
  memset(total, 0, rows * LLV_PANEL * 4);
  for (size_t g = 0, first = 0; first < p->columns; g++, first += p->group) {
    size_t n = places_of(least(p->columns - first, p->group));
    __m256i sum[6][2];
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++)
      sum[r][0] = sum[r][1] = _mm256_set1_epi32(p->starts[(row + r) * p->groups + g]);
    for (size_t i = 0; i < n; i += 4, panel += 4 * LLV_PANEL) {
      __m256i w0 = _mm256_loadu_si256((const __m256i *)panel), w1 = _mm256_loadu_si256((const __m256i *)(panel + 32));
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        __m256i four = four_codes_avx2(x + r * p->places + i);
        sum[r][0] = LLV_DPBUSD_256(sum[r][0], w0, four);
        sum[r][1] = LLV_DPBUSD_256(sum[r][1], w1, four);
      }
    }
    x += n;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++)
      add_group_avx2(affine, p, row + r, g, sum[r][0], sum[r][1], total + r * LLV_PANEL);
  }
}
LLV_TILES(bytes_avx_vnni, LLV_AVX_VNNI, 6)

// The same, 16 outputs a vector; codes of x come from memory as part of the instruction.
LLV_AVX512_VNNI LLV_INLINE void bytes_avx512_tile(
    const size_t rows, const int affine, const product *p, size_t row, float *total) {
  const int8_t *x = (const int8_t *)p->x + row * p->places;
  const uint8_t *panel = p->panel;
  __m512 all[12];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) all[r] = _mm512_setzero_ps();
  for (size_t g = 0, first = 0; first < p->columns; g++, first += p->group) {
    size_t n = places_of(least(p->columns - first, p->group));
    __m512i sum[12];
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sum[r] = _mm512_set1_epi32(p->starts[(row + r) * p->groups + g]);
    for (size_t i = 0; i < n; i += 4, panel += 4 * LLV_PANEL) {
      __m512i codes = _mm512_loadu_si512(panel);
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        int32_t four;
        memcpy(&four, x + r * p->places + i, 4);
        sum[r] = _mm512_dpbusd_epi32(sum[r], codes, _mm512_set1_epi32(four));
      }
    }
    x += n;
    __m512 scales = _mm512_loadu_ps(p->ws + g * LLV_PANEL);
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      float xs = p->xs[(row + r) * p->groups + g];
      all[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r]), _mm512_mul_ps(_mm512_set1_ps(xs), scales), all[r]);
      if (affine)
        all[r] = _mm512_fmadd_ps(_mm512_loadu_ps(p->zeros + g * LLV_PANEL),
                                 _mm512_set1_ps(p->sums[(row + r) * p->groups + g]), all[r]);
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) _mm512_storeu_ps(total + r * LLV_PANEL, all[r]);
}
LLV_TILES(bytes_avx512, LLV_AVX512_VNNI, 12)

// The same of two panels whose rows have one scale: each load of x serves both, and loads are no longer what bounds
// the products.
LLV_AVX512_VNNI LLV_INLINE void two_avx512_tile(
    const size_t rows, const product *p, const product *next, size_t row, float *total) {
  const int8_t *x = (const int8_t *)p->x + row * p->places;
  __m512i sum[2][12];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) sum[0][r] = sum[1][r] = _mm512_set1_epi32(p->starts[row + r]);
  for (size_t i = 0; i < p->places; i += 4) {
    __m512i w0 = _mm512_loadu_si512((const uint8_t *)p->panel + i * LLV_PANEL);
    __m512i w1 = _mm512_loadu_si512((const uint8_t *)next->panel + i * LLV_PANEL);
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      int32_t four;
      memcpy(&four, x + r * p->places + i, 4);
      __m512i both = _mm512_set1_epi32(four);
      sum[0][r] = _mm512_dpbusd_epi32(sum[0][r], w0, both);
      sum[1][r] = _mm512_dpbusd_epi32(sum[1][r], w1, both);
    }
  }
  __m512 s0 = _mm512_loadu_ps(p->ws), s1 = _mm512_loadu_ps(next->ws);
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    __m512 xs = _mm512_set1_ps(p->xs[row + r]);
    // Fused with an addition of nothing, as `row_plain` does it: -0 becomes 0.
    _mm512_storeu_ps(total + r * LLV_PANEL,
                     _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[0][r]), _mm512_mul_ps(xs, s0), _mm512_setzero_ps()));
    _mm512_storeu_ps(total + (rows + r) * LLV_PANEL,
                     _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[1][r]), _mm512_mul_ps(xs, s1), _mm512_setzero_ps()));
  }
}

#define LLV_TWO(ROWS)                                                                                                  \
  {                                                                                                                    \
    llv_foresee(i, ROWS, out);                                                                                         \
    two_avx512_tile(ROWS, p, next, i, total);                                                                          \
    llv_finish(total, i, ROWS, p->column, 2, out);                                                                     \
  }

LLV_AVX512_VNNI static void two_avx512(const product *p, const product *next, size_t m, const llv_output *out) {
  LLV_ALIGNED float total[2 * 12 * LLV_PANEL];
  size_t i = 0;
  for (; i + 12 <= m; i += 12) LLV_TWO(12)
  LLV_REST(m - i, LLV_TWO)
}
#endif

#if defined(LLV_ARM)
#define LLV_DOT __attribute__((target("dotprod")))

// Signed bytes with the dot-product instruction, 4 outputs a vector: 128 less than the panel's codes, which 128 times
// the sum of the codes of x makes up for; that sum comes from the same instruction.
LLV_DOT LLV_INLINE void bytes_neon_tile(
    const size_t rows, const int affine, const product *p, size_t row, float *total) {
  const int8_t *x = (const int8_t *)p->x + row * p->places;
  const uint8_t *panel = p->panel;
  const uint8x16_t flip = vdupq_n_u8(0x80);
  memset(total, 0, rows * LLV_PANEL * 4);
  for (size_t g = 0, first = 0; first < p->columns; g++, first += p->group) {
    size_t n = places_of(least(p->columns - first, p->group));
    int32x4_t sum[4][4], all[4];
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      all[r] = vdupq_n_s32(0);
      for (int j = 0; j < 4; j++) sum[r][j] = vdupq_n_s32(p->starts[(row + r) * p->groups + g]);
    }
    for (size_t i = 0; i < n; i += 4, panel += 4 * LLV_PANEL) {
      int8x16_t codes[4];
      for (int j = 0; j < 4; j++) codes[j] = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(panel + 16 * j), flip));
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r++) {
        int32_t four;
        memcpy(&four, x + r * p->places + i, 4);
        int8x16_t both = vreinterpretq_s8_s32(vdupq_n_s32(four));
        all[r] = vdotq_s32(all[r], vdupq_n_s8(1), both);
        for (int j = 0; j < 4; j++) sum[r][j] = vdotq_s32(sum[r][j], codes[j], both);
      }
    }
    x += n;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      float xs = p->xs[(row + r) * p->groups + g], scaled = p->sums[(row + r) * p->groups + g];
      int32x4_t excess = vshlq_n_s32(all[r], 7);
      for (int j = 0; j < 4; j++) {
        float *to = total + r * LLV_PANEL + 4 * j;
        float32x4_t scale = vmulq_n_f32(vld1q_f32(p->ws + g * LLV_PANEL + 4 * j), xs);
        float32x4_t all = vfmaq_f32(vld1q_f32(to), vcvtq_f32_s32(vaddq_s32(sum[r][j], excess)), scale);
        if (affine) all = vfmaq_n_f32(all, vld1q_f32(p->zeros + g * LLV_PANEL + 4 * j), scaled);
        vst1q_f32(to, all);
      }
    }
  }
}
LLV_TILES(bytes_neon, LLV_DOT, 4)

#define LLV_I8MM __attribute__((target("i8mm,dotprod")))

// Products of unsigned and signed bytes, two outputs by two rows of eight columns a step: two blocks of a panel, their
// outputs side by side, are what the instruction takes.
LLV_I8MM LLV_INLINE void pairs_neon_tile(
    const size_t rows, const int affine, const product *p, size_t row, float *total) {
  const int8_t *x = (const int8_t *)p->x + row * p->places;
  const uint8_t *panel = p->panel;
  enum { PAIRS = LLV_PANEL / 2 };
  memset(total, 0, rows * LLV_PANEL * 4);
  for (size_t g = 0, first = 0; first < p->columns; g++, first += p->group) {
    size_t n = places_of(least(p->columns - first, p->group));
    int32x4_t sum[2][PAIRS];  // of rows 2 r and 2 r + 1: [output 2 j: two rows; output 2 j + 1: two rows]
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r += 2) {
      int32x2_t start = {p->starts[(row + r) * p->groups + g], rows > 1 ? p->starts[(row + r + 1) * p->groups + g] : 0};
      for (int j = 0; j < PAIRS; j++) sum[r / 2][j] = vcombine_s32(start, start);
    }
    for (size_t i = 0; i < n; i += 8, panel += 8 * LLV_PANEL) {
      int both = i + 4 < n;  // a group's last block may be alone
      uint8x16_t codes[PAIRS];
      for (int j = 0; j < 4; j++) {
        uint32x4_t a = vreinterpretq_u32_u8(vld1q_u8(panel + 16 * j));
        uint32x4_t b = both ? vreinterpretq_u32_u8(vld1q_u8(panel + 4 * LLV_PANEL + 16 * j)) : vdupq_n_u32(0);
        codes[2 * j] = vreinterpretq_u8_u32(vzip1q_u32(a, b));
        codes[2 * j + 1] = vreinterpretq_u8_u32(vzip2q_u32(a, b));
      }
#pragma clang loop unroll(full)
      for (size_t r = 0; r < rows; r += 2) {
        int8_t eight[16] = {0};
        memcpy(eight, x + r * p->places + i, both ? 8 : 4);
        if (rows > 1) memcpy(eight + 8, x + (r + 1) * p->places + i, both ? 8 : 4);
        int8x16_t two = vld1q_s8(eight);
        for (int j = 0; j < PAIRS; j++) sum[r / 2][j] = vusmmlaq_s32(sum[r / 2][j], codes[j], two);
      }
      if (!both) panel -= 4 * LLV_PANEL;
    }
    x += n;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      float xs = p->xs[(row + r) * p->groups + g], scaled = p->sums[(row + r) * p->groups + g];
      for (int j = 0; j < PAIRS / 2; j++) {
        float *to = total + r * LLV_PANEL + 4 * j;
        int32x4_t low = sum[r / 2][2 * j], high = sum[r / 2][2 * j + 1];
        float32x4_t exact = vcvtq_f32_s32(r % 2 ? vuzp2q_s32(low, high) : vuzp1q_s32(low, high));
        float32x4_t all = vfmaq_f32(vld1q_f32(to), exact, vmulq_n_f32(vld1q_f32(p->ws + g * LLV_PANEL + 4 * j), xs));
        if (affine) all = vfmaq_n_f32(all, vld1q_f32(p->zeros + g * LLV_PANEL + 4 * j), scaled);
        vst1q_f32(to, all);
      }
    }
  }
}
LLV_TILES(pairs_neon, LLV_I8MM, 4)
#endif

// Enough for any of them: codes of a byte each of two panels, and what AVX2 wants of 8-bit weights.
size_t llv_int8_working(size_t columns, size_t group) {
  size_t places = llv_places(columns, group), groups = (columns + group - 1) / group;
  return 2 * LLV_PANEL * (places + 8) + 2 * places + 4 * groups * (LLV_PANEL + 2) + 64;
}

static void products_plain(const product *p, size_t m, const llv_output *out) {
  LLV_ALIGNED float total[LLV_PANEL];
  for (size_t i = 0; i < m; i++) row_plain(p, i, total), llv_finish(total, i, 1, p->column, 1, out);
}

static const uint8_t *codes_at(const llv_int8_panel *panel, size_t column) {
  size_t size = llv_panel_bytes(panel->columns, panel->group, panel->bits);
  return (const uint8_t *)panel->codes + column / LLV_PANEL * size;
}

// The product with the panel at `column`, as the kernels but AVX2's take it: codes of a byte each, spread into
// `working` where they are not that.
static product whole_bytes(const llv_codes *x, const llv_int8_panel *panel, size_t column, uint8_t *working) {
  size_t places = llv_places(panel->columns, panel->group), groups = (panel->columns + panel->group - 1) / panel->group;
  const uint8_t *codes = codes_at(panel, column);
  product p = {.x = x->codes, .panel = codes, .xs = x->scales, .sums = x->sums, .starts = x->starts, .places = places,
               .groups = groups, .columns = panel->columns, .group = panel->group, .column = column};
  if (panel->steps) {
    llv_spread_levels(codes, panel->steps + column * groups, panel->columns, panel->group, panel->bits, working);
    p.panel = working, p.group = panel->columns, p.groups = 1;
  } else if (panel->bits < 8) {
    llv_spread_codes(codes, places, panel->bits, working), p.panel = working;
  }
  p.ws = panel->scales + column * p.groups, p.zeros = panel->zeros ? panel->zeros + column * p.groups : 0;
  return p;
}

#if defined(LLV_X86)
static void panel_avx2(
    const llv_codes *x, size_t m, const llv_int8_panel *panel, size_t column, void *working, const llv_output *out) {
  size_t groups = (panel->columns + panel->group - 1) / panel->group;
  product p = {.x = x->codes, .xs = x->scales, .sums = x->sums, .starts = x->starts,
               .places = llv_places(panel->columns, panel->group), .groups = groups, .columns = panel->columns,
               .group = panel->group, .column = column,
               .panel = codes_at(panel, column)};
  if (panel->steps) {
    p.ws = panel->scales + column;
    levels l = levels_of(&p, panel->steps + column * groups, panel->bits, working);
    p.levels = &l;
    return levels_avx2(&p, m, out);
  }
  p.ws = panel->scales + column * groups, p.zeros = panel->zeros ? panel->zeros + column * groups : 0;
  if (panel->bits < 8) {
    llv_spread_codes(p.panel, p.places, panel->bits, working), p.panel = working;
    return nibbles_avx2(&p, m, out);
  }
  split s = split_avx2(&p, working);
  p.split = &s;
  if (is_widened(&p, &s)) return widen_avx2(&p, &s), words_avx2(&p, m, out);
  bytes_avx2(&p, m, out);
}
#endif

void llv_gemm_int8(const llv_codes *x, size_t m, const llv_int8_panel *panel, void *working, const llv_output *out) {
  kernel best = kernel_of();
#if defined(LLV_X86)
  if (best == AVX512_VNNI && out->n > LLV_PANEL && !panel->zeros && (panel->steps || panel->group >= panel->columns)) {
    uint8_t *second = (uint8_t *)working + LLV_PANEL * llv_places(panel->columns, panel->group);
    product p = whole_bytes(x, panel, 0, working), next = whole_bytes(x, panel, LLV_PANEL, second);
    return two_avx512(&p, &next, m, out);
  }
#endif
  for (size_t column = 0; column < out->n; column += LLV_PANEL) {
#if defined(LLV_X86)
    if (best == AVX2) {
      panel_avx2(x, m, panel, column, working, out);
      continue;
    }
#endif
    product p = whole_bytes(x, panel, column, working);
    switch (best) {
#if defined(LLV_X86)
      case AVX512_VNNI: bytes_avx512(&p, m, out); break;
      case AVX_VNNI: bytes_avx_vnni(&p, m, out); break;
#elif defined(LLV_ARM)
      case I8MM: pairs_neon(&p, m, out); break;
      case DOT_PRODUCT: bytes_neon(&p, m, out); break;
#endif
      default: products_plain(&p, m, out);
    }
  }
}
