// Vectors of bits: +1 where set, -1 where not.
#include "internal.h"

LLV_INLINE void llv_dot_bits_body(
    const uint64_t *x, size_t m, size_t words, size_t columns, const uint64_t *panel, float *y, size_t stride) {
  for (size_t r = 0; r < m; r++) {
    uint64_t differing[LLV_PANEL] = {0};
    for (size_t w = 0; w < words; w++)
      for (int i = 0; i < LLV_PANEL; i++)
        differing[i] += (uint64_t)__builtin_popcountll(x[r * words + w] ^ panel[w * LLV_PANEL + i]);
    for (int i = 0; i < LLV_PANEL; i++) y[r * stride + i] = (float)((int64_t)columns - 2 * (int64_t)differing[i]);
  }
}
LLV_DISPATCH(llv_dot_bits,
    (const uint64_t *x, size_t m, size_t words, size_t columns, const uint64_t *panel, float *y, size_t stride),
    (x, m, words, columns, panel, y, stride))
