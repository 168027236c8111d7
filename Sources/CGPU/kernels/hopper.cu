// The products of gemm.cu, weights with one scale a row or BF16, by Hopper's wgmma: compute 9.0 alone.
//
// A block makes 128 x 256 results, each of its two groups of four warps 64 x 256, out of shared memory. Slices of 128
// bytes a row, in the swizzle that the products expect, are copied STAGES - 2 ahead, while one slice's product is under
// way. `bytes` is a multiple of 128.
#define HOPPER
#include "epilogue.h"

constexpr int ROWS = 128, OUTPUTS = 256, SLICE = 128, STAGES = 4, STAGE = (ROWS + OUTPUTS) * SLICE;

DEV void load(u8 *to, const u8 *from, int first, int rows, int bytes, int at, int t, int count) {
  UNROLL
  for (int i = 0; i < count; i++) {
    int c = t + i * 256, r = c >> 3, chunk = c & 7, row = first + r;
    cp16(to + r * SLICE + ((chunk ^ (r & 7)) << 4), from + (u64)(row < rows ? row : 0) * bytes + at + chunk * 16,
        row < rows);
  }
}

DEV void load_slice(const u8 *x, const u8 *w, int m0, int m, int n0, int n, int bytes, int k, int t) {
  u8 *to = smem + k % STAGES * STAGE;
  load(to, x, m0, m, bytes, k * SLICE, t, ROWS * SLICE / 16 / 256);
  load(to + ROWS * SLICE, w, n0, n, bytes, k * SLICE, t, OUTPUTS * SLICE / 16 / 256);
}

template <class T, class F> DEV void products(const u8 *x, const u8 *w, int m, int n, int bytes, F result) {
  int t = TID, lane = t & 31, group = t >> 7, m0 = BY * ROWS, n0 = BX * OUTPUTS, slices = bytes / SLICE;
  T d[128];
  UNROLL
  for (int i = 0; i < 128; i++) d[i] = 0;
  UNROLL
  for (int s = 0; s < STAGES - 2; s++) {
    if (s < slices) load_slice(x, w, m0, m, n0, n, bytes, s, t);
    cp_commit();
  }
  for (int k = 0; k < slices; k++) {
    cp_wait<STAGES - 3>();
    fence_async();
    SYNC();
    const u8 *xs = smem + k % STAGES * STAGE, *ws = xs + ROWS * SLICE;
    wgmma_fence();
    UNROLL
    for (int part = 0; part < SLICE / 32; part++)
      wgmma(d, tile(xs + group * 64 * SLICE + part * 32), tile(ws + part * 32));
    wgmma_commit();
    // Into the slice whose product was waited for in the round before, by every thread that has passed this round's
    // SYNC.
    if (k + STAGES - 2 < slices) load_slice(x, w, m0, m, n0, n, bytes, k + STAGES - 2, t);
    cp_commit();
    wgmma_wait<1>();
  }
  wgmma_wait<0>();
  cp_wait<0>();
  SYNC();
  int row = group * 64 + (t >> 5 & 3) * 16 + (lane >> 2), column = (lane & 3) * 2;
  UNROLL
  for (int i = 0; i < 128; i++)
    ((T *)smem)[(row + (i >> 1 & 1) * 8) * (OUTPUTS + 4) + (i >> 2) * 8 + column + (i & 1)] = d[i];
  finish_tile<T, ROWS, OUTPUTS>(m0, m, n0, n, result);
}

// Arguments as those of gemm_int8, so that one launch serves both.
KERNEL(256, 1)
hopper_int8(const u8 *x, const u8 *w, float *y, int m, int n, int bytes, const float *xs, const int *sums,
    const float *ws, const float *zeros, int offset, int groups, int group, const float *bias, FOLLOWING) {
  products<int>(x, w, m, n, bytes, [&](int sum, int row, int column) {
    float v = add_group(Integers{xs, sums, ws, zeros, offset}, sum, 0, row, m, column, n, 0);
    if (bias) v += bias[column];
    y[(u64)row * n + column] = finish(STEPS, v, row, column);
  });
}

KERNEL(256, 1)
hopper_bfloat16(const u8 *x, const u8 *w, float *y, int m, int n, int bytes, const float *bias, FOLLOWING) {
  products<float>(x, w, m, n, bytes, [&](float sum, int row, int column) {
    y[(u64)row * n + column] = finish(STEPS, bias ? sum + bias[column] : sum, row, column);
  });
}
