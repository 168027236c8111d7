#include "internal.h"

LLV_INLINE void store_body(const float *result, size_t first, size_t rows, const llv_output *out) {
  for (size_t r = 0; r < rows; r++, result += LLV_PANEL)
    for (size_t j = 0; j < out->n; j++) out->y[(first + r) * out->stride + j] = result[j];
}
LLV_INLINE void bias_body(float *result, const float *bias, size_t rows, size_t n) {
  for (size_t r = 0; r < rows; r++)
    for (size_t j = 0; j < n; j++) result[r * LLV_PANEL + j] += bias[j];
}
LLV_INLINE void combine_body(float *result, const llv_step *step, size_t first, size_t rows, size_t n) {
  for (size_t r = 0; r < rows; r++, result += LLV_PANEL) {
    const float *other = step->other + (first + r) * step->stride;
    if (step->kind == LLV_ADD)
      for (size_t j = 0; j < n; j++) result[j] += other[j];
    else
      for (size_t j = 0; j < n; j++) result[j] *= other[j];
  }
}

LLV_INLINE void llv_finish_body(float *result, size_t first, size_t rows, const llv_output *out) {
  // A whole panel is worth a loop of fixed length.
  size_t n = out->n;
  if (out->bias && n == LLV_PANEL) bias_body(result, out->bias, rows, LLV_PANEL);
  else if (out->bias) bias_body(result, out->bias, rows, n);
  for (size_t i = 0; i < out->step_count; i++) {
    const llv_step *step = out->steps + i;
    if (step->kind != LLV_ADD && step->kind != LLV_MULTIPLY) llv_activate(step->kind, result, rows * LLV_PANEL);
    else if (n == LLV_PANEL) combine_body(result, step, first, rows, LLV_PANEL);
    else combine_body(result, step, first, rows, n);
  }
  if (n == LLV_PANEL)
    for (size_t r = 0; r < rows; r++)
      for (size_t j = 0; j < LLV_PANEL; j++) out->y[(first + r) * out->stride + j] = result[r * LLV_PANEL + j];
  else store_body(result, first, rows, out);
}
LLV_DISPATCH(llv_finish, (float *result, size_t first, size_t rows, const llv_output *out), (result, first, rows, out))
