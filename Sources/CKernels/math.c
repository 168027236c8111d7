#include "erf.h"

LLV_INLINE void gelu_all(float *x, size_t count) {
  for (size_t i = 0; i < count; i++) x[i] = 0.5f * x[i] * (1.0f + erf_fast(x[i] * 0.70710678118654752f));
}

LLV_INLINE void gelu_tanh_all(float *x, size_t count) {
  for (size_t i = 0; i < count; i++) {
    float v = x[i];
    x[i] = 0.5f * v * (1.0f + tanh_fast(0.79788456080286536f * (v + 0.044715f * v * v * v)));
  }
}

LLV_INLINE void silu_all(float *x, size_t count) {
  for (size_t i = 0; i < count; i++) x[i] = x[i] / (1.0f + exp_fast(-x[i]));
}

LLV_INLINE void tanh_all(float *x, size_t count) {
  for (size_t i = 0; i < count; i++) x[i] = tanh_fast(x[i]);
}


LLV_INLINE void relu_all(float *x, size_t count) {
  for (size_t i = 0; i < count; i++) x[i] = x[i] < 0 ? 0 : x[i];
}

LLV_INLINE void llv_activate_body(int kind, float *x, size_t count) {
  switch (kind) {
    case LLV_GELU: return gelu_all(x, count);
    case LLV_GELU_TANH: return gelu_tanh_all(x, count);
    case LLV_SILU: return silu_all(x, count);
    case LLV_TANH: return tanh_all(x, count);
    case LLV_RELU: return relu_all(x, count);
  }
}
LLV_DISPATCH(llv_activate, (int kind, float *x, size_t count), (kind, x, count))

// Sums run in lanes that are added in one fixed order, so that no instruction set changes a bit; in 32 of them, so that
// an addition need not wait for the one before.
enum { LANES = 8, VECTORS = 4 };
typedef double d8 __attribute__((ext_vector_type(LANES), aligned(8)));
typedef float v8 __attribute__((ext_vector_type(LANES), aligned(4)));

// Of x - center, or of its square where `squared`, which is a constant where this is inlined.
LLV_INLINE double sum_of(const float *x, size_t count, double center, int squared) {
  d8 sums[VECTORS] = {0};
  size_t i = 0;
  for (; i + LANES * VECTORS <= count; i += LANES * VECTORS)
    for (int k = 0; k < VECTORS; k++) {
      d8 value = __builtin_convertvector(*(const v8 *)(x + i + k * LANES), d8) - center;
      sums[k] += squared ? value * value : value;
    }
  d8 lane = (sums[0] + sums[2]) + (sums[1] + sums[3]);
  for (int j = 0; i < count; i++, j = (j + 1) % LANES) {
    double value = x[i] - center;
    lane[j] += squared ? value * value : value;
  }
  return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

// `scaled` and `shifted` are constants where this is inlined. A loop that asks for each value whether there is a gain
// is slower, and becomes loads through a null pointer that only a mask prevents, which not every emulator honours.
LLV_INLINE void norm_values(const float *x, size_t count, double mean, double factor, const float *gain,
                            const float *bias, float *y, int scaled, int shifted) {
  for (size_t i = 0; i < count; i++) {
    float v = (float)((x[i] - mean) * factor);
    if (scaled) v *= gain[i];
    if (shifted) v += bias[i];
    y[i] = v;
  }
}

LLV_INLINE void llv_norm_row_body(const float *x, size_t count, int centered, double epsilon, const float *gain,
                                  const float *bias, float *y) {
  double mean = centered ? sum_of(x, count, 0, 0) / (double)count : 0;
  double factor = 1 / sqrt(sum_of(x, count, mean, 1) / (double)count + epsilon);
  if (gain && bias)
    norm_values(x, count, mean, factor, gain, bias, y, 1, 1);
  else if (gain)
    norm_values(x, count, mean, factor, gain, bias, y, 1, 0);
  else if (bias)
    norm_values(x, count, mean, factor, gain, bias, y, 0, 1);
  else
    norm_values(x, count, mean, factor, gain, bias, y, 0, 0);
}
LLV_DISPATCH(llv_norm_row,
    (const float *x, size_t count, int centered, double epsilon, const float *gain, const float *bias, float *y),
    (x, count, centered, epsilon, gain, bias, y))

LLV_INLINE void llv_normalize_row_body(const float *x, size_t count, float *y) {
  double length = sqrt(sum_of(x, count, 0, 1));
  double factor = length > 0 ? 1 / length : 0;
  for (size_t i = 0; i < count; i++) y[i] = (float)(x[i] * factor);
}
LLV_DISPATCH(llv_normalize_row, (const float *x, size_t count, float *y), (x, count, y))

LLV_INLINE void llv_dot_rows_body(const float *x, const float *rows, size_t count, size_t width, float *y) {
  for (size_t r = 0; r < count; r++) {
    const float *row = rows + r * width;
    float lane[4 * LANES] = {0};
    size_t i = 0;
    for (; i + 4 * LANES <= width; i += 4 * LANES)
      for (int j = 0; j < 4 * LANES; j++) lane[j] += x[i + j] * row[i + j];
    for (int j = 0; i < width; i++, j++) lane[j] += x[i] * row[i];
    double sum = 0;
    for (int j = 0; j < LANES; j++) sum += (lane[j] + lane[j + 16]) + (lane[j + 8] + lane[j + 24]);
    y[r] = (float)sum;
  }
}
LLV_DISPATCH(llv_dot_rows, (const float *x, const float *rows, size_t count, size_t width, float *y),
             (x, rows, count, width, y))
