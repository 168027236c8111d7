// The search for a step (and zero) of a group of weights; included by the C files that quantize.
#ifndef CKERNELS_SEARCH_H
#define CKERNELS_SEARCH_H

#include "internal.h"

#include <math.h>

enum { LLV_SEARCH_STEPS = 10 };

// Eight groups side by side: lane j of every vector belongs to group j, so that no sum crosses lanes and every
// instruction set computes the same bits. Every function that takes or returns these is inlined, so their calling
// convention does not matter.
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
  const float *importance;  // [n], of each element's squared error; null: all 1
  float mass;  // sum of the importances
  v8 sum, squares;  // of w and of its squares, weighted
  float low, high;  // range of codes
  int affine;
} problem;

// Puts `lanes` groups, `stride` elements apart, side by side into `target` [n], with their sums and range; lanes
// without a group repeat the last one.
LLV_INLINE void gather_groups(
    problem *p, const float *w, size_t stride, size_t lanes, v8 *target, v8 *least, v8 *most, const int weighted) {
  const float *row[8];
  for (size_t j = 0; j < 8; j++) row[j] = w + (j < lanes ? j : lanes - 1) * stride;
  *least = splat(INFINITY), *most = splat(-INFINITY);
  p->sum = splat(0), p->squares = splat(0);
  for (size_t i = 0; i < p->n; i++) {
    v8 x = {row[0][i], row[1][i], row[2][i], row[3][i], row[4][i], row[5][i], row[6][i], row[7][i]};
    v8 a = weighted ? x * splat(p->importance[i]) : x;
    target[i] = x;
    *least = smaller(*least, x);
    *most = larger(*most, x);
    p->sum += a;
    p->squares += a * x;
  }
}

// Codes for a starting step and zero, then the least-squares step and zero for those codes, and their error.
LLV_INLINE fit refit(const problem *p, v8 inverse, v8 zero, const int weighted) {
  v8 sq = splat(0), sqq = splat(0), sqw = splat(0);
  for (size_t i = 0; i < p->n; i++) {
    v8 q = clamp8(round8((p->w[i] - zero) * inverse), p->low, p->high);
    v8 a = weighted ? q * splat(p->importance[i]) : q;
    sq += a;
    sqq += a * q;
    sqw += a * p->w[i];
  }
  fit result;
  if (!p->affine) {
    result.scale = choose(sqq > 0, sqw / choose(sqq > 0, sqq, splat(1)), splat(0));
    result.zero = splat(0);
    result.error = p->squares - result.scale * sqw;
    return result;
  }
  v8 n = splat(p->mass), d = n * sqq - sq * sq;
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

// The search: a grid of starting steps (and of few codes zeros) from the group's range, then two rounds of refitting
// from the best.
LLV_INLINE fit search(const problem *p, v8 least, v8 most, const int weighted) {
  float levels = p->high - p->low;
  fit best = {splat(0), splat(0), p->squares};
  if (p->affine && levels < 15) {
    // Few codes: outliers cost less than what they would make of the step, and where the codes start is worth as much
    // as how far they reach (NeUQI, arXiv 2505.17595).
    v8 range = most - least, middle = (most + least) * splat(0.5f);
    for (int k = 0; k < LLV_SEARCH_STEPS; k++) {
      v8 step = range * splat(1 / (levels * (0.85f + 0.13f * (float)k)));
      for (int l = -1; l <= 1; l++)
        keep_better(
            &best, refit(p, reciprocal(step), middle - step * splat(0.5f * levels + 0.3f * (float)l), weighted));
    }
  } else if (p->affine) {
    v8 inverse = reciprocal(most - least);
    for (int k = 0; k < LLV_SEARCH_STEPS; k++)
      keep_better(&best, refit(p, inverse * splat(levels + 0.4f * (float)(k - 7)), least, weighted));
  } else {
    v8 reach = larger(most, -least);
    // Where there is a code more on the negative side, the element of the largest magnitude takes it.
    v8 inverse = reciprocal(reach);
    if (p->low != -p->high) inverse = choose(most > -least, -inverse, inverse);
    for (int k = 0; k < LLV_SEARCH_STEPS; k++)
      keep_better(&best, refit(p, inverse * splat(-p->low + 0.35f * (float)(k - 5)), splat(0), weighted));
  }
  for (int k = 0; k < 2; k++) keep_better(&best, refit(p, reciprocal(best.scale), best.zero, weighted));
  return best;
}

// The step and the zero of lane j in half precision, as they are stored.
LLV_INLINE void stored_step(
    const fit *best, size_t j, float least, float most, int affine, uint16_t *scale, uint16_t *zero) {
  float s = best->scale[j], z = best->zero[j];
  if (affine && least == most) {
    // One value: the zero takes its half-precision part, one step the rest.
    z = llv_half_to_float(llv_half_from_float(most));
    s = most - z;
  }
  *scale = llv_half_from_float(s);
  *zero = affine ? llv_half_from_float(z) : 0;
}

// IQ4_NL's table. The nearest of its values; ties, which lie between two, go to the lower.
static const float iq4_book[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
LLV_INLINE v8 nearest_iq4(v8 x) {
  v8 value = splat(iq4_book[0]);
  for (int k = 0; k < 15; k++) value = choose(x > (iq4_book[k] + iq4_book[k + 1]) / 2, splat(iq4_book[k + 1]), value);
  return value;
}
LLV_INLINE float nearest_iq4_of(float x) {
  float value = iq4_book[0];
  for (int k = 0; k < 15; k++) value = x > (iq4_book[k] + iq4_book[k + 1]) / 2 ? iq4_book[k + 1] : value;
  return value;
}

// Eight signed bits leave out -128, so that a product of two codes fits sixteen with a sign.
LLV_INLINE float lowest_code(int bits, int affine) {
  return affine ? 0.0f : bits == 8 ? -127.0f : -(float)(1 << (bits - 1));
}
LLV_INLINE float highest_code(int bits, int affine) { return (float)((1 << (affine ? bits : bits - 1)) - 1); }

#endif
