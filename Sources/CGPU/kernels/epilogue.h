// What follows a product while its results are in registers.
#pragma once
#include "activation.h"

// Up to three steps after a product, the first in the low byte of `kinds`; a sum or product with `other`, rows `stride`
// apart.
struct Steps {
  u32 kinds;
  const float *other[3];
  int stride[3];
};

DEV float finish(const Steps &steps, float v, int row, int column) {
  UNROLL
  for (int i = 0; i < 3; i++) {
    int kind = steps.kinds >> 8 * i & 255;
    if (kind == STEP_ADD) v += steps.other[i][(u64)row * steps.stride[i] + column];
    else if (kind == STEP_MULTIPLY) v *= steps.other[i][(u64)row * steps.stride[i] + column];
    else if (kind) v = activate(kind, v);
  }
  return v;
}

// The last arguments of a product, and the steps that they name.
#define STEPS \
  Steps { kinds, {o0, o1, o2}, { s0, s1, s2 } }
#define FOLLOWING u32 kinds, const float *o0, int s0, const float *o1, int s1, const float *o2, int s2

// What turns sums of products of codes into numbers. Scales and sums of x are [groups, m], scales and zeros of w
// [groups, n].
struct Integers {
  const float *xs;
  const int *sums;
  const float *ws, *zeros;
  int offset;
};

// As CKernels/gemm_int8.c: the exact sum as Float32 times the product of the scales, then zero times the scaled sum of
// x, both fused with their sums.
DEV float add_group(const Integers &q, int sum, int g, int row, int rows, int column, int columns, float total) {
  float xs = q.xs[(u64)g * rows + row];
  u64 w = (u64)g * columns + column;
  if (q.zeros) {
    int x = q.sums[(u64)g * rows + row];
    total = fused((float)(sum + q.offset * x), xs * q.ws[w], total);
    return fused(q.zeros[w], (float)x * xs, total);
  }
  return fused((float)sum, xs * q.ws[w], total);
}

// Results go through shared memory, a row of them `WIDTH` + 4 apart so that no two threads write the same bank, and are
// finished row by row: a loop that is small, and memory that is read and written in a row. Every thread puts its
// results there, then all call this.
template <class T, int ROWS, int WIDTH, class F>
DEV void finish_tile(int row, int rows, int column, int columns, F result) {
  constexpr int STRIDE = WIDTH + 4;
  SYNC();
  int c = TID % WIDTH;
  if (column + c >= columns) return;
  _Pragma("nounroll")
  for (int r = TID / WIDTH; r < ROWS && row + r < rows; r += 256 / WIDTH)
    result(((const T *)smem)[r * STRIDE + c], row + r, column + c);
}
