// A row of a result from the same row of its inputs: v = activation(x) (+ or *) other, then a norm; as Float32, as
// BF16, or as 8-bit codes. A block of 256 threads makes a row, and reads it once more for each thing it has to know of
// it: the row is in the caches.
#include "activation.h"

enum { NORM_NONE, NORM_LAYER, NORM_RMS, NORM_RMS_PLUS_ONE, NORM_LENGTH };

// Sum or maximum over a warp or the block, in one fixed order; every thread gets it.
template <class T, class F> DEV T over_warp(T v, F join) {
  for (int mask = 16; mask; mask >>= 1) v = join(v, shfl_xor(v, mask));
  return v;
}
template <class T, class F> DEV T over_block(T v, F join) {
  T *shared = (T *)smem;
  v = over_warp(v, join);
  SYNC();
  if ((TID & 31) == 0) shared[TID >> 5] = v;
  SYNC();
  T all = shared[0];
  for (int i = 1; i < 8; i++) all = join(all, shared[i]);
  return all;
}

struct Row {
  const float *x, *other;
  int kind, with;
  const float *gain, *bias;
  int norm;
  double mean, factor;

  DEV float before(int i) const {
    float v = activate(kind, x[i]);
    return with == STEP_ADD ? v + other[i] : with == STEP_MULTIPLY ? v * other[i] : v;
  }
  // As CKernels/math.c rounds it.
  DEV float operator()(int i) const {
    float v = before(i);
    if (norm == NORM_NONE) return v;
    v = (float)((v - mean) * factor);
    if (gain) v *= norm == NORM_RMS_PLUS_ONE ? 1.0f + gain[i] : gain[i];
    return bias ? v + bias[i] : v;
  }

  // What a norm has to know, by threads `t` of `step`, of which `over` joins what they have.
  template <class F> DEV void measure(double epsilon, int columns, int t, int step, F over) {
    auto add = [](double a, double b) { return a + b; };
    double sum = 0;
    if (norm == NORM_LAYER) {
      for (int i = t; i < columns; i += step) sum += before(i);
      mean = over(sum, add) / columns;
    }
    sum = 0;
    for (int i = t; i < columns; i += step) {
      double v = before(i) - mean;
      sum += v * v;
    }
    sum = over(sum, add);
    if (norm == NORM_LENGTH) factor = sum > 0 ? 1 / root(sum) : 0;
    else factor = 1 / root(sum / columns + epsilon);
  }
};

#define ROW                                                                                                            \
  const float *x, int stride, int kind, int with, const float *other, int otherStride, int norm, double epsilon,       \
      const float *gain, const float *bias, int columns
#define THIS_ROW row_of(x, stride, kind, with, other, otherStride, norm, epsilon, gain, bias, columns)

DEV Row row_of(ROW) {
  u64 at = BX;
  Row row{x + at * stride, other + at * otherStride, kind, with, gain, bias, norm, 0, 1};
  if (norm != NORM_NONE) row.measure(epsilon, columns, TID, 256, [](auto v, auto join) { return over_block(v, join); });
  return row;
}

KERNEL(256, 4) rows_float(ROW, float *y, int places) {
  Row row = THIS_ROW;
  for (int i = TID; i < columns; i += 256) y[(u64)BX * places + i] = row(i);
}

// Rows of `places`, even, filled up with zeros.
KERNEL(256, 4) rows_bfloat16(ROW, u32 *y, int places) {
  Row row = THIS_ROW;
  for (int i = 2 * TID; i < places; i += 512)
    y[((u64)BX * places + i) >> 1] = bf16x2(i < columns ? row(i) : 0, i + 1 < columns ? row(i + 1) : 0);
}

// As llv_quantize_row: scale = max |v| / 127 for each group, codes to the nearest, ties to even; every group filled up
// to `stripe` with zeros, the row to `places`. Scales and sums of codes are [groups, rows].
template <class F>
DEV void quantize_group(
    const Row &row, int first, int count, int stripe, u32 *codes, float *scale, int *sum, int t, int step, F over) {
  float most = 0;
  for (int i = t; i < count; i += step) most = largest(magnitude(row(first + i)), most);
  most = over(most, [](float a, float b) { return largest(a, b); });
  float unit = most / 127.0f, inverse = unit > 0 ? 127.0f / most : 0;
  int total = 0;
  for (int i = 4 * t; i < stripe; i += 4 * step) {
    u32 four = 0;
    for (int e = 0; e < 4 && i + e < count; e++) {
      int code = round_int(row(first + i + e) * inverse);
      total += code;
      four |= (u32)(code & 255) << 8 * e;
    }
    codes[i >> 2] = four;
  }
  total = over(total, [](int a, int b) { return a + b; });
  if (t == 0) *scale = unit, *sum = total;
}

KERNEL(256, 4) rows_int8(ROW, u32 *codes, int places, float *scales, int *sums, int rows, int group, int stripe) {
  Row row = THIS_ROW;
  int groups = (columns + group - 1) / group, t = TID;
  codes += (u64)BX * places >> 2;
  for (int i = (groups * stripe >> 2) + t; i < places >> 2; i += 256) codes[i] = 0;
  if (groups < 4) {
    for (int g = 0; g < groups; g++)
      quantize_group(row, g * group, columns - g * group < group ? columns - g * group : group, stripe,
          codes + (g * stripe >> 2), scales + (u64)g * rows + BX, sums + (u64)g * rows + BX, t, 256,
          [](auto v, auto join) { return over_block(v, join); });
    return;
  }
  // A warp for each group.
  for (int g = t >> 5; g < groups; g += 8)
    quantize_group(row, g * group, columns - g * group < group ? columns - g * group : group, stripe,
        codes + (g * stripe >> 2), scales + (u64)g * rows + BX, sums + (u64)g * rows + BX, t & 31, 32,
        [](auto v, auto join) { return over_warp(v, join); });
}

// Rows that are `heads` rows of `width` columns side by side, each with a norm of its own by one gain and bias. A warp
// for each head.
KERNEL(256, 4)
norm_heads(const float *x, int stride, int norm, double epsilon, const float *gain, const float *bias, int width,
    int heads, float *y) {
  u64 at = BX;
  for (int head = TID >> 5; head < heads; head += 8) {
    Row row{x + at * stride + head * width, nullptr, 0, 0, gain, bias, norm, 0, 1};
    row.measure(epsilon, width, TID & 31, 32, [](auto v, auto join) { return over_warp(v, join); });
    for (int i = TID & 31; i < width; i += 32) y[(at * heads + head) * width + i] = row(i);
  }
}

// Pairs of columns half a head apart, turned by the angles of the row's position: turns are [positions][cosines,
// sines].
KERNEL(256, 4)
rope(const float *x, int stride, const int *positions, const float *turns, int width, int columns, void *y, int places,
    int isBFloat16) {
  int row = BX, half = width >> 1;
  const float *from = x + (u64)row * stride, *turn = turns + (u64)positions[row] * width;
  for (int c = TID; c < columns >> 1; c += 256) {
    int i = c % half, at = c / half * width + i;
    float a = from[at], b = from[at + half], cosine = turn[i], sine = turn[half + i];
    float p = a * cosine - b * sine, q = b * cosine + a * sine;
    u64 to = (u64)row * places + at;
    if (isBFloat16) ((u16 *)y)[to] = (u16)bf16x2(p, 0), ((u16 *)y)[to + half] = (u16)bf16x2(q, 0);
    else ((float *)y)[to] = p, ((float *)y)[to + half] = q;
  }
}

// Pixels as bytes or floats, by channels: (x * factor, rounded, - mean) / deviation.
KERNEL(256, 4)
rescale(const void *x, int isBytes, int stride, double factor, const float *mean, const float *deviation, int channels,
    int columns, float *y) {
  u64 row = BX;
  int width = columns / channels;
  for (int i = TID; i < columns; i += 256) {
    float v = isBytes ? (float)((const u8 *)x)[row * stride + i] : ((const float *)x)[row * stride + i];
    int c = i / width;
    y[row * columns + i] = ((float)(v * factor) - mean[c]) / deviation[c];
  }
}
