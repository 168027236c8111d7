#include "search.h"

#include <string.h>

// Steps and zeros that a format holds otherwise than as a half-precision number for each group: ggml's super-blocks,
// where both are whole multiples of two scales of 256 elements; a code book; zeros that are whole codes.

LLV_INLINE float stored(float x) { return llv_half_to_float(llv_half_from_float(x)); }

// What a super-block holds: codes, and ranges of the multiples.
typedef struct { int bits, affine; float least_step, most_step, most_minimum; } block_rule;

LLV_INLINE block_rule rule_of(int type) {
  switch (type) {
    case LLV_Q2_K: return (block_rule){2, 1, 0, 15, 15};
    case LLV_Q3_K: return (block_rule){3, 0, -32, 31, 0};
    case LLV_Q4_K: return (block_rule){4, 1, 0, 63, 63};
    case LLV_Q5_K: return (block_rule){5, 1, 0, 63, 63};
    default: return (block_rule){6, 0, -128, 127, 0};
  }
}

void llv_block_scales(int type, const float *scales, const float *zeros, size_t groups, float *d, float *least) {
  block_rule rule = rule_of(type);
  float step = 0, minimum = 0;
  for (size_t g = 0; g < groups; g++) {
    // Infinite steps are those of weights that half precision cannot hold.
    if (fabsf(scales[g]) > fabsf(step) && isfinite(scales[g])) step = scales[g];
    if (rule.affine && -zeros[g] > minimum && isfinite(zeros[g])) minimum = -zeros[g];
  }
  // Where steps have a sign there is one more below zero, and the largest takes it.
  *d = stored(step / (rule.affine ? rule.most_step : rule.least_step));
  *least = rule.affine ? stored(minimum / rule.most_minimum) : 0;
}

// The sum of (w - value)², weighted, under a step and a zero.
LLV_INLINE v8 error_under(const problem *p, v8 scale, v8 zero) {
  v8 error = splat(0), inverse = reciprocal(scale);
  for (size_t i = 0; i < p->n; i++) {
    v8 q = clamp8(round8((p->w[i] - zero) * inverse), p->low, p->high);
    v8 d = p->w[i] - (q * scale + zero);
    error += d * d * splat(p->importance[i]);
  }
  return error;
}

LLV_INLINE void keep_step(fit *best, v8 scale, v8 zero, v8 error) {
  keep_better(best, (fit){scale, zero, error});
}

LLV_INLINE void snap_lanes(
    const problem *p, block_rule rule, v8 d, v8 least_scale, v8 least, v8 most, v8 *scale, v8 *zero) {
  v8 levels = splat(p->high - p->low);
  if (rule.affine) {
    // Zeros are not above 0 here, and what half precision could not hold is as if the range were spread over all codes.
    i8x held = (*scale > splat(0)) & (*scale < splat(INFINITY)) & (*zero > splat(-INFINITY)) & (*zero <= splat(0));
    v8 low = smaller(least, splat(0)), high = larger(most, splat(0));
    *scale = choose(held, *scale, (high - low) / levels), *zero = choose(held, *zero, low);
  } else {
    i8x held = (*scale > splat(-INFINITY)) & (*scale < splat(INFINITY));
    *scale = choose(held, *scale, larger(most, -least) * splat(1 / p->high));
  }
  v8 near = round8(*scale * reciprocal(d)), middle = *zero + levels * splat(0.5f) * *scale,
     per = reciprocal(least_scale);
  fit best = {splat(0), splat(0), splat(INFINITY)};
  int reach = p->high - p->low > 8 ? 1 : 2;
  for (int k = -reach; k <= reach; k++) {
    v8 s = d * clamp8(near + splat((float)k), rule.least_step, rule.most_step);
    if (!rule.affine) {
      keep_step(&best, s, splat(0), error_under(p, s, splat(0)));
      continue;
    }
    v8 wanted = round8((levels * splat(0.5f) * s - middle) * per);
    for (int l = -1; l <= 1; l++) {
      v8 z = -(least_scale * clamp8(wanted + splat((float)l), 0, rule.most_minimum));
      keep_step(&best, s, z, error_under(p, s, z));
    }
  }
  *scale = best.scale, *zero = best.zero;
}

LLV_INLINE void llv_snap_block_body(int type, const float *w, size_t stride, size_t count, size_t n,
    const float *importance, const float *d, const float *least_scales, size_t d_stride, float *scratch, float *scales,
    float *zeros, size_t scale_stride) {
  block_rule rule = rule_of(type);
  problem p = {.w = (const v8 *)scratch, .n = n, .importance = importance, .affine = rule.affine};
  p.low = lowest_code(rule.bits, rule.affine), p.high = highest_code(rule.bits, rule.affine);
  for (size_t first = 0; first < count; first += 8) {
    size_t lanes = count - first < 8 ? count - first : 8;
    v8 least, most, above, above_zero, scale, zero;
    gather_groups(&p, w + first * stride, stride, lanes, (v8 *)scratch, &least, &most, 1);
    for (size_t j = 0; j < 8; j++) {
      size_t at = first + (j < lanes ? j : lanes - 1);
      above[j] = d[at * d_stride], above_zero[j] = least_scales[at * d_stride];
      scale[j] = scales[at * scale_stride], zero[j] = zeros[at * scale_stride];
    }
    snap_lanes(&p, rule, above, above_zero, least, most, &scale, &zero);
    for (size_t j = 0; j < lanes; j++)
      scales[(first + j) * scale_stride] = scale[j], zeros[(first + j) * scale_stride] = zero[j];
  }
}
LLV_DISPATCH(llv_snap_block,
    (int type, const float *w, size_t stride, size_t count, size_t n, const float *importance, const float *d,
        const float *least_scales, size_t d_stride, float *scratch, float *scales, float *zeros, size_t scale_stride),
    (type, w, stride, count, n, importance, d, least_scales, d_stride, scratch, scales, zeros, scale_stride))

// A code book
// ------------------------------------------------------------------------------------------------------------

LLV_INLINE fit refit_book(const problem *p, v8 inverse) {
  v8 sqq = splat(0), sqw = splat(0);
  for (size_t i = 0; i < p->n; i++) {
    v8 q = nearest_iq4(p->w[i] * inverse);
    v8 a = q * splat(p->importance[i]);
    sqq += a * q;
    sqw += a * p->w[i];
  }
  fit result = {.scale = sqw / sqq, .zero = splat(0)};
  result.error = p->squares - result.scale * sqw;
  return result;
}

LLV_INLINE void llv_search_book_body(const float *w, size_t stride, size_t count, size_t n, const float *importance,
                                     float *scratch, float *scales, size_t scale_stride) {
  problem p = {.w = (const v8 *)scratch, .n = n, .importance = importance};
  for (size_t first = 0; first < count; first += 8) {
    size_t lanes = count - first < 8 ? count - first : 8;
    v8 least, most;
    gather_groups(&p, w + first * stride, stride, lanes, (v8 *)scratch, &least, &most, 1);
    v8 per = reciprocal(larger(most, -least));
    fit best = {splat(0), splat(0), p.squares};
    for (int k = 0; k < LLV_SEARCH_STEPS; k++) {
      v8 inverse = per * splat(127.0f + 6.0f * (float)(k - 6));
      keep_better(&best, refit_book(&p, inverse));
      keep_better(&best, refit_book(&p, -inverse));
    }
    for (int k = 0; k < 2; k++) keep_better(&best, refit_book(&p, reciprocal(best.scale)));
    for (size_t j = 0; j < lanes; j++) scales[(first + j) * scale_stride] = stored(best.scale[j]);
  }
}
LLV_DISPATCH(llv_search_book,
    (const float *w, size_t stride, size_t count, size_t n, const float *importance, float *scratch, float *scales,
        size_t scale_stride),
    (w, stride, count, n, importance, scratch, scales, scale_stride))

// Zeros that are whole codes
// ---------------------------------------------------------------------------------------------

LLV_INLINE void llv_snap_whole_body(const float *w, size_t stride, size_t count, size_t n, int bits,
    const float *importance, float *scratch, float *scales, float *zeros, size_t scale_stride) {
  problem p = {.w = (const v8 *)scratch, .n = n, .importance = importance, .affine = 1};
  p.high = highest_code(bits, 1);
  for (size_t first = 0; first < count; first += 8) {
    size_t lanes = count - first < 8 ? count - first : 8;
    v8 least, most, scale, zero;
    gather_groups(&p, w + first * stride, stride, lanes, (v8 *)scratch, &least, &most, 1);
    for (size_t j = 0; j < 8; j++) {
      size_t at = first + (j < lanes ? j : lanes - 1);
      scale[j] = scales[at * scale_stride], zero[j] = zeros[at * scale_stride];
    }
    // The zero is a code, so the range holds 0.
    v8 low = smaller(least, splat(0)), high = larger(most, splat(0));
    i8x held = (scale > splat(0)) & (scale < splat(INFINITY)) & (zero > splat(-INFINITY)) & (zero <= splat(0));
    scale = choose(held, scale, (high - low) * splat(1 / p.high)), zero = choose(held, zero, low);
    fit best = {splat(0), splat(0), splat(INFINITY)};
    for (int k = -1; k <= 1; k++) {
      v8 code = clamp8(round8(-zero * reciprocal(scale)) + splat((float)k), 0, p.high), step = scale;
      for (int round = 0; round < 2; round++) {
        v8 inverse = reciprocal(step), sqq = splat(0), sqw = splat(0);
        for (size_t i = 0; i < n; i++) {
          v8 q = clamp8(round8(p.w[i] * inverse + code), 0, p.high) - code, a = q * splat(importance[i]);
          sqq += a * q;
          sqw += a * p.w[i];
        }
        i8x better = (sqq > splat(0)) & (sqw > splat(0));
        step = choose(better, sqw / choose(better, sqq, splat(1)), step);
      }
      for (int j = 0; j < 8; j++) step[j] = stored(step[j]);
      keep_step(&best, step, -(code * step), error_under(&p, step, -(code * step)));
    }
    for (size_t j = 0; j < lanes; j++)
      scales[(first + j) * scale_stride] = best.scale[j], zeros[(first + j) * scale_stride] = best.zero[j];
  }
}
LLV_DISPATCH(llv_snap_whole,
             (const float *w, size_t stride, size_t count, size_t n, int bits, const float *importance, float *scratch,
              float *scales, float *zeros, size_t scale_stride),
             (w, stride, count, n, bits, importance, scratch, scales, zeros, scale_stride))
