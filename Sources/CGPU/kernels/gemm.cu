// y[m, n] = steps(Σ_k x[m, k] w[n, k] + bias[n]) by mma.sync, for compute 8.0 and later.
//
// x and w lie row by row in bytes, `bytes` a row, a multiple of 64, filled up with zeros; int8 or BF16. A block makes
// 128 x 128 results, its eight warps (2 x 4) 64 x 32 each, from slices of 64 bytes that are copied STAGES - 1 ahead.
// Chunks of 16 bytes change places within a row of shared memory (`place`), so that no two rows that ldmatrix reads
// together lie in the same banks.
#include "epilogue.h"

constexpr int ROWS = 128, SLICE = 64, STAGES = 4, STAGE = 2 * ROWS * SLICE;

DEV int place(int row, int chunk) { return row * SLICE + ((chunk ^ ((row >> 1) & 3)) << 4); }

DEV void load(u8 *to, const u8 *from, int first, int rows, int bytes, int at, int t) {
  UNROLL
  for (int i = 0; i < ROWS * (SLICE / 16) / 256; i++) {
    int c = t + i * 256, r = c >> 2, chunk = c & 3, row = first + r;
    cp16(to + place(r, chunk), from + (u64)(row < rows ? row : 0) * bytes + at + chunk * 16, row < rows);
  }
}

// What a result is when all slices are added.
template <class T, bool GROUPS> struct Staged { typedef T type; };
template <class T> struct Staged<T, true> { typedef float type; };

template <class T, bool GROUPS> struct Gemm {
  // Calls body(i, j, e, row, column) for every result of this thread.
  template <class F> static DEV void each(int m0, int n0, int m, int n, F body) {
    int lane = TID & 31, warp = TID >> 5;
    int row = m0 + (warp & 1) * 64 + (lane >> 2), column = n0 + (warp >> 1) * 32 + (lane & 3) * 2;
    UNROLL
    for (int i = 0; i < 4; i++) {
      UNROLL
      for (int j = 0; j < 4; j++) {
        UNROLL
        for (int e = 0; e < 4; e++) {
          int r = row + i * 16 + (e >> 1) * 8, c = column + j * 8 + (e & 1);
          if (r < m && c < n) body(i, j, e, r, c);
        }
      }
    }
  }

  // - group: bytes that share a scale, a multiple of 32; behind the last of `groups` there are zeros.
  static DEV void run(const u8 *x, const u8 *w, float *y, int m, int n, int bytes, const Integers &q, int groups,
      int group, const float *bias, const Steps &steps) {
    int t = TID, lane = t & 31, warp = t >> 5, wm = (warp & 1) * 64, wn = (warp >> 1) * 32;
    int m0 = BY * ROWS, n0 = BX * ROWS, slices = bytes / SLICE;
    T sum[4][4][4];
    float total[4][4][4];
    UNROLL
    for (int i = 0; i < 64; i++) sum[i >> 4][i >> 2 & 3][i & 3] = 0;
    if (GROUPS) {
      UNROLL
      for (int i = 0; i < 64; i++) total[i >> 4][i >> 2 & 3][i & 3] = 0;
    }
    int g = 0, left = group;
    UNROLL
    for (int s = 0; s < STAGES - 1; s++) {
      if (s < slices) {
        load(smem + s * STAGE, x, m0, m, bytes, s * SLICE, t);
        load(smem + s * STAGE + ROWS * SLICE, w, n0, n, bytes, s * SLICE, t);
      }
      cp_commit();
    }
    for (int k = 0; k < slices; k++) {
      cp_wait<STAGES - 2>();
      SYNC();
      int next = k + STAGES - 1;
      if (next < slices) {
        u8 *to = smem + next % STAGES * STAGE;
        load(to, x, m0, m, bytes, next * SLICE, t);
        load(to + ROWS * SLICE, w, n0, n, bytes, next * SLICE, t);
      }
      cp_commit();
      const u8 *xs = smem + k % STAGES * STAGE, *ws = xs + ROWS * SLICE;
      UNROLL
      for (int part = 0; part < SLICE / 32; part++) {
        u32 a[4][4], b[2][4];
        UNROLL
        for (int i = 0; i < 4; i++) ldsm4(a[i], xs + place(wm + i * 16 + (lane & 15), part * 2 + (lane >> 4)));
        UNROLL
        for (int j = 0; j < 2; j++)
          ldsm4(b[j], ws + place(wn + j * 16 + (lane & 7) + (lane >> 4 << 3), part * 2 + (lane >> 3 & 1)));
        UNROLL
        for (int i = 0; i < 4; i++) {
          UNROLL
          for (int j = 0; j < 4; j++) mma(sum[i][j], a[i], b[j >> 1][(j & 1) * 2], b[j >> 1][(j & 1) * 2 + 1]);
        }
        if (GROUPS && (left -= 32) == 0 && g < groups) {
          each(m0, n0, m, n, [&](int i, int j, int e, int r, int c) {
            total[i][j][e] = add_group(q, (int)sum[i][j][e], g, r, m, c, n, total[i][j][e]);
            sum[i][j][e] = 0;
          });
          g++;
          left = group;
        }
      }
    }
    // Through the memory that slices were in.
    cp_wait<0>();
    SYNC();
    typedef typename Staged<T, GROUPS>::type S;
    each(0, 0, ROWS, ROWS, [&](int i, int j, int e, int r, int c) {
      if (GROUPS) ((float *)smem)[r * (ROWS + 4) + c] = total[i][j][e];
      else ((T *)smem)[r * (ROWS + 4) + c] = sum[i][j][e];
    });
    finish_tile<S, ROWS, ROWS>(m0, m, n0, n, [&](S staged, int r, int c) {
      float v = !GROUPS && q.xs ? add_group(q, (int)staged, 0, r, m, c, n, 0) : (float)staged;
      if (bias) v += bias[c];
      y[(u64)r * n + c] = finish(steps, v, r, c);
    });
  }
};

KERNEL(256, 1) gemm_int8(const u8 *x, const u8 *w, float *y, int m, int n, int bytes, const float *xs, const int *sums,
                         const float *ws, const float *zeros, int offset, int groups, int group, const float *bias,
                         FOLLOWING) {
  Gemm<int, false>::run(x, w, y, m, n, bytes, Integers{xs, sums, ws, zeros, offset}, groups, group, bias, STEPS);
}

KERNEL(256, 1)
gemm_int8_groups(const u8 *x, const u8 *w, float *y, int m, int n, int bytes, const float *xs, const int *sums,
    const float *ws, const float *zeros, int offset, int groups, int group, const float *bias, FOLLOWING) {
  Gemm<int, true>::run(x, w, y, m, n, bytes, Integers{xs, sums, ws, zeros, offset}, groups, group, bias, STEPS);
}

KERNEL(256, 1)
gemm_bfloat16(const u8 *x, const u8 *w, float *y, int m, int n, int bytes, const float *bias, FOLLOWING) {
  Gemm<float, false>::run(x, w, y, m, n, bytes, Integers{nullptr, nullptr, nullptr, nullptr, 0}, 0, 0, bias, STEPS);
}
