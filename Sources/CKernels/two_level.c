#include "search.h"

#include <string.h>

// Groups whose step is a small whole multiple of their row's scale, and whose zero is a small whole number: a byte for
// each group, the multiple less one in its low half and the zero in its high half. A code of fewer than four bits
// stands for one of four: of three bits for 0, 2, ... 14, of two for 0, 4, 8, 12, so that zeros between codes can be
// had, which the fewer codes there are the more they are worth. step · (code - zero) then fits eight signed bits, so
// that the product of a whole row is one sum of integers (QServe, Lin et al. 2024, arXiv 2405.04532, has the idea).
enum { LARGEST_STEP = 16, LARGEST_ZERO = 15 };

// The largest code, as one of four bits.
LLV_INLINE int largest_code(int bits) { return 16 - llv_level_unit(bits); }

// Zeros that a step can have: step · (0 - zero) >= -128 and step · (largest - zero) <= 127.
LLV_INLINE int least_zero(int step, int largest) { return largest - 127 / step > 0 ? largest - 127 / step : 0; }
LLV_INLINE int most_zero(int step) { return 128 / step < LARGEST_ZERO ? 128 / step : LARGEST_ZERO; }

LLV_INLINE int is_bad(uint8_t both, uint8_t largest) {
  uint8_t step = (uint8_t)((both & 15) + 1), zero = both >> 4;
  // A zero above the largest code leaves no positive values.
  uint8_t above = largest > zero ? (uint8_t)(largest - zero) : 0;
  return (uint8_t)(step * zero) > 128 | (uint8_t)(step * above) > 127;
}

LLV_INLINE size_t llv_first_bad_step_body(const uint8_t *steps, size_t count, int bits) {
  uint8_t largest = (uint8_t)largest_code(bits);
  size_t start = 0;
  // Blocks without a branch inside, so that the loop is one of vectors.
  for (; start + 1024 <= count; start += 1024) {
    uint8_t bad = 0;
    for (size_t i = start; i < start + 1024; i++) bad |= (uint8_t)is_bad(steps[i], largest);
    if (bad) break;
  }
  while (start < count && !is_bad(steps[start], largest)) start++;
  return start;
}
#if defined(LLV_X86)
LLV_AVX2 static size_t first_bad_step_avx2(const uint8_t *steps, size_t count, int bits) {
  return llv_first_bad_step_body(steps, count, bits);
}
#endif
size_t llv_first_bad_step(const uint8_t *steps, size_t count, int bits) {
#if defined(LLV_X86)
  if (llv_cpu_has(LLV_CPU_AVX2)) return first_bad_step_avx2(steps, count, bits);
#endif
  return llv_first_bad_step_body(steps, count, bits);
}

void llv_expand_steps(
    const uint8_t *steps, const float *row_scales, size_t groups, size_t rows, int bits, float *scales, float *zeros) {
  for (size_t g = 0; g < groups; g++)
    for (size_t r = 0; r < rows; r++) {
      uint8_t both = steps[g * rows + r];
      float scale = row_scales[r] * (float)((both & 15) + 1);
      scales[g * rows + r] = scale * (float)llv_level_unit(bits);
      zeros[g * rows + r] = -scale * (float)(both >> 4);
    }
}

void llv_join_levels(const void *codes, const void *steps, size_t columns, size_t group, int bits, void *target) {
  const uint8_t *from = codes, *both = steps;
  int8_t *to = target;
  for (size_t i = 0; i < columns; i++) {
    int step = (both[i / group] & 15) + 1, zero = both[i / group] >> 4;
    to[i] = (int8_t)(step * ((int)llv_code(from, i, bits) * llv_level_unit(bits) - zero));
  }
}

void llv_join_steps(const float *scales, const float *zeros, float row_scale, size_t groups, int bits, uint8_t *steps) {
  float unit = (float)llv_level_unit(bits);
  for (size_t g = 0; g < groups; g++) {
    int step = row_scale > 0 ? (int)rintf(scales[g] / unit / row_scale) : 1;
    int zero = row_scale > 0 ? (int)rintf(-zeros[g] / (scales[g] / unit)) : 0;
    steps[g] = (uint8_t)((step - 1) | zero << 4);
  }
}

float llv_row_scale(const float *scales, const float *zeros, size_t groups, int bits, const float *w, size_t columns) {
  float step = 0, reach = 0, unit = (float)llv_level_unit(bits), most = (float)((1 << bits) - 1);
  // Few codes leave outliers out: they reach as far as their groups' ends.
  int counts_ends = bits < 4;
  for (size_t g = 0; g < groups; g++) {
    float low = fabsf(zeros[g]), high = fabsf(zeros[g] + scales[g] * most), end = low > high ? low : high;
    // Infinite steps are those of weights that half precision cannot hold; the reach then decides.
    if (isfinite(scales[g]) && scales[g] / unit > step) step = scales[g] / unit;
    if (!isfinite(end)) counts_ends = 0;
    reach = counts_ends && end > reach ? end : reach;
  }
  if (!counts_ends)
    for (size_t i = 0; i < columns; i++) reach = fabsf(w[i]) > reach ? fabsf(w[i]) : reach;
  float least = step / LARGEST_STEP > reach / 127 ? step / LARGEST_STEP : reach / 127;
  // Up to seven significant bits: multiples by whole steps are then exact in half precision too, for those who write
  // them as such.
  uint32_t word;
  memcpy(&word, &least, 4);
  word = (word + 0x1FFFF) & ~(uint32_t)0x1FFFF;
  memcpy(&least, &word, 4);
  return least;
}

// The sum of (w - value)², weighted, under a scale and a whole zero of codes of four bits.
LLV_INLINE v8 error_of(const problem *p, v8 scale, v8 inverse, v8 zero, float unit) {
  v8 error = splat(0);
  for (size_t i = 0; i < p->n; i++) {
    v8 q = clamp8(round8((p->w[i] * inverse + zero) * splat(1 / unit)), 0, p->high);
    v8 d = p->w[i] - (q * splat(unit) - zero) * scale;
    error += d * d * splat(p->importance[i]);
  }
  return error;
}

// The best whole step and zero near what a search found, under the scales of the lanes' rows.
LLV_INLINE void snap(const problem *p, v8 row, v8 least, v8 most, int bits, v8 *scale, v8 *zero) {
  const float unit = (float)llv_level_unit(bits), half = (float)largest_code(bits) / 2;
  // What half precision could not hold of a search's result is as if the range were spread over all codes.
  i8x held = (*scale > splat(0)) & (*scale < splat(INFINITY)) & (*zero > splat(-INFINITY)) & (*zero < splat(INFINITY));
  *scale = choose(held, *scale, (most - least) * splat(1 / p->high)), *zero = choose(held, *zero, least);
  v8 step4 = *scale * splat(1 / unit), last = *zero + splat(p->high) * *scale;
  // Few codes leave outliers out.
  v8 reach = larger(bits < 4 ? larger(last, -*zero) : larger(most, -least), splat(0));
  v8 per = reciprocal(row), near = larger(step4, reach * splat(1.0f / (float)largest_code(bits))) * per;
  v8 middle = *zero + splat(half) * step4;
  v8 best_error = splat(INFINITY), best_scale = splat(0), best_zero = splat(0);
  for (int k = -1; k <= 2; k++) {
    v8 step, low, high;
    for (int j = 0; j < 8; j++) {
      float s = floorf(near[j]) + (float)k;
      step[j] = s < 1 ? 1 : s > LARGEST_STEP ? LARGEST_STEP : s;
      low[j] = (float)least_zero((int)step[j], largest_code(bits));
      high[j] = (float)most_zero((int)step[j]);
    }
    v8 s = row * step, inverse = reciprocal(s);
    v8 first = __builtin_elementwise_floor(splat(half) - middle * inverse);
    for (int l = -1; l <= 2; l++) {
      v8 z = smaller(larger(first + splat((float)l), low), high);
      v8 error = error_of(p, s, inverse, z, unit);
      i8x better = error < best_error;
      best_error = choose(better, error, best_error);
      best_scale = choose(better, s, best_scale);
      best_zero = choose(better, z, best_zero);
    }
  }
  *scale = best_scale * splat(unit);
  *zero = -best_scale * best_zero;
}

LLV_INLINE void llv_snap_steps_body(const float *w, size_t stride, size_t count, size_t n, const float *importance,
                                    const float *row_scales, size_t row_stride, int bits, float *scratch, float *scales,
                                    float *zeros, size_t scale_stride) {
  problem p = {
      .w = (const v8 *)scratch, .n = n, .importance = importance, .high = (float)((1 << bits) - 1), .affine = 1};
  for (size_t first = 0; first < count; first += 8) {
    size_t lanes = count - first < 8 ? count - first : 8;
    v8 least, most, row, scale, zero;
    gather_groups(&p, w + first * stride, stride, lanes, (v8 *)scratch, &least, &most, 1);
    for (size_t j = 0; j < 8; j++) {
      size_t at = first + (j < lanes ? j : lanes - 1);
      row[j] = row_scales[at * row_stride], scale[j] = scales[at * scale_stride], zero[j] = zeros[at * scale_stride];
    }
    snap(&p, row, least, most, bits, &scale, &zero);
    for (size_t j = 0; j < lanes; j++)
      scales[(first + j) * scale_stride] = scale[j], zeros[(first + j) * scale_stride] = zero[j];
  }
}
LLV_DISPATCH(llv_snap_steps,
             (const float *w, size_t stride, size_t count, size_t n, const float *importance, const float *row_scales,
              size_t row_stride, int bits, float *scratch, float *scales, float *zeros, size_t scale_stride),
             (w, stride, count, n, importance, row_scales, row_stride, bits, scratch, scales, zeros, scale_stride))

// Eight elements to codes, and what they lose. Lanes from `used` on are left out.
LLV_INLINE v8 encode8(v8 w, float scale, float zero, float low, float high, int book, size_t used, uint8_t *codes,
    v8 *most, llv_loss *loss) {
  const i8x there = (i8x){0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)used;
  v8 exact = scale != 0 ? (w - splat(zero)) / splat(scale) : splat(0);
  exact = book ? smaller(larger(nearest_iq4(exact), splat(low)), splat(high)) : round8(exact);
  v8 q = clamp8(exact, low, high);
  v8 d = choose(there, w - (q * splat(scale) + splat(zero)), splat(0));
  i8x clamped = (exact < splat(low) | exact > splat(high)) & there;
  *most = larger(*most, larger(d, -d));
  for (size_t j = 0; j < used; j++) codes[j] = (uint8_t)(int)q[j], loss->clamped += (uint64_t)-clamped[j];
  return d * d;
}

LLV_INLINE void llv_encode_row_body(const float *w, size_t columns, size_t group, int bits, int affine, int book,
                                    const float *scales, const float *zeros, uint8_t *codes, llv_loss *loss) {
  float low = lowest_code(bits, affine), high = highest_code(bits, affine);
  for (size_t g = 0, first = 0; first < columns; g++, first += group) {
    size_t n = columns - first < group ? columns - first : group;
    v8 error = splat(0), squares = splat(0), most = splat(0);
    for (size_t i = 0; i < n; i += 8) {
      size_t used = n - i < 8 ? n - i : 8;
      float part[8] = {0};
      memcpy(part, w + first + i, used * 4);
      v8 x = *(const v8 *)part;
      error += encode8(x, scales[g], affine ? zeros[g] : 0, low, high, book, used, codes + first + i, &most, loss);
      squares += x * x;
    }
    float all = 0;
    for (int j = 0; j < 8; j++) {
      loss->error += error[j], loss->squares += squares[j];
      loss->largest = most[j] > loss->largest ? most[j] : loss->largest;
      all += squares[j];
    }
    // Squares that overflow leave nothing to search by.
    loss->overflowed += !isfinite(all) || !isfinite(scales[g] * high);
    loss->vanished += scales[g] == 0 && all > 0;
  }
}
LLV_DISPATCH(llv_encode_row,
             (const float *w, size_t columns, size_t group, int bits, int affine, int book, const float *scales,
              const float *zeros, uint8_t *codes, llv_loss *loss),
             (w, columns, group, bits, affine, book, scales, zeros, codes, loss))
