#include "internal.h"

// Part of a row, for the last panel.
LLV_INLINE v16 load(const float *from, size_t n) {
  v16 row = 0;
  for (size_t j = 0; j < n; j++) row[j] = from[j];
  return row;
}

LLV_INLINE void finish_panel(float *result, size_t first, size_t rows, size_t column, const llv_output *out) {
  size_t n = out->n - column < LLV_PANEL ? out->n - column : LLV_PANEL;
  int whole = n == LLV_PANEL;
  v16 *row = (v16 *)result;
  if (out->bias) {
    const float *from = out->bias + column;
    v16 bias = whole ? *(const v16 *)from : load(from, n);
    for (size_t r = 0; r < rows; r++) row[r] += bias;
  }
  for (size_t i = 0; i < out->step_count; i++) {
    const llv_step *step = out->steps + i;
    const float *other = step->other + first * step->stride + column;
    if (step->kind == LLV_ADD)
      for (size_t r = 0; r < rows; r++, other += step->stride) row[r] += whole ? *(const v16 *)other : load(other, n);
    else if (step->kind == LLV_MULTIPLY)
      for (size_t r = 0; r < rows; r++, other += step->stride) row[r] *= whole ? *(const v16 *)other : load(other, n);
    else llv_activate(step->kind, result, rows * LLV_PANEL);
  }
  float *y = out->y + first * out->stride + column;
  for (size_t r = 0; r < rows; r++, y += out->stride) {
    if (whole) *(v16 *)y = row[r];
    else
      for (size_t j = 0; j < n; j++) y[j] = row[r][j];
  }
}

LLV_INLINE void llv_finish_body(
    float *result, size_t first, size_t rows, size_t column, size_t panels, const llv_output *out) {
  for (size_t p = 0; p < panels; p++)
    finish_panel(result + p * rows * LLV_PANEL, first, rows, column + p * LLV_PANEL, out);
}
LLV_DISPATCH(llv_finish,
             (float *result, size_t first, size_t rows, size_t column, size_t panels, const llv_output *out),
             (result, first, rows, column, panels, out))
