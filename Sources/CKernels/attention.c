#include "exp.h"
#include "sight.h"

#include <string.h>

enum { KEYS = LLV_ATTENTION_KEYS, QUERIES = LLV_ATTENTION_QUERIES };

typedef struct { float most, factor; double sum; } running;

// Scores of one row to weights relative to the largest score so far; weights of keys that are not seen are 0. Lanes
// that are added in one fixed order, so that no instruction set changes a bit.
LLV_INLINE void llv_weigh_body(float *scores, size_t seen, size_t keys, running *state) {
  enum { LANES = 16 };
  float lane[LANES], most = state->most;
  for (int j = 0; j < LANES; j++) lane[j] = -INFINITY;
  size_t i = 0;
  for (; i + LANES <= seen; i += LANES)
    for (int j = 0; j < LANES; j++) lane[j] = scores[i + j] > lane[j] ? scores[i + j] : lane[j];
  for (; i < seen; i++) most = scores[i] > most ? scores[i] : most;
  for (int j = 0; j < LANES; j++) {
    most = lane[j] > most ? lane[j] : most;
    lane[j] = 0;
  }
  for (i = 0; i + LANES <= seen; i += LANES)
    for (int j = 0; j < LANES; j++) {
      scores[i + j] = exp_fast(scores[i + j] - most);
      lane[j] += scores[i + j];
    }
  for (int j = 0; i < seen; i++, j++) {
    scores[i] = exp_fast(scores[i] - most);
    lane[j] += scores[i];
  }
  for (i = seen; i < keys; i++) scores[i] = 0;
  double sum = 0;
  for (int j = 0; j < LANES; j++) sum += lane[j];
  state->factor = state->most == most ? 1 : exp_fast(state->most - most);
  state->most = most;
  state->sum = state->sum * state->factor + sum;
}
LLV_DISPATCH(llv_weigh, (float *scores, size_t seen, size_t keys, running *state), (scores, seen, keys, state))

LLV_INLINE void llv_scale_row_body(const float *x, size_t count, float factor, float *y) {
  for (size_t i = 0; i < count; i++) y[i] = x[i] * factor;
}
LLV_DISPATCH(llv_scale_row, (const float *x, size_t count, float factor, float *y), (x, count, factor, y))

LLV_INLINE void llv_add_row_body(const float *x, size_t count, float *y) {
  for (size_t i = 0; i < count; i++) y[i] += x[i];
}
LLV_DISPATCH(llv_add_row, (const float *x, size_t count, float *y), (x, count, y))

// Rows of x against panels of `outputs` outputs that lie `next` floats apart.
static void products(const float *x, size_t stride, size_t m, size_t columns, const float *panels, size_t next,
    size_t outputs, int adds, float *y, size_t y_stride) {
  size_t i = 0;
  for (; i + LLV_PANEL < outputs; i += 2 * LLV_PANEL, panels += 2 * next)
    llv_two_products_f32(x, stride, m, columns, panels, next, adds, y + i, y_stride, LLV_PANEL);
  if (i < outputs) llv_products_f32(x, stride, m, columns, panels, adds, y + i, y_stride);
}

size_t llv_attention_scratch(size_t d) { return QUERIES * (KEYS + d + (d + LLV_PANEL - 1) / LLV_PANEL * LLV_PANEL); }

void llv_attention(const llv_attention_keys *parts, size_t part_count, const float *q, size_t stride, size_t m,
    size_t d, float scale, llv_sight sight, float *scratch, float *y, size_t y_stride) {
  size_t width = (d + LLV_PANEL - 1) / LLV_PANEL * LLV_PANEL;
  float *scores = scratch, *total = scores + QUERIES * KEYS,
        *scaled = total + QUERIES * width;  // [m, KEYS], [m, width], [m, d]
  running state[QUERIES];
  for (size_t r = 0; r < m; r++) {
    state[r] = (running){-INFINITY, 1, 0};
    llv_scale_row(q + r * stride, d, scale, scaled + r * d);
  }
  for (size_t i = 0; i < m * width; i++) total[i] = 0;
  for (size_t part = 0, base = 0; part < part_count; base += parts[part].count, part++) {
    const llv_attention_keys *k = parts + part;
    size_t start = llv_seen(&sight, 0, base, k->count).from / KEYS * KEYS,
           last = llv_seen(&sight, m - 1, base, k->count).to;
    for (size_t first = start; first < last; first += KEYS) {
      size_t keys = last - first < KEYS ? last - first : KEYS;
      products(scaled, d, m, d, k->keys + first * d, d * LLV_PANEL, keys, 0, scores, KEYS);
      for (size_t r = 0; r < m; r++) {
        llv_range seen = llv_in_block(llv_seen(&sight, r, base, k->count), first, keys);
        float *row = scores + r * KEYS;
        if (sight.bias)
          llv_add_row(sight.bias + (ptrdiff_t)(base + first) - (ptrdiff_t)(sight.at + r) + seen.from,
              seen.to - seen.from, row + seen.from);
        memset(row, 0, seen.from * sizeof *row);
        llv_weigh(row + seen.from, seen.to - seen.from, keys - seen.from, state + r);
        if (state[r].factor != 1) llv_scale_row(total + r * width, width, state[r].factor, total + r * width);
      }
      products(scores, KEYS, m, keys, k->values + first * LLV_PANEL, k->count * LLV_PANEL, width, 1, total, width);
    }
  }
  for (size_t r = 0; r < m; r++) llv_scale_row(total + r * width, d, (float)(1 / state[r].sum), y + r * y_stride);
}
