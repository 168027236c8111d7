#include "internal.h"

#include <string.h>

// Columns come in pairs, since the processor's instruction takes two at a time; a last one alone is paired with zeros.
size_t llv_bf16_places(size_t columns) { return (columns + 1) / 2 * 2; }

void llv_pack_panel_bf16(const void *rows, size_t outputs, size_t columns, void *panel) {
  const uint16_t *from = rows;
  uint16_t *to = panel;
  memset(panel, 0, llv_bf16_places(columns) * LLV_PANEL * 2);
  for (size_t first = 0; first < columns; first += 64) {
    size_t last = first + 64 < columns ? first + 64 : columns;
    for (size_t r = 0; r < outputs; r++)
      for (size_t i = first; i < last; i++) to[i / 2 * 2 * LLV_PANEL + 2 * r + i % 2] = from[r * columns + i];
  }
}

void llv_unpack_panel_bf16(const void *panel, size_t outputs, size_t columns, void *rows) {
  const uint16_t *from = panel;
  uint16_t *to = rows;
  for (size_t r = 0; r < outputs; r++)
    for (size_t i = 0; i < columns; i++) to[r * columns + i] = from[i / 2 * 2 * LLV_PANEL + 2 * r + i % 2];
}

// Nearest, ties to even; what is smaller than the smallest normal number becomes zero, as it does for the instruction.
LLV_INLINE uint32_t rounded_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  uint32_t magnitude = bits & 0x7FFFFFFF;
  uint32_t up = magnitude > 0x7F800000 ? bits | 0x400000 : bits + 0x7FFF + (bits >> 16 & 1);
  return magnitude < 0x00800000 ? (bits & 0x80000000) >> 16 : up >> 16;
}

int llv_takes_bf16(void) {
  return (llv_cpu_features() & (LLV_CPU_AVX512_BF16 | LLV_CPU_SLOW_BF16)) == LLV_CPU_AVX512_BF16;
}

size_t llv_bf16_row_bytes(size_t columns) { return llv_bf16_places(columns) * (llv_takes_bf16() ? 2 : 4); }

// Where not `widened`, as they are; else as floats, the second of each pair first.
LLV_INLINE void round_row_body(const float *x, size_t columns, int widened, void *target) {
  uint16_t *halves = target;
  uint32_t *words = target;
  for (size_t i = 0; i + 2 <= columns; i += 2) {
    uint32_t even = rounded_bf16(x[i]), odd = rounded_bf16(x[i + 1]);
    if (widened) words[i] = odd << 16, words[i + 1] = even << 16;
    else halves[i] = (uint16_t)even, halves[i + 1] = (uint16_t)odd;
  }
  if (columns % 2 == 0) return;
  uint32_t last = rounded_bf16(x[columns - 1]);
  if (widened) words[columns - 1] = 0, words[columns] = last << 16;
  else halves[columns - 1] = (uint16_t)last, halves[columns] = 0;
}
LLV_DISPATCH(
    round_row, (const float *x, size_t columns, int widened, void *target), (x, columns, widened, target))

void llv_round_row_bf16(const float *x, size_t columns, void *target) {
  round_row(x, columns, !llv_takes_bf16(), target);
}

// To columns [columns, LLV_PANEL]; where `swapped`, all pairs and the second of each first.
LLV_INLINE void llv_widen_panel_bf16_body(const void *panel, size_t columns, int swapped, float *target) {
  const w16 *pair = panel;
  w16 *to = (w16 *)target;
  for (size_t i = 0; i < columns; i += 2, pair++, to += 2) {
    w16 even = *pair << 16, odd = *pair & 0xFFFF0000u;
    if (swapped) to[0] = odd, to[1] = even;
    else {
      to[0] = even;
      if (i + 1 < columns) to[1] = odd;
    }
  }
}
LLV_DISPATCH(llv_widen_panel_bf16, (const void *panel, size_t columns, int swapped, float *target),
    (panel, columns, swapped, target))

size_t llv_bf16_working(size_t columns) { return llv_takes_bf16() ? 0 : llv_bf16_places(columns) * 2 * LLV_PANEL * 4; }

// By Float32: products of two bf16 are exact, so that fused multiply-adds in the instruction's order give its bits.
static void products_f32(
    const float *x, size_t m, size_t places, const uint16_t *panel, float *working, const llv_output *out) {
  size_t panels = out->n > LLV_PANEL ? 2 : 1, next = places * LLV_PANEL;
  for (size_t p = 0; p < panels; p++) llv_widen_panel_bf16(panel + p * next, places, 1, working + p * next);
  llv_gemm_f32(x, places, m, places, working, out);
}

#if defined(LLV_X86)
// Rows of x against `panels` panels, 1 or 2: each load of x serves both.
LLV_AVX512_BF16 LLV_INLINE void pairs_avx512_tile(
    const size_t rows, const size_t panels, const uint16_t *x, size_t places, const uint16_t *panel, float *y) {
  __m512 sum[2][12];
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) sum[0][r] = sum[1][r] = _mm512_setzero_ps();
  for (size_t i = 0; i < places; i += 2, panel += 2 * LLV_PANEL) {
    __m512i w0 = _mm512_loadu_si512(panel), w1 = panels > 1 ? _mm512_loadu_si512(panel + places * LLV_PANEL) : w0;
#pragma clang loop unroll(full)
    for (size_t r = 0; r < rows; r++) {
      int32_t pair;
      memcpy(&pair, x + r * places + i, 4);
      __m512i both = _mm512_set1_epi32(pair);
      sum[0][r] = _mm512_dpbf16_ps(sum[0][r], (__m512bh)both, (__m512bh)w0);
      if (panels > 1) sum[1][r] = _mm512_dpbf16_ps(sum[1][r], (__m512bh)both, (__m512bh)w1);
    }
  }
#pragma clang loop unroll(full)
  for (size_t r = 0; r < rows; r++) {
    _mm512_storeu_ps(y + r * LLV_PANEL, sum[0][r]);
    if (panels > 1) _mm512_storeu_ps(y + (rows + r) * LLV_PANEL, sum[1][r]);
  }
}

#define LLV_TILE(ROWS, PANELS)                                                                                         \
  {                                                                                                                    \
    pairs_avx512_tile(ROWS, PANELS, x + i * places, places, panel, result);                                            \
    llv_finish(result, i, ROWS, 0, PANELS, out);                                                                       \
  }
#define LLV_ONE(ROWS) LLV_TILE(ROWS, 1)
#define LLV_TWO(ROWS) LLV_TILE(ROWS, 2)

LLV_AVX512_BF16 static void products_avx512(
    const uint16_t *x, size_t m, size_t places, const uint16_t *panel, const llv_output *out) {
  LLV_ALIGNED float result[2 * 12 * LLV_PANEL];
  size_t i = 0;
  if (out->n > LLV_PANEL) {
    for (; i + 12 <= m; i += 12) LLV_TWO(12)
    LLV_REST(m - i, LLV_TWO)
  } else {
    for (; i + 12 <= m; i += 12) LLV_ONE(12)
    LLV_REST(m - i, LLV_ONE)
  }
}
#endif

void llv_gemm_bf16(const void *x, size_t m, size_t columns, const void *panel, void *working, const llv_output *out) {
  size_t places = llv_bf16_places(columns);
#if defined(LLV_X86)
  if (llv_takes_bf16()) return products_avx512(x, m, places, panel, out);
#endif
  products_f32(x, m, places, panel, working, out);
}
