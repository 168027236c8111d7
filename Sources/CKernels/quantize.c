#include "internal.h"

#include <math.h>
#include <string.h>

enum { LLV_SEARCH_STEPS = 10 };

LLV_INLINE void llv_dequantize_row_body(const void *codes, const float *scales, const float *zeros, size_t columns,
                                        size_t group, int bits, int affine, float *target) {
  const uint8_t *from = codes;
  for (size_t g = 0, first = 0; first < columns; g++, first += group) {
    size_t n = columns - first < group ? columns - first : group;
    float scale = scales[g], zero = affine ? zeros[g] : 0;
    float *to = target + first;
    if (bits == 8 && affine) {
      for (size_t i = 0; i < n; i++) to[i] = (float)from[first + i] * scale + zero;
    } else if (bits == 8) {
      for (size_t i = 0; i < n; i++) to[i] = (float)(int8_t)from[first + i] * scale;
    } else {
      // Two's complement for symmetric codes: flip the sign bit and subtract.
      int flip = affine ? 0 : 8;
      for (size_t i = 0; i < n; i++) {
        int code = from[(first + i) / 2] >> ((first + i) % 2 * 4) & 15;
        float value = (float)((code ^ flip) - flip) * scale;
        to[i] = affine ? value + zero : value;
      }
    }
  }
}
LLV_DISPATCH(llv_dequantize_row,
             (const void *codes, const float *scales, const float *zeros, size_t columns, size_t group, int bits,
              int affine, float *target),
             (codes, scales, zeros, columns, group, bits, affine, target))

// Eight groups side by side: lane j of every vector belongs to group j, so that no sum crosses lanes and every instruction
// set computes the same bits.
// Every function that takes or returns these is inlined, so their calling convention does not matter.
#pragma clang diagnostic ignored "-Wpsabi"
typedef float v8 __attribute__((ext_vector_type(8), aligned(4)));
typedef int32_t i8x __attribute__((ext_vector_type(8), aligned(4)));

LLV_INLINE v8 splat(float x) { return (v8){x, x, x, x, x, x, x, x}; }
LLV_INLINE v8 choose(i8x mask, v8 yes, v8 no) { return mask ? yes : no; }
// Plain comparisons, which are one instruction each; nothing here is NaN.
LLV_INLINE v8 larger(v8 a, v8 b) { return a > b ? a : b; }
LLV_INLINE v8 smaller(v8 a, v8 b) { return a < b ? a : b; }
LLV_INLINE v8 round8(v8 x) { return __builtin_elementwise_roundeven(x); }
LLV_INLINE v8 clamp8(v8 x, float low, float high) { return smaller(larger(x, splat(low)), splat(high)); }

typedef struct { v8 scale, zero, error; } fit;

typedef struct {
  const v8 *w;  // [n], transposed
  size_t n;
  v8 sum, squares;
  float low, high;  // range of codes
  int affine;
} problem;

// Codes for a starting step and zero, then the least-squares step and zero for those codes, and their error.
LLV_INLINE fit refit(const problem *p, v8 inverse, v8 zero) {
  v8 sq = splat(0), sqq = splat(0), sqw = splat(0);
  for (size_t i = 0; i < p->n; i++) {
    v8 q = clamp8(round8((p->w[i] - zero) * inverse), p->low, p->high);
    sq += q;
    sqq += q * q;
    sqw += q * p->w[i];
  }
  fit result;
  if (!p->affine) {
    result.scale = choose(sqq > 0, sqw / choose(sqq > 0, sqq, splat(1)), splat(0));
    result.zero = splat(0);
    result.error = p->squares - result.scale * sqw;
    return result;
  }
  v8 n = splat((float)p->n), d = n * sqq - sq * sq;
  result.scale = choose(d > 0, (n * sqw - sq * p->sum) / choose(d > 0, d, splat(1)), splat(0));
  result.zero = (p->sum - result.scale * sq) / n;
  result.error = p->squares - result.scale * sqw - result.zero * p->sum;
  return result;
}

LLV_INLINE void keep_better(fit *best, fit other) {
  i8x better = other.error < best->error;
  best->scale = choose(better, other.scale, best->scale);
  best->zero = choose(better, other.zero, best->zero);
  best->error = choose(better, other.error, best->error);
}

LLV_INLINE v8 reciprocal(v8 x) { return choose(x != 0, splat(1) / choose(x != 0, x, splat(1)), splat(0)); }

// The search: a grid of starting steps from the group's range, then two rounds of refitting from the best.
LLV_INLINE fit search(const problem *p, v8 least, v8 most) {
  float levels = p->high - p->low;
  fit best = {splat(0), splat(0), p->squares};
  if (p->affine) {
    v8 inverse = reciprocal(most - least);
    for (int k = 0; k < LLV_SEARCH_STEPS; k++)
      keep_better(&best, refit(p, inverse * splat(levels + 0.4f * (float)(k - 7)), least));
  } else {
    v8 reach = larger(most, -least);
    // The side with the larger magnitude may use the longer half of the codes: both signs of the step are tried.
    for (int k = 0; k < LLV_SEARCH_STEPS; k++) {
      v8 inverse = reciprocal(reach) * splat(-p->low + 0.35f * (float)(k - 5));
      keep_better(&best, refit(p, inverse, splat(0)));
      if (p->low != -p->high) keep_better(&best, refit(p, -inverse, splat(0)));
    }
  }
  for (int k = 0; k < 2; k++) keep_better(&best, refit(p, reciprocal(best.scale), best.zero));
  return best;
}

// Codes under the stored step and zero, and what they lose. Lanes from `lanes` on are left out.
LLV_INLINE void store_groups(const problem *p, v8 scale, v8 zero, size_t lanes, size_t stride, uint8_t *codes, llv_loss *loss) {
  const v8 range_low = splat(p->low), range_high = splat(p->high);
  const i8x used = (i8x){0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)lanes;
  v8 divisor = choose(scale != 0, scale, splat(1)), error = splat(0), most = splat(0);
  i8x clamped = {0};
  for (size_t i = 0; i < p->n; i++) {
    v8 w = p->w[i];
    v8 exact = choose(scale != 0, round8((w - zero) / divisor), splat(0));
    v8 q = clamp8(exact, p->low, p->high);
    clamped -= (exact < range_low) | (exact > range_high);
    v8 d = w - (q * scale + zero);
    error += d * d;
    most = larger(most, larger(d, -d));
    union { i8x all; int32_t lane[8]; } code = {__builtin_convertvector(q, i8x)};
    if (lanes == 8) {
      for (size_t j = 0; j < 8; j++) codes[j * stride + i] = (uint8_t)code.lane[j];
    } else {
      for (size_t j = 0; j < lanes; j++) codes[j * stride + i] = (uint8_t)code.lane[j];
    }
  }
  error = choose(used, error, splat(0));
  most = choose(used, most, splat(0));
  clamped &= used;
  for (int j = 0; j < 8; j++) {
    loss->error += error[j];
    loss->largest = most[j] > loss->largest ? most[j] : loss->largest;
    loss->clamped += (uint64_t)clamped[j];
  }
}

LLV_INLINE void llv_quantize_groups_body(const float *w, size_t stride, size_t count, size_t n, int bits, int affine,
                                         float *scratch, uint8_t *codes, uint16_t *scales, uint16_t *zeros,
                                         size_t scale_stride, llv_loss *loss) {
  problem p = {.w = (const v8 *)scratch, .n = n, .affine = affine};
  p.low = affine ? 0.0f : bits == 8 ? -127.0f : -8.0f;
  p.high = affine ? (bits == 8 ? 255.0f : 15.0f) : bits == 8 ? 127.0f : 7.0f;
  for (size_t first = 0; first < count; first += 8) {
    size_t lanes = count - first < 8 ? count - first : 8;
    v8 least = splat(INFINITY), most = splat(-INFINITY);
    p.sum = splat(0), p.squares = splat(0);
    // Lanes without a group repeat the last one.
    const float *row[8];
    for (size_t j = 0; j < 8; j++) row[j] = w + (first + (j < lanes ? j : lanes - 1)) * stride;
    for (size_t i = 0; i < n; i++) {
      v8 x = {row[0][i], row[1][i], row[2][i], row[3][i], row[4][i], row[5][i], row[6][i], row[7][i]};
      ((v8 *)scratch)[i] = x;
      least = smaller(least, x);
      most = larger(most, x);
      p.sum += x;
      p.squares += x * x;
    }
    fit best = search(&p, least, most);
    v8 scale = splat(0), zero = splat(0);
    for (size_t j = 0; j < lanes; j++) {
      float s = best.scale[j], z = best.zero[j];
      if (affine && least[j] == most[j]) {
        // One value: the zero takes its half-precision part, one step the rest.
        z = llv_half_to_float(llv_half_from_float(most[j]));
        s = most[j] - z;
      }
      uint16_t stored = llv_half_from_float(s), stored_zero = affine ? llv_half_from_float(z) : 0;
      int is_lost = affine ? least[j] != most[j] : least[j] != 0 || most[j] != 0;
      if ((stored & 0x7FFF) == 0x7C00 || (stored_zero & 0x7FFF) == 0x7C00) loss->overflowed++;
      if ((stored & 0x7FFF) == 0 && is_lost) loss->vanished++;
      scales[(first + j) * scale_stride] = stored;
      if (affine) zeros[(first + j) * scale_stride] = stored_zero;
      scale[j] = llv_half_to_float(stored);
      zero[j] = llv_half_to_float(stored_zero);
      loss->squares += p.squares[j];
    }
    store_groups(&p, scale, zero, lanes, stride, codes + first * stride, loss);
  }
}
LLV_DISPATCH(llv_quantize_groups,
             (const float *w, size_t stride, size_t count, size_t n, int bits, int affine, float *scratch,
              uint8_t *codes, uint16_t *scales, uint16_t *zeros, size_t scale_stride, llv_loss *loss),
             (w, stride, count, n, bits, affine, scratch, codes, scales, zeros, scale_stride, loss))

LLV_INLINE void llv_pack_nibbles_body(const uint8_t *codes, size_t columns, uint8_t *target) {
  for (size_t i = 0; i < columns / 2; i++) target[i] = (uint8_t)((codes[2 * i] & 15) | codes[2 * i + 1] << 4);
  if (columns % 2) target[columns / 2] = codes[columns - 1] & 15;
}
LLV_DISPATCH(llv_pack_nibbles, (const uint8_t *codes, size_t columns, uint8_t *target), (codes, columns, target))

size_t llv_first_nonfinite(const float *x, size_t count) {
  size_t start = 0;
  // Blocks without a branch inside, so that the loop is vectorised.
  for (; start < count; start += 1024) {
    size_t end = start + 1024 < count ? start + 1024 : count;
    uint32_t bad = 0;
    for (size_t i = start; i < end; i++) {
      uint32_t bits;
      memcpy(&bits, x + i, 4);
      bad |= (bits & 0x7F800000) == 0x7F800000;
    }
    if (bad) break;
  }
  for (; start < count; start++)
    if (!isfinite(x[start])) return start;
  return count;
}
