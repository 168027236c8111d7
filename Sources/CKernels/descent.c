// Codes and steps that are there already, made better one after the other: a row's error is d H d, d what its values
// are short of the weights, H the second moments of the inputs. `gradient` is H d throughout.
#include "search.h"

#include <string.h>

// d[j] becomes `by` less.
LLV_INLINE void move(float *gradient, const float *moments, size_t columns, float by) {
  for (size_t k = 0; k < columns; k++) gradient[k] = fmaf(-by, moments[k], gradient[k]);
}

LLV_INLINE float nearest_code(float exact, int bits, int affine, int book) {
  float low = lowest_code(bits, affine), high = highest_code(bits, affine),
        q = book ? nearest_iq4_of(exact) : rintf(exact);
  return q < low ? low : q > high ? high : q;
}

LLV_INLINE void llv_descend_codes_body(const float *moments, size_t stride, size_t columns, size_t first, size_t group,
    int bits, int affine, int book, const float *scales, const float *zeros, uint8_t *codes, float *values,
    float *gradient, size_t *changes) {
  for (size_t i = 0; i < columns; i++) {
    size_t g = (first + i) / group;
    float scale = scales[g], zero = affine ? zeros[g] : 0, own = moments[i * stride + i];
    if (scale == 0 || own <= 0) continue;
    float q = nearest_code((values[i] + gradient[i] / own - zero) / scale, bits, affine, book);
    float value = q * scale + zero, by = value - values[i];
    // Less than rounding errors of the gradient is no gain.
    if (!(by * (by * own - 2 * gradient[i]) < -1e-6f * own * scale * scale)) continue;
    codes[i] = (uint8_t)(int)q;
    values[i] = value;
    move(gradient, moments + i * stride, columns, by);
    *changes += 1;
  }
}
LLV_DISPATCH(llv_descend_codes,
    (const float *moments, size_t stride, size_t columns, size_t first, size_t group, int bits, int affine, int book,
        const float *scales, const float *zeros, uint8_t *codes, float *values, float *gradient, size_t *changes),
    (moments, stride, columns, first, group, bits, affine, book, scales, zeros, codes, values, gradient, changes))

// What a group's error changes by where its step becomes `s` and its zero `z` larger.
typedef struct { float qq, q1, one, qg, g; } bowl;
LLV_INLINE float change(const bowl *b, float s, float z) {
  return s * s * b->qq + 2 * s * z * b->q1 + z * z * b->one - 2 * (s * b->qg + z * b->g);
}

LLV_INLINE bowl bowl_of(
    const float *moments, size_t stride, size_t n, int affine, const uint8_t *codes, const float *gradient) {
  bowl b = {0};
  for (size_t i = 0; i < n; i++) {
    float q = affine ? (float)codes[i] : (float)(int8_t)codes[i], qh = 0, h = 0;
    for (size_t k = 0; k < n; k++) {
      float other = affine ? (float)codes[k] : (float)(int8_t)codes[k];
      qh = fmaf(other, moments[i * stride + k], qh);
      h += moments[i * stride + k];
    }
    b.qq += q * qh, b.q1 += qh, b.one += h;
    b.qg += q * gradient[i], b.g += gradient[i];
  }
  return b;
}

// The step and zero in half precision that are best, or the best whole ones under the row's scale near them.
LLV_INLINE void best_steps(const bowl *b, int bits, int affine, float row_scale, float *scale, float *zero) {
  float det = b->qq * b->one - b->q1 * b->q1;
  if (!affine) {
    if (b->qq > 0) *scale = llv_half_to_float(llv_half_from_float(*scale + b->qg / b->qq));
    return;
  }
  // Codes that are all alike say nothing of the step.
  if (!(det > 1e-5f * b->qq * b->one)) return;
  float s = *scale + (b->qg * b->one - b->g * b->q1) / det, z = *zero + (b->g * b->qq - b->qg * b->q1) / det;
  if (row_scale == 0) {
    *scale = llv_half_to_float(llv_half_from_float(s)), *zero = llv_half_to_float(llv_half_from_float(z));
    return;
  }
  float unit = (float)llv_level_unit(bits), best = 0, old_scale = *scale, old_zero = *zero;
  for (int k = -1; k <= 2; k++) {
    int step = (int)fmaxf(fminf(s / (row_scale * unit), 32), -32) + k;
    if (step < 1 || step > 16) continue;
    int middle = (int)fmaxf(fminf(-z / (row_scale * (float)step), 32), -32);
    for (int zero4 = middle - 1; zero4 <= middle + 2; zero4++) {
      if (zero4 < 0 || zero4 > 15) continue;
      uint8_t both = (uint8_t)((step - 1) | zero4 << 4);
      if (llv_first_bad_step(&both, 1, bits) == 0) continue;
      float new_scale = row_scale * (float)step * unit, new_zero = -row_scale * (float)(step * zero4);
      float gain = change(b, new_scale - old_scale, new_zero - old_zero);
      if (gain < best) best = gain, *scale = new_scale, *zero = new_zero;
    }
  }
}

LLV_INLINE void llv_descend_steps_body(const float *moments, size_t stride, size_t columns, size_t first, size_t n,
    int bits, int affine, float row_scale, float *scale, float *zero, const uint8_t *codes, float *values,
    float *gradient) {
  const float *own = moments + first * stride + first;
  bowl b = bowl_of(own, stride, n, affine, codes + first, gradient + first);
  float s = *scale, z = affine ? *zero : 0;
  best_steps(&b, bits, affine, row_scale, &s, &z);
  float ds = s - *scale, dz = affine ? z - *zero : 0;
  if (!(change(&b, ds, dz) < 0) || !isfinite(s) || !isfinite(z)) return;
  *scale = s;
  if (affine) *zero = z;
  for (size_t i = first; i < first + n; i++) {
    float value = (affine ? (float)codes[i] : (float)(int8_t)codes[i]) * s + z, by = value - values[i];
    values[i] = value;
    move(gradient, moments + i * stride, columns, by);
  }
}
LLV_DISPATCH(llv_descend_steps,
    (const float *moments, size_t stride, size_t columns, size_t first, size_t n, int bits, int affine, float row_scale,
        float *scale, float *zero, const uint8_t *codes, float *values, float *gradient),
    (moments, stride, columns, first, n, bits, affine, row_scale, scale, zero, codes, values, gradient))

LLV_INLINE void llv_offset_codes_body(const float *w, size_t columns, size_t first, size_t group, int bits, int affine,
    int book, const float *scales, const float *zeros, const float *gradient, float rate, float *offsets,
    uint8_t *codes, float *rest) {
  for (size_t i = 0; i < columns; i++) {
    float scale = scales[(first + i) / group], zero = affine ? zeros[(first + i) / group] : 0,
          slope = gradient[i] * scale;
    float offset = offsets[i] + (slope > 0 ? rate : slope < 0 ? -rate : 0);
    offsets[i] = offset < -0.5f ? -0.5f : offset > 0.5f ? 0.5f : offset;
    float q = nearest_code(scale != 0 ? (w[i] - zero) / scale + offsets[i] : 0, bits, affine, book);
    codes[i] = (uint8_t)(int)q;
    rest[i] = w[i] - (q * scale + zero);
  }
}
LLV_DISPATCH(llv_offset_codes,
    (const float *w, size_t columns, size_t first, size_t group, int bits, int affine, int book, const float *scales,
        const float *zeros, const float *gradient, float rate, float *offsets, uint8_t *codes, float *rest),
    (w, columns, first, group, bits, affine, book, scales, zeros, gradient, rate, offsets, codes, rest))
