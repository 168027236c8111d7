#include "search.h"

#include <math.h>

LLV_INLINE void llv_search_steps_body(const float *w, size_t stride, size_t count, size_t n, int bits, int affine,
                                      const float *importance, float *scratch, float *scales, float *zeros,
                                      size_t scale_stride) {
  problem p = {.w = (const v8 *)scratch, .n = n, .importance = importance, .affine = affine};
  p.low = lowest_code(bits, affine);
  p.high = highest_code(bits, affine);
  for (size_t i = 0; i < n; i++) p.mass += importance[i];
  for (size_t first = 0; first < count; first += 8) {
    size_t lanes = count - first < 8 ? count - first : 8;
    v8 least, most;
    gather_groups(&p, w + first * stride, stride, lanes, (v8 *)scratch, &least, &most, 1);
    fit best = search(&p, least, most, 1);
    for (size_t j = 0; j < lanes; j++) {
      uint16_t scale, zero;
      stored_step(&best, j, least[j], most[j], affine, &scale, &zero);
      scales[(first + j) * scale_stride] = llv_half_to_float(scale);
      zeros[(first + j) * scale_stride] = llv_half_to_float(zero);
    }
  }
}
LLV_DISPATCH(llv_search_steps,
             (const float *w, size_t stride, size_t count, size_t n, int bits, int affine, const float *importance,
              float *scratch, float *scales, float *zeros, size_t scale_stride),
             (w, stride, count, n, bits, affine, importance, scratch, scales, zeros, scale_stride))

LLV_INLINE void llv_gptq_columns_body(float *w, size_t stride, size_t rows, size_t n, const float *factor,
    size_t factor_stride, size_t follow, int bits, int affine, int book, const float *scales, const float *zeros,
    size_t scale_stride, uint8_t *codes, size_t code_stride, float *errors, size_t error_stride, uint64_t *clamped) {
  float low = lowest_code(bits, affine), high = highest_code(bits, affine);
  for (size_t r = 0; r < rows; r++) {
    float *row = w + r * stride, scale = scales[r * scale_stride], zero = affine ? zeros[r * scale_stride] : 0;
    for (size_t i = 0; i < n; i++) {
      const float *u = factor + i * factor_stride + i;
      float exact = scale != 0 ? (row[i] - zero) / scale : 0, q = book ? nearest_iq4_of(exact) : rintf(exact);
      *clamped += q < low || q > high;
      q = q < low ? low : q > high ? high : q;
      codes[r * code_stride + i] = (uint8_t)(int)q;
      float error = (row[i] - (q * scale + zero)) / u[0];
      errors[r * error_stride + i] = error;
      for (size_t k = 1; k < follow - i; k++) row[i + k] = fmaf(-error, u[k], row[i + k]);
    }
  }
}
LLV_DISPATCH(llv_gptq_columns,
    (float *w, size_t stride, size_t rows, size_t n, const float *factor, size_t factor_stride, size_t follow, int bits,
        int affine, int book, const float *scales, const float *zeros, size_t scale_stride, uint8_t *codes,
        size_t code_stride, float *errors, size_t error_stride, uint64_t *clamped),
    (w, stride, rows, n, factor, factor_stride, follow, bits, affine, book, scales, zeros, scale_stride, codes,
        code_stride, errors, error_stride, clamped))
