#include "internal.h"

#include <math.h>
#include <string.h>

LLV_INLINE void llv_pack_panel_f32_body(
    const float *rows, size_t stride, size_t outputs, size_t columns, float *panel) {
  // Blocks of columns, so that what is read and what is written stay in the cache.
  for (size_t first = 0; first < columns; first += 64) {
    size_t last = first + 64 < columns ? first + 64 : columns;
    for (size_t r = 0; r < LLV_PANEL; r++)
      for (size_t i = first; i < last; i++) panel[i * LLV_PANEL + r] = r < outputs ? rows[r * stride + i] : 0;
  }
}
LLV_DISPATCH(llv_pack_panel_f32, (const float *rows, size_t stride, size_t outputs, size_t columns, float *panel),
             (rows, stride, outputs, columns, panel))

LLV_INLINE void llv_transpose_body(const float *x, size_t stride, size_t rows, size_t columns, float *y) {
  enum { SIDE = 16 };
  size_t whole = columns / SIDE * SIDE, row = 0;
  for (; row + SIDE <= rows; row += SIDE)
    for (size_t first = 0; first < whole; first += SIDE) {
      // Squares that fit in the nearest cache, however far apart rows are.
      LLV_ALIGNED float square[SIDE][SIDE];
      for (size_t r = 0; r < SIDE; r++) memcpy(square[r], x + (row + r) * stride + first, sizeof square[r]);
      for (size_t c = 0; c < SIDE; c++)
        for (size_t r = 0; r < SIDE; r++) y[(first + c) * rows + row + r] = square[r][c];
    }
  for (size_t r = 0; r < rows; r++)
    for (size_t c = r < row ? whole : 0; c < columns; c++) y[c * rows + r] = x[r * stride + c];
}
LLV_DISPATCH(llv_transpose, (const float *x, size_t stride, size_t rows, size_t columns, float *y),
             (x, stride, rows, columns, y))

void llv_pack_panel_16(const void *rows, size_t outputs, size_t columns, void *panel) {
  const uint16_t *from = rows;
  uint16_t *to = panel;
  for (size_t first = 0; first < columns; first += 64) {
    size_t last = first + 64 < columns ? first + 64 : columns;
    for (size_t r = 0; r < LLV_PANEL; r++)
      for (size_t i = first; i < last; i++) to[i * LLV_PANEL + r] = r < outputs ? from[r * columns + i] : 0;
  }
}

// Rows of x against the outputs of a panel, sums in registers: each load of the panel serves all rows. What every
// instruction set computes: products added in the order of the columns, each with one rounding, to nothing or to what
// is in y.
LLV_INLINE void tile(const size_t rows, const float *x, size_t stride, const float *panel, size_t columns, int adds,
    float *y, size_t y_stride) {
  v16 sum[12];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    sum[r] = 0;
    if (adds) sum[r] = *(const v16 *)(y + r * y_stride);
  }
  for (size_t i = 0; i < columns; i++, panel += LLV_PANEL) {
    v16 w = *(const v16 *)panel;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) sum[r] = __builtin_elementwise_fma((v16)x[r * stride + i], w, sum[r]);
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) *(v16 *)(y + r * y_stride) = sum[r];
}

#define LLV_ROWS(NAME, TARGET, MOST)                                                                                   \
  TARGET static void NAME(const float *x, size_t stride, size_t m, size_t columns, const float *panel, int adds,       \
      float *y, size_t y_stride) {                                                                                     \
    size_t i = 0;                                                                                                      \
    for (; i + MOST <= m; i += MOST)                                                                                   \
      tile(MOST, x + i * stride, stride, panel, columns, adds, y + i * y_stride, y_stride);                            \
    for (; i + 3 <= m; i += 3) tile(3, x + i * stride, stride, panel, columns, adds, y + i * y_stride, y_stride);      \
    for (; i < m; i++) tile(1, x + i * stride, stride, panel, columns, adds, y + i * y_stride, y_stride);              \
  }

#if defined(LLV_X86)
LLV_ROWS(rows_avx2, LLV_AVX2, 6)
LLV_ROWS(rows_avx512, LLV_AVX512, 12)
#endif
LLV_ROWS(rows_plain, , 6)

void llv_products_f32(const float *x, size_t stride, size_t m, size_t columns, const float *panel, int adds, float *y,
                      size_t y_stride) {
#if defined(LLV_X86)
  unsigned features = llv_cpu_features();
  if (features & LLV_CPU_AVX512) return rows_avx512(x, stride, m, columns, panel, adds, y, y_stride);
  if (features & LLV_CPU_AVX2) return rows_avx2(x, stride, m, columns, panel, adds, y, y_stride);
#endif
  rows_plain(x, stride, m, columns, panel, adds, y, y_stride);
}

#if defined(LLV_X86)
// The same of two panels, where there are registers for both: each load of x then serves two products, and loads are
// no longer what bounds them.
LLV_AVX512 LLV_INLINE void tile_of_two(const size_t rows, const float *x, size_t stride, const float *panel,
    size_t next, size_t columns, int adds, float *y, size_t y_stride, size_t y_next) {
  enum { AHEAD = 8 };  // columns: two panels and rows of x are more than the nearest cache holds
  v16 sum[12][2];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    sum[r][0] = sum[r][1] = 0;
    if (adds) sum[r][0] = *(const v16 *)(y + r * y_stride), sum[r][1] = *(const v16 *)(y + r * y_stride + y_next);
  }
  for (size_t i = 0; i < columns; i++, panel += LLV_PANEL) {
    v16 w0 = *(const v16 *)panel, w1 = *(const v16 *)(panel + next);
    __builtin_prefetch(panel + AHEAD * LLV_PANEL);
    __builtin_prefetch(panel + next + AHEAD * LLV_PANEL);
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      v16 value = x[r * stride + i];
      sum[r][0] = __builtin_elementwise_fma(value, w0, sum[r][0]);
      sum[r][1] = __builtin_elementwise_fma(value, w1, sum[r][1]);
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++)
    *(v16 *)(y + r * y_stride) = sum[r][0], *(v16 *)(y + r * y_stride + y_next) = sum[r][1];
}

#define LLV_TWO(ROWS)                                                                                                  \
  tile_of_two(ROWS, x + i * stride, stride, panel, next, columns, adds, y + i * y_stride, y_stride, y_next);

LLV_AVX512 static void rows_of_two(const float *x, size_t stride, size_t m, size_t columns, const float *panel,
    size_t next, int adds, float *y, size_t y_stride, size_t y_next) {
  size_t i = 0;
  for (; i + 12 <= m; i += 12) LLV_TWO(12)
  LLV_REST(m - i, LLV_TWO)
}
#endif

void llv_two_products_f32(const float *x, size_t stride, size_t m, size_t columns, const float *panel, size_t next,
    int adds, float *y, size_t y_stride, size_t y_next) {
#if defined(LLV_X86)
  if (llv_cpu_has(LLV_CPU_AVX512))
    return rows_of_two(x, stride, m, columns, panel, next, adds, y, y_stride, y_next);
#endif
  llv_products_f32(x, stride, m, columns, panel, adds, y, y_stride);
  llv_products_f32(x, stride, m, columns, panel + next, adds, y + y_next, y_stride);
}

// Rows whose results stay in the nearest cache until they are finished; of two panels one tile, as what `llv_foresee`
// asks for comes while a tile is computed.
enum { ROWS = 48, ROWS_OF_TWO = 12 };

void llv_gemm_f32(const float *x, size_t stride, size_t m, size_t columns, const float *panel, const llv_output *out) {
  LLV_ALIGNED float result[ROWS * LLV_PANEL];
  size_t panels = out->n > LLV_PANEL ? 2 : 1, step = panels == 2 ? ROWS_OF_TWO : ROWS;
  for (size_t i = 0; i < m; i += step) {
    size_t rows = m - i < step ? m - i : step;
    if (panels == 2) {
      llv_foresee(i, rows, out);
      llv_two_products_f32(
          x + i * stride, stride, rows, columns, panel, columns * LLV_PANEL, 0, result, LLV_PANEL, rows * LLV_PANEL);
    } else {
      llv_products_f32(x + i * stride, stride, rows, columns, panel, 0, result, LLV_PANEL);
    }
    llv_finish(result, i, rows, 0, panels, out);
  }
}
