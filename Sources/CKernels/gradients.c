#include "erf.h"

// e^(-x²/2) / √(2π).
LLV_INLINE float bell(float x) { return 0.39894228040143268f * exp_fast(-0.5f * x * x); }

LLV_INLINE void gelu_gradient(const float *x, float *dy, size_t count) {
  for (size_t i = 0; i < count; i++)
    dy[i] *= 0.5f * (1.0f + erf_fast(x[i] * 0.70710678118654752f)) + x[i] * bell(x[i]);
}

LLV_INLINE void gelu_tanh_gradient(const float *x, float *dy, size_t count) {
  for (size_t i = 0; i < count; i++) {
    float v = x[i], t = tanh_fast(0.79788456080286536f * (v + 0.044715f * v * v * v));
    float inner = 0.79788456080286536f * (1.0f + 0.134145f * v * v);
    dy[i] *= 0.5f * (1.0f + t) + 0.5f * v * (1.0f - t * t) * inner;
  }
}

LLV_INLINE void silu_gradient(const float *x, float *dy, size_t count) {
  for (size_t i = 0; i < count; i++) {
    float s = 1.0f / (1.0f + exp_fast(-x[i]));
    dy[i] *= s * (1.0f + x[i] * (1.0f - s));
  }
}

LLV_INLINE void tanh_gradient(const float *x, float *dy, size_t count) {
  for (size_t i = 0; i < count; i++) {
    float t = tanh_fast(x[i]);
    dy[i] *= 1.0f - t * t;
  }
}

LLV_INLINE void relu_gradient(const float *x, float *dy, size_t count) {
  for (size_t i = 0; i < count; i++) dy[i] = x[i] > 0 ? dy[i] : 0;
}

LLV_INLINE void llv_activate_gradient_body(int kind, const float *x, float *dy, size_t count) {
  switch (kind) {
    case LLV_GELU: return gelu_gradient(x, dy, count);
    case LLV_GELU_TANH: return gelu_tanh_gradient(x, dy, count);
    case LLV_SILU: return silu_gradient(x, dy, count);
    case LLV_TANH: return tanh_gradient(x, dy, count);
    case LLV_RELU: return relu_gradient(x, dy, count);
  }
}
LLV_DISPATCH(llv_activate_gradient, (int kind, const float *x, float *dy, size_t count), (kind, x, dy, count))

// Sums run in lanes that are added in one fixed order, so that no instruction set changes a bit.
enum { LANES = 16 };

LLV_INLINE double lane_sum(const float *lane) {
  double sum = 0;
  for (int j = 0; j < LANES; j++) sum += lane[j];
  return sum;
}

LLV_INLINE void llv_softmax_row_body(float *x, size_t count) {
  float most = -INFINITY, lane[LANES] = {0};
  for (size_t i = 0; i < count; i++) most = x[i] > most ? x[i] : most;
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int j = 0; j < LANES; j++) {
      x[i + j] = exp_fast(x[i + j] - most);
      lane[j] += x[i + j];
    }
  for (int j = 0; i < count; i++, j++) {
    x[i] = exp_fast(x[i] - most);
    lane[j] += x[i];
  }
  float factor = (float)(1 / lane_sum(lane));
  for (i = 0; i < count; i++) x[i] *= factor;
}
LLV_DISPATCH(llv_softmax_row, (float *x, size_t count), (x, count))

LLV_INLINE void llv_softmax_gradient_row_body(const float *p, size_t count, float *dp) {
  float lane[LANES] = {0};
  size_t i = 0;
  for (; i + LANES <= count; i += LANES)
    for (int j = 0; j < LANES; j++) lane[j] += p[i + j] * dp[i + j];
  for (int j = 0; i < count; i++, j++) lane[j] += p[i] * dp[i];
  float mean = (float)lane_sum(lane);
  for (i = 0; i < count; i++) dp[i] = p[i] * (dp[i] - mean);
}
LLV_DISPATCH(llv_softmax_gradient_row, (const float *p, size_t count, float *dp), (p, count, dp))

LLV_INLINE double wide_sum(const double *lane) {
  double sum = 0;
  for (int j = 0; j < LANES / 2; j++) sum += lane[j];
  return sum;
}

LLV_INLINE void llv_norm_gradient_row_body(const float *x, size_t count, int centered, double epsilon, const float
    *gain,
                                           const float *dy, float *dx, float *dgain, float *dbias) {
  enum { WIDE = LANES / 2 };
  double a[WIDE] = {0}, b[WIDE] = {0}, c[WIDE] = {0};
  size_t whole = count / WIDE * WIDE;
  double mean = 0;
  if (centered) {
    for (size_t i = 0; i < whole; i += WIDE)
      for (int j = 0; j < WIDE; j++) a[j] += x[i + j];
    for (size_t i = whole; i < count; i++) a[i - whole] += x[i];
    mean = wide_sum(a) / (double)count;
  }
  for (size_t i = 0; i < whole; i += WIDE)
    for (int j = 0; j < WIDE; j++) b[j] += (x[i + j] - mean) * (x[i + j] - mean);
  for (size_t i = whole; i < count; i++) b[i - whole] += (x[i] - mean) * (x[i] - mean);
  double factor = 1 / sqrt(wide_sum(b) / (double)count + epsilon);
  // The gradient by the normed values, before the gain.
  for (size_t i = 0; i < count; i++) dx[i] = gain ? dy[i] * gain[i] : dy[i];
  for (int j = 0; j < WIDE; j++) b[j] = 0;
  for (size_t i = 0; i < whole; i += WIDE)
    for (int j = 0; j < WIDE; j++) {
      b[j] += dx[i + j];
      c[j] += dx[i + j] * (x[i + j] - mean);
    }
  for (size_t i = whole; i < count; i++) {
    b[i - whole] += dx[i];
    c[i - whole] += dx[i] * (x[i] - mean);
  }
  double level = centered ? wide_sum(b) / (double)count : 0, slope = wide_sum(c) * factor * factor / (double)count;
  if (dgain)
    for (size_t i = 0; i < count; i++) dgain[i] += dy[i] * (float)((x[i] - mean) * factor);
  if (dbias)
    for (size_t i = 0; i < count; i++) dbias[i] += dy[i];
  for (size_t i = 0; i < count; i++) dx[i] = (float)(factor * (dx[i] - level - slope * (x[i] - mean)));
}
LLV_DISPATCH(llv_norm_gradient_row,
             (const float *x, size_t count, int centered, double epsilon, const float *gain, const float *dy, float *dx,
              float *dgain, float *dbias),
             (x, count, centered, epsilon, gain, dy, dx, dgain, dbias))

LLV_INLINE void llv_group_sums_body(const float *x, const float *w, size_t columns, size_t group, float *sums,
                                    float *products) {
  for (size_t g = 0, first = 0; first < columns; first += group, g++) {
    size_t n = columns - first < group ? columns - first : group, i = 0;
    float sum[LANES] = {0}, product[LANES] = {0};
    for (; i + LANES <= n; i += LANES)
      for (int j = 0; j < LANES; j++) {
        sum[j] += x[first + i + j];
        product[j] += x[first + i + j] * w[first + i + j];
      }
    for (int j = 0; i < n; i++, j++) {
      sum[j] += x[first + i];
      product[j] += x[first + i] * w[first + i];
    }
    sums[g] = (float)lane_sum(sum);
    products[g] = (float)lane_sum(product);
  }
}
LLV_DISPATCH(llv_group_sums, (const float *x, const float *w, size_t columns, size_t group, float *sums, float
    *products),
             (x, w, columns, group, sums, products))

// Vectors alone have a root that sets no error number.
LLV_INLINE float root(float x) { return __builtin_elementwise_sqrt(x); }

LLV_INLINE void llv_move_latents_body(const llv_adam *adam, const float *gradient, size_t count, int lowest,
                                      int highest, float *u, float *means, float *squares, uint8_t *codes) {
  float low = (float)lowest - LLV_LATENT_REACH, high = (float)highest + LLV_LATENT_REACH;
  float mean = adam->mean, square = adam->square, factor = adam->factor, scale = adam->root, least = adam->least;
  for (size_t i = 0; i < count; i++) {
    float g = gradient[i], v = u[i];
    g = (v <= low && g > 0) || (v >= high && g < 0) ? 0 : g;
    float m = mean * means[i] + (1 - mean) * g, s = square * squares[i] + (1 - square) * g * g;
    v -= factor * m / (root(s) * scale + least);
    v = v < low ? low : v > high ? high : v;
    means[i] = m, squares[i] = s, u[i] = v;
    codes[i] = (uint8_t)((int)(v - (float)lowest + 0.5f) + lowest);
  }
}
LLV_DISPATCH(llv_move_latents,
             (const llv_adam *adam, const float *gradient, size_t count, int lowest, int highest, float *u,
              float *means, float *squares, uint8_t *codes),
             (adam, gradient, count, lowest, highest, u, means, squares, codes))

LLV_INLINE void llv_add_scaled_body(const float *x, const float *scales, size_t columns, size_t group, float *sums) {
  for (size_t g = 0, first = 0; first < columns; first += group, g++) {
    size_t end = columns - first < group ? columns : first + group;
    for (size_t i = first; i < end; i++) sums[i] += scales[g] * x[i];
  }
}
LLV_DISPATCH(llv_add_scaled, (const float *x, const float *scales, size_t columns, size_t group, float *sums),
             (x, scales, columns, group, sums))
