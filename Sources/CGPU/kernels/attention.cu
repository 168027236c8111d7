// softmax(scale · q kᵀ) v within each sequence and head, block by block of keys with a running softmax (Dao 2022, arXiv
// 2205.14135; Milakov and Gimelshein 2018, arXiv 1805.02867): scores are never in memory.
#include "span.h"

// Scores of keys that a row does not see, and what its largest score starts from: larger, so that a row that sees
// nothing of a tile gives it weights of 0.
constexpr float UNSEEN = -1e30f, LOWEST = -1e29f;

// Of a head's biases by distance, the one of distance 0; null where there are none. biases: [heads, 2 farthest + 1],
// times log2 e.
DEV const float *biases_of(const float *biases, int farthest, int head) {
  return biases ? biases + (u64)head * (2 * farthest + 1) + farthest : nullptr;
}

// BF16 in, Float32 out. Each of four warps owns 16 queries; tiles of 64 keys. Heads are filled up to a multiple of 16
// columns in shared memory alone; rows there are 16 bytes longer, so that no two rows that are read together lie in the
// same banks.
template <int D> struct Flash {
  static constexpr int WIDE = (D + 15) / 16 * 16, ROW = WIDE * 2 + 16, TILE = 64 * ROW;
  // Queries stay in registers where results leave room for them.
  static constexpr bool KEPT = D <= 128;

  template <class F> static DEV void load(u8 *to, const u16 *from, int stride, F row) {
    for (int c = TID; c < 64 * (WIDE / 8); c += 128) {
      int r = c / (WIDE / 8), chunk = c % (WIDE / 8), source = row(r);
      bool live = source >= 0 && chunk * 8 < D;
      cp16(to + r * ROW + chunk * 16, from + (live ? (u64)source * stride + chunk * 8 : 0), live);
    }
  }

  static DEV void run(const Span *spans, const u16 *q, const u16 *k, const u16 *v, float *y, int qs, int ks, int vs,
      int ys, int group, float scale, const float *biases, int farthest) {
    Span span = spans[BX];
    int t = TID, lane = t & 31, warp = t >> 5, head = BY, keys = span.to(span.count - 1);
    int start = span.from(0) / 64, tiles = (keys + 63) / 64;
    u8 *queries = smem, *keyTile = smem + TILE, *valueTile = smem + 2 * TILE;
    q += head * D, k += head / group * D, v += head / group * D, y += head * D,
        biases = biases_of(biases, farthest, head);
    auto key = [&](int b) { return [=](int r) { return b * 64 + r < keys ? span.row(b * 64 + r) : -1; }; };
    load(queries, q, qs, [=](int r) { return r < span.count ? span.query + r : -1; });
    load(keyTile, k, ks, key(start));
    cp_commit();
    float out[WIDE / 8][4], most[2] = {LOWEST, LOWEST}, sum[2] = {0, 0};
    UNROLL
    for (int i = 0; i < WIDE / 2; i++) out[i >> 2][i & 3] = 0;
    u32 query[KEPT ? WIDE / 16 : 1][4];
    auto load_query = [&](int i) {
      ldsm4(query[KEPT ? i : 0], queries + (warp * 16 + (lane & 15)) * ROW + (i * 2 + (lane >> 4)) * 16);
    };
    // Scores with a bias are in the unit that 2^x wants, others not yet.
    float unit = biases ? 1 : scale;
    for (int b = start; b < tiles; b++) {
      load(valueTile, v, vs, key(b));
      cp_commit();
      cp_wait<1>();
      SYNC();
      if (KEPT && b == start) {
        UNROLL
        for (int i = 0; i < WIDE / 16; i++) load_query(i);
      }
      float s[8][4];
      UNROLL
      for (int i = 0; i < 32; i++) s[i >> 2][i & 3] = 0;
      UNROLL
      for (int i = 0; i < WIDE / 16; i++) {
        if (!KEPT) load_query(i);
        UNROLL
        for (int j = 0; j < 4; j++) {
          u32 f[4];
          ldsm4(f, keyTile + (j * 16 + (lane & 7) + (lane >> 4 << 3)) * ROW + (i * 2 + (lane >> 3 & 1)) * 16);
          mma(s[2 * j], query[KEPT ? i : 0], f[0], f[1]);
          mma(s[2 * j + 1], query[KEPT ? i : 0], f[2], f[3]);
        }
      }
      SYNC();
      if (b + 1 < tiles) load(keyTile, k, ks, key(b + 1));
      cp_commit();
      if (biases || (b + 1) * 64 > span.to(0) || b * 64 < span.from(span.count - 1)) {
        UNROLL
        for (int i = 0; i < 32; i++) {
          int column = b * 64 + (i >> 2) * 8 + (lane & 3) * 2 + (i & 1),
              row = warp * 16 + (lane >> 2) + (i >> 1 & 1) * 8;
          float &score = s[i >> 2][i & 3];
          if (row >= span.count || column < span.from(row) || column >= span.to(row)) score = UNSEEN;
          else if (biases) score = fused(score, scale, biases[column - span.at(row)]);
        }
      }
      u32 weights[4][4];
      UNROLL
      for (int h = 0; h < 2; h++) {
        float m = most[h];
        UNROLL
        for (int j = 0; j < 8; j++) m = largest(m, largest(s[j][2 * h], s[j][2 * h + 1]));
        m = largest(m, shfl_xor(m, 1));
        m = largest(m, shfl_xor(m, 2));
        float shrunk = exp2_fast((most[h] - m) * unit), added = 0;
        most[h] = m;
        UNROLL
        for (int j = 0; j < 8; j++) {
          float a = exp2_fast((s[j][2 * h] - m) * unit), b = exp2_fast((s[j][2 * h + 1] - m) * unit);
          added += a + b;
          weights[j >> 1][(j & 1) * 2 + h] = bf16x2(a, b);
        }
        sum[h] = sum[h] * shrunk + added;
        UNROLL
        for (int j = 0; j < WIDE / 8; j++) out[j][2 * h] *= shrunk, out[j][2 * h + 1] *= shrunk;
      }
      cp_wait<1>();
      SYNC();
      UNROLL
      for (int i = 0; i < 4; i++) {
        UNROLL
        for (int j = 0; j < WIDE / 16; j++) {
          u32 f[4];
          ldsm4t(f, valueTile + (i * 16 + (lane & 15)) * ROW + (j * 2 + (lane >> 4)) * 16);
          mma(out[2 * j], weights[i], f[0], f[1]);
          mma(out[2 * j + 1], weights[i], f[2], f[3]);
        }
      }
      SYNC();
    }
    UNROLL
    for (int h = 0; h < 2; h++) {
      sum[h] += shfl_xor(sum[h], 1);
      sum[h] += shfl_xor(sum[h], 2);
      int row = warp * 16 + (lane >> 2) + h * 8;
      if (row >= span.count) continue;
      float *to = y + (u64)(span.result + row) * ys;
      UNROLL
      for (int j = 0; j < D / 8; j++) {
        to[j * 8 + (lane & 3) * 2] = out[j][2 * h] / sum[h];
        to[j * 8 + (lane & 3) * 2 + 1] = out[j][2 * h + 1] / sum[h];
      }
    }
  }
};

// A block for each span and head. - scale: times log2 e. - group: query heads that share keys and values.
#define FLASH(D)                                                                                                       \
  KERNEL(128, 2)                                                                                                       \
  attention_##D(const Span *spans, const u16 *q, const u16 *k, const u16 *v, float *y, int qs, int ks, int vs, int ys, \
      int group, float scale, const float *biases, int farthest) {                                                     \
    Flash<D>::run(spans, q, k, v, y, qs, ks, vs, ys, group, scale, biases, farthest);                                  \
  }
FLASH(32)
FLASH(64)
FLASH(72)
FLASH(128)
FLASH(256)

// The same in Float32 for heads of any width up to 512, one query a span: 128 keys at a time, a thread each, then a
// thread for each column.
KERNEL(128, 4)
attention_any(const Span *spans, const float *q, const float *k, const float *v, float *y, int qs, int ks, int vs,
    int ys, int group, float scale, int width, const float *biases, int farthest) {
  Span span = spans[BX];
  int t = TID, head = BY, keys = span.to(0);
  float *scores = (float *)smem, *joined = scores + 128, *query = joined + 4;
  q += (u64)span.query * qs + head * width, k += head / group * width, v += head / group * width;
  biases = biases_of(biases, farthest, head);
  for (int i = t; i < width; i += 128) query[i] = q[i] * scale;
  float out[4] = {0, 0, 0, 0}, most = LOWEST, sum = 0;
  for (int first = span.from(0); first < keys; first += 128) {
    SYNC();
    int count = keys - first < 128 ? keys - first : 128;
    float s = UNSEEN;
    if (t < count) {
      const float *row = k + (u64)span.row(first + t) * ks;
      s = 0;
      for (int i = 0; i < width; i++) s = fused(query[i], row[i], s);
      if (biases) s += biases[first + t - span.at(0)];
    }
    float m = s;
    for (int mask = 16; mask; mask >>= 1) m = largest(m, shfl_xor(m, mask));
    if ((t & 31) == 0) joined[t >> 5] = m;
    SYNC();
    m = most;
    for (int i = 0; i < 4; i++) m = largest(m, joined[i]);
    scores[t] = t < count ? exp2_fast(s - m) : 0;
    SYNC();
    float shrunk = exp2_fast(most - m);
    most = m;
    sum *= shrunk;
    for (int i = 0; i < count; i++) sum += scores[i];
    for (int j = 0; j < 4; j++) {
      int column = t + j * 128;
      if (column >= width) continue;
      out[j] *= shrunk;
      for (int i = 0; i < count; i++) out[j] = fused(scores[i], v[(u64)span.row(first + i) * vs + column], out[j]);
    }
  }
  for (int j = 0; j < 4; j++)
    if (t + j * 128 < width) y[(u64)span.result * ys + head * width + t + j * 128] = out[j] / sum;
}
