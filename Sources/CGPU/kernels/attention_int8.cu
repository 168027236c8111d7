// Attention whose products are of 8-bit integers: the codes, and every rounding after them, of
// CKernels/attention_int8.c, which says what is computed. Sums of products are exact, sums of weights are added in the
// processor's order; so the result has its bits.
//
// Keys and values are coded stretch by stretch (the prefix, then each sequence), as chunks of CHUNK rows: sums, then
// means and scales, then codes. A stretch starts at a multiple of 32 places; `places` is how many there are in all.
#include "span.h"

constexpr int KEYS = 256, CHUNK = 64, NONE = 0;
// 1.5 · 2^23: what is added to it is rounded to a whole number in its low bits; and a whole number below 2^22 that is
// added to its bits becomes a float by taking it off again. Sums of 128 products of codes, and of 256 with weights, are
// that small.
constexpr float MAGIC = 12582912.0f;
constexpr int MAGIC_BITS = 0x4b400000;

struct Stretch { int row, count, place, chunk; };
struct Chunk {
  int stretch, first;
  DEV int rows(const Stretch &s) const { return s.count - first < CHUNK ? s.count - first : CHUNK; }
};

// Nearest, ties to even, in the low byte; 0 for what is not a number.
DEV u32 code(float x) {
  float v = x + MAGIC;
  return v == v ? as_bits(v) & 255 : 0;
}
DEV float float_of(int sum) { return as_float((u32)sum) - MAGIC; }

// MARK: Keys and values

// Of a chunk's columns: sums of keys and of values [2, columns], the smallest and the largest value [2, columns]. A
// thread for each column.
KERNEL(128, 4)
attention_sums(const Stretch *stretches, const Chunk *chunks, const float *k, const float *v, int ks, int vs,
    int columns, double *sums, float *ends) {
  Chunk chunk = chunks[BX];
  Stretch stretch = stretches[chunk.stretch];
  int column = BY * 128 + TID;
  if (column >= columns) return;
  k += (u64)(stretch.row + chunk.first) * ks + column, v += (u64)(stretch.row + chunk.first) * vs + column;
  double keys = 0, values = 0;
  float low = __builtin_inff(), high = -low;
  int rows = chunk.rows(stretch);
  for (int i = 0; i < rows; i++) {
    float value = v[(u64)i * vs];
    keys += k[(u64)i * ks], values += value;
    low = value < low ? value : low, high = largest(value, high);
  }
  u64 at = (u64)BX * 2 * columns + column;
  sums[at] = keys, sums[at + columns] = values;
  ends[at] = low, ends[at + columns] = high;
}

// Of a stretch's columns [4, columns]: mean of keys, mean of values, scale of values, its inverse.
KERNEL(128, 4)
attention_means(const Stretch *stretches, const double *sums, const float *ends, int columns, float *means) {
  Stretch stretch = stretches[BX];
  int column = BY * 128 + TID;
  if (column >= columns) return;
  sums += (u64)stretch.chunk * 2 * columns + column, ends += (u64)stretch.chunk * 2 * columns + column;
  double keys = 0, values = 0;
  float low = __builtin_inff(), high = -low;
  for (int i = 0; i * CHUNK < stretch.count; i++, sums += 2 * columns, ends += 2 * columns) {
    keys += sums[0], values += sums[columns];
    low = ends[0] < low ? ends[0] : low, high = largest(ends[columns], high);
  }
  float mean = (float)(values / stretch.count);
  // A difference grows with the value, rounded too: the largest is at one of the ends.
  float most = largest(magnitude(high - mean), largest(magnitude(low - mean), 0));
  means += (u64)BX * 4 * columns + column;
  means[0] = (float)(keys / stretch.count), means[columns] = mean;
  means[2 * columns] = most / 127.0f, means[3 * columns] = most > 0 ? 127.0f / most : 0;
}

// A block for each chunk and head of `width` columns, 128 at most. keys: [places, heads, wide], scales: [heads,
// places], values: [heads, width, places]. Of 16 values of a column byte r of word w is of key r / 2 * 8 + 2 w + r % 2,
// as a product of weights wants them.
KERNEL(128, 4)
attention_codes(const Stretch *stretches, const Chunk *chunks, const float *k, const float *v, int ks, int vs,
    int columns, int width, int wide, int places, const float *means, u8 *keys, float *scales, u32 *values) {
  Chunk chunk = chunks[BX];
  Stretch stretch = stretches[chunk.stretch];
  int head = BY, t = TID, lane = t & 31, rows = chunk.rows(stretch), filled = (rows + 31) / 32 * 32,
      place = stretch.place + chunk.first;
  means += (u64)chunk.stretch * 4 * columns + head * width;
  k += (u64)(stretch.row + chunk.first) * ks + head * width, v += (u64)(stretch.row + chunk.first) * vs + head * width;
  keys += ((u64)place * (columns / width) + head) * wide, scales += (u64)head * places + place;
  for (int row = t >> 5; row < filled; row += 4) {
    float x[4], most = 0;
    UNROLL
    for (int e = 0; e < 4; e++) {
      int column = lane + 32 * e;
      x[e] = row < rows && column < width ? k[(u64)row * ks + column] - means[column] : 0;
      most = largest(magnitude(x[e]), most);
    }
    for (int mask = 16; mask; mask >>= 1) most = largest(shfl_xor(most, mask), most);
    float inverse = most > 0 ? 127.0f / most : 0;
    UNROLL
    for (int e = 0; e < 4; e++)
      if (lane + 32 * e < wide) keys[(u64)row * (columns / width) * wide + lane + 32 * e] = (u8)code(x[e] * inverse);
    if (lane == 0) scales[row] = most / 127.0f;
  }
  if (t >= width) return;
  float mean = means[columns + t], inverse = means[3 * columns + t];
  values += ((u64)(head * width + t) * places + place) >> 2;
  for (int i = 0; i < filled >> 2; i++) {
    u32 word = 0;
    for (int r = 0; r < 4; r++) {
      int row = (i >> 2) * 16 + (r >> 1) * 8 + (i & 3) * 2 + (r & 1);
      if (row < rows) word |= code((v[(u64)row * vs + t] - mean) * inverse) << 8 * r;
    }
    values[i] = word;
  }
}

// MARK: Attention

// 2^x for -126 <= x <= 127 as the processor computes it: x = n + f, a polynomial in f, and n into the exponent.
DEV float power(float x) {
  float shifted = x + MAGIC, f = x - (shifted - MAGIC), p = 9.5700966856e-03f;
  p = fused(p, f, 5.5917863341e-02f);
  p = fused(p, f, 2.4024744987e-01f);
  p = fused(p, f, 6.9312181440e-01f);
  p = fused(p, f, 9.9999926139e-01f);
  return as_float(as_bits(p) + (as_bits(shifted) << 23));
}
// The same of what may be below; what is not a number stays that.
DEV float power_from_below(float x) {
  x = x < -125.0f ? -125.0f : x;
  return power(x) + x * 0;
}

// What a row is so far: the largest score; of this stretch of keys what its total has been shrunk by, and the sum of
// weights; that sum of the stretches before.
struct Running {
  float most, carry;
  double part, sum;

  // A block of keys, with its largest score and sum of weights; gives what totals so far and the block's are to be
  // multiplied by.
  DEV void add(float block, float weights, float &shrink, float &grow) {
    float before = most;
    most = block > before || block != block ? block : before;
    shrink = power_from_below(before - most), grow = power_from_below(block - most);
    carry *= shrink;
    part = part * shrink + (double)weights * grow;
  }
};

// For heads of D columns at most, a multiple of 16. Each of four warps owns 16 queries; keys come in blocks of KEYS.
// Rows in shared memory are 16 bytes longer than what they hold, so that no two that are read together lie in the same
// banks.
template <int D> struct Coded {
  static constexpr int WIDE = (D + 31) / 32 * 32, ROW = WIDE + 16, COLUMN = KEYS + 16;
  static constexpr int KEYS_AT = 64 * ROW, VALUES_AT = KEYS_AT + KEYS * ROW, SCALES_AT = VALUES_AT + D * COLUMN;
  // Scales of queries [64], scores of the keys' means [2, 64].
  static constexpr int QUERIES_AT = SCALES_AT + KEYS * 4;

  // Keys from ..< to of the block that starts at `place`, with their scales; `from` is a multiple of 32. Others are
  // masked.
  static DEV void load_keys(const u8 *keys, const float *scales, int stride, int place, int from, int to) {
    for (int c = from * (WIDE / 16) + TID; c < to * (WIDE / 16); c += 128) {
      int r = c / (WIDE / 16), chunk = c % (WIDE / 16);
      cp16(smem + KEYS_AT + r * ROW + chunk * 16, keys + (u64)(place + r) * stride + chunk * 16, true);
    }
    if (TID * 4 >= from && TID * 4 < to) cp16(smem + SCALES_AT + TID * 16, scales + place + TID * 4, true);
  }

  // Their values, column by column; others have weights of 0, and what columns there are not is not stored.
  static DEV void load_values(const u8 *values, int width, int places, int place, int from, int to) {
    for (int c = TID; c < width * (KEYS / 16); c += 128) {
      int column = c / (KEYS / 16), chunk = c % (KEYS / 16);
      if (chunk * 16 >= from && chunk * 16 < (to + 31) / 32 * 32)
        cp16(smem + VALUES_AT + column * COLUMN + chunk * 16, values + (u64)column * places + place + chunk * 16, true);
    }
  }

  // A warp's queries as codes, their scales, and their products with the keys' means, in the order of llv_dot_rows.
  // means: of stretch 0, and of the sequence's own.
  static DEV void code_queries(
      const float *q, int stride, int width, float scale, int rows, const float *common, const float *own) {
    int lane = TID & 31, first = TID >> 5 << 4;
    float *scales = (float *)(smem + QUERIES_AT);
    for (int row = first; row < first + 16 && row < rows; row++) {
      float x[WIDE / 32], most = 0;
      UNROLL
      for (int e = 0; e < WIDE / 32; e++) {
        int column = lane + 32 * e;
        x[e] = column < width ? q[(u64)row * stride + column] * scale : 0;
        most = largest(magnitude(x[e]), most);
      }
      for (int mask = 16; mask; mask >>= 1) most = largest(shfl_xor(most, mask), most);
      float inverse = most > 0 ? 127.0f / most : 0;
      UNROLL
      for (int e = 0; e < WIDE / 32; e++) smem[row * ROW + lane + 32 * e] = (u8)code(x[e] * inverse);
      if (lane == 0) scales[row] = most / 127.0f;
      for (int part = common ? 0 : 1; part < 2; part++) {
        const float *mean = part ? own : common;
        float s = 0;
        UNROLL
        for (int e = 0; e < WIDE / 32; e++) s += (lane + 32 * e < width ? mean[lane + 32 * e] : 0) * x[e];
        s += shfl_xor(s, 16);
        s += shfl_xor(s, 8);
        double sum = s;
        for (int other = 1; other < 8; other++) sum += shfl_xor(s, other);
        if (lane == 0) scales[64 + part * 64 + row] = (float)sum;
      }
    }
  }

  // Scores of a warp's 16 queries and 32 keys of the block, from number `first` on: the exact sum times the key's
  // scale.
  static DEV void score(float (&s)[4][4], const u32 (&query)[WIDE / 32][4], int first) {
    int lane = TID & 31;
    const float *scales = (const float *)(smem + SCALES_AT) + first + (lane & 3) * 2;
    const u8 *row = smem + KEYS_AT + (first + (lane & 7) + (lane >> 4 << 3)) * ROW + (lane >> 3 & 1) * 16;
    int sum[4][4];
    UNROLL
    for (int i = 0; i < 16; i++) sum[i >> 2][i & 3] = MAGIC_BITS;
    UNROLL
    for (int i = 0; i < WIDE / 32; i++) {
      UNROLL
      for (int j = 0; j < 2; j++) {
        u32 f[4];
        ldsm4(f, row + j * 16 * ROW + i * 32);
        mma(sum[2 * j], query[i], f[0], f[1]);
        mma(sum[2 * j + 1], query[i], f[2], f[3]);
      }
    }
    UNROLL
    for (int i = 0; i < 16; i++) s[i >> 2][i & 3] = float_of(sum[i >> 2][i & 3]) * scales[(i >> 2) * 8 + (i & 1)];
  }

  // Keys of a block: from ..< to.
  struct Range {
    int from, to;

    DEV bool has(int key) const { return (u32)(key - from) < (u32)(to - from); }
    DEV bool has_all(int first) const { return first >= from && first + 32 <= to; }
  };

  // The larger of `most` and scores of the keys from number `first` on that this thread's rows see.
  template <bool MASKED>
  static DEV void widen(float (&most)[2], const float (&s)[4][4], const Range (&seen)[2], int first) {
    UNROLL
    for (int i = 0; i < 16; i++) {
      int h = i >> 1 & 1;
      if (!MASKED || seen[h].has(first + (i >> 2) * 8 + (i & 1))) most[h] = largest(s[i >> 2][i & 3], most[h]);
    }
  }

  // Scores less `base`, in units of `scale`, to codes of weights, 127 where `offset` takes them to log2 127; 0 of keys
  // that are not seen. Adds weights before they were rounded to `sums`, by the key's place among 16: 0, 1, 8, 9 for a
  // thread that starts at 0.
  template <bool MASKED>
  static DEV void weigh(u32 (&weights)[4], float (&sums)[2][4], const float (&s)[4][4], const Range (&seen)[2],
      int first, const float (&scale)[2], const float (&base)[2], const float (&offset)[2]) {
    UNROLL
    for (int i = 0; i < 4; i++) weights[i] = 0;
    UNROLL
    for (int i = 0; i < 16; i++) {
      int j = i >> 2, h = i >> 1 & 1, e = i & 1, place = (j & 1) * 2 + e;
      float weight = power(largest(fused(s[j][i & 3] - base[h], scale[h], offset[h]), -40.0f));
      if (MASKED && !seen[h].has(first + j * 8 + e)) weight = 0;
      sums[h][place] += weight;
      weights[(j >> 1) * 2 + h] |= (as_bits(weight + 8388608.0f) & 255) << 8 * place;
    }
  }

  // sum += weights of 32 keys, from number `first` on, times their values.
  static DEV void mix(int (&sum)[D / 8][4], const u32 (&weights)[4], int first) {
    int lane = TID & 31;
    const u8 *row = smem + VALUES_AT + ((lane & 7) + (lane >> 4 << 3)) * COLUMN + first + (lane >> 3 & 1) * 16;
    UNROLL
    for (int j = 0; j < D / 16; j++) {
      u32 f[4];
      ldsm4(f, row + j * 16 * COLUMN);
      mma(sum[2 * j], weights, f[0], f[1]);
      mma(sum[2 * j + 1], weights, f[2], f[3]);
    }
  }

  // A block of keys, of which the warp's rows see no others than `live`, all of them `all`, and this thread's rows
  // `seen`. scales, means: of this thread's first row, and 8 further of its second. Scores are computed twice, so that
  // they need not be kept until the largest is known.
  static DEV void attend(float (&total)[D / 8][4], Running (&state)[2], const u32 (&query)[WIDE / 32][4], Range live,
      Range all, const Range (&seen)[2], const float *scales, const float *means) {
    int from = (TID & 3) * 2;
    float s[4][4], most[2] = {-__builtin_inff(), -__builtin_inff()}, base[2], offset[2], sums[2][4], shrink[2] = {1, 1},
                   grow[2] = {0, 0};
    for (int first = live.from / 32 * 32; first < live.to; first += 32) {
      score(s, query, first);
      if (all.has_all(first)) widen<false>(most, s, seen, first + from);
      else widen<true>(most, s, seen, first + from);
    }
    float scale[2] = {scales[0], scales[8]};
    UNROLL
    for (int h = 0; h < 2; h++) {
      most[h] = largest(shfl_xor(most[h], 1), most[h]);
      most[h] = largest(shfl_xor(most[h], 2), most[h]);
      offset[h] = fused(-most[h], scale[h], 6.98868468677f);  // log2 127
      // As the processor: the rounding of a larger offset could take the largest weight to another code.
      bool isFar = magnitude(offset[h]) > 16384.0f;
      base[h] = isFar ? most[h] : 0, offset[h] = isFar ? 6.98868468677f : offset[h];
    }
    cp_wait<NONE>();
    SYNC();
    if (live.to == 0) return;
    int sum[D / 8][4];
    UNROLL
    for (int i = 0; i < D / 2; i++) sum[i >> 2][i & 3] = MAGIC_BITS;
    UNROLL
    for (int i = 0; i < 8; i++) sums[i >> 2][i & 3] = 0;
    for (int first = live.from / 32 * 32; first < live.to; first += 32) {
      u32 weights[4];
      score(s, query, first);
      if (all.has_all(first)) weigh<false>(weights, sums, s, seen, first + from, scale, base, offset);
      else weigh<true>(weights, sums, s, seen, first + from, scale, base, offset);
      mix(sum, weights, first);
    }
    UNROLL
    for (int h = 0; h < 2; h++) {
      // As the processor adds the lanes of a vector: 16 to 8, to 4, to one.
      float low = sums[h][0] + sums[h][2], high = sums[h][1] + sums[h][3];
      low += shfl_xor(low, 2);
      high += shfl_xor(high, 2);
      low += high;
      low += shfl_xor(low, 1);
      if (seen[h].to > 0) state[h].add(fused(most[h], scale[h], means[8 * h]), low, shrink[h], grow[h]);
    }
    UNROLL
    for (int i = 0; i < D / 2; i++) {
      int h = i >> 1 & 1;
      float &t = total[i >> 2][i & 3];
      t = fused(float_of(sum[i >> 2][i & 3]), grow[h], t * shrink[h]);
    }
  }

  // Adds a stretch to the row's result, which waits in memory between two stretches. means: as attention_means makes
  // them.
  static DEV void end_stretch(float (&total)[D / 8][4], int h, Running &row, const float *means, int columns, int width,
      bool isFirst, bool isLast, float *to) {
    float part = (float)row.part;
    row.sum = row.sum * row.carry + row.part;
    float factor = (float)(1 / row.sum);
    UNROLL
    for (int i = 0; i < D / 4; i++) {
      int column = (i >> 1) * 8 + (TID & 3) * 2 + (i & 1);
      float &t = total[i >> 1][2 * h + (i & 1)];
      if (column < width) {
        float before = isFirst ? 0 : to[column];
        float v = fused(before, row.carry, fused(t, means[2 * columns + column], part * means[columns + column]));
        to[column] = isLast ? v * factor : v;
      }
      t = 0;
    }
    row.carry = 1, row.part = 0;
  }

  static DEV void run(const Span *spans, const float *q, const u8 *keys, const float *scales, const u8 *values,
      const float *means, float *y, int qs, int ys, int group, int width, int columns, int places, float scale) {
    // By reference: it is read again for every block, so that it takes no registers in between.
    const Span &span = spans[BX];
    int t = TID, lane = t & 31, warp = t >> 5, head = BY, kv = head / group, stride = columns / width * WIDE,
        prefix = span.prefix;
    q += (u64)span.query * qs + head * width;
    keys += kv * WIDE, scales += (u64)kv * places, values += (u64)kv * width * places, means += kv * width;
    auto means_of = [&](bool isOwn) { return means + (isOwn ? (u64)span.stretch * 4 * columns : 0); };
    // Blocks go by the place of their first key, and start at multiples of KEYS in the prefix and in the sequence's own
    // stretch. The first is that of the first key that a query sees, the last that of the last.
    int begin = span.from(0), end = span.to(span.count - 1);
    begin -= (begin < prefix ? begin : begin - prefix) % KEYS;
    auto next = [&](int block) { return block < prefix && prefix < block + KEYS ? prefix : block + KEYS; };
    // Of keys at places from ..< to those that lie in a block, counted from its first; 0 ..< 0 where none do.
    auto within = [&](int block, int from, int to) {
      int end = next(block);
      from = from < block ? block : from, to = to > end ? end : to;
      return from < to ? Range{from - block, to - block} : Range{0, 0};
    };
    auto load = [&](int block) {
      int place = block < prefix ? block : span.place + block - prefix;
      Range range = within(block, span.from(0), end);
      load_keys(keys, scales, stride, place, range.from / 32 * 32, range.to);
      cp_commit();
      load_values(values, width, places, place, range.from / 32 * 32, range.to);
      cp_commit();
    };
    load(begin);
    code_queries(q, qs, width, scale, span.count, begin < prefix ? means_of(false) : nullptr, means_of(true));
    float total[D / 8][4];
    UNROLL
    for (int i = 0; i < D / 2; i++) total[i >> 2][i & 3] = 0;
    Running state[2] = {{-__builtin_inff(), 1, 0, 0}, {-__builtin_inff(), 1, 0, 0}};
    u32 query[WIDE / 32][4];
    int top = warp * 16, bottom = (span.count < top + 16 ? span.count : top + 16) - 1, row = top + (lane >> 2);
    const float *rows = (const float *)(smem + QUERIES_AT) + row;
    for (int block = begin; block < end; block = next(block)) {
      bool isOwn = block >= prefix, isLast = next(block) >= end;
      // Keys of the block that a query sees.
      auto sees = [&](int i) { return i < span.count ? within(block, span.from(i), span.to(i)) : Range{0, 0}; };
      cp_wait<1>();
      SYNC();
      if (block == begin) {
        UNROLL
        for (int i = 0; i < WIDE / 32; i++)
          ldsm4(query[i], smem + (top + (lane & 15)) * ROW + (i * 2 + (lane >> 4)) * 16);
      }
      bool isLive = top <= bottom;
      attend(total, state, query, isLive ? within(block, span.from(top), span.to(bottom)) : Range{0, 0},
             isLive ? within(block, span.from(bottom), span.to(top)) : Range{0, 0}, {sees(row), sees(row + 8)}, rows,
             rows + (isOwn ? 128 : 64));
      if (isLast || next(block) == prefix) {
        UNROLL
        for (int h = 0; h < 2; h++)
          if (row + h * 8 < span.count)
            end_stretch(total, h, state[h], means_of(isOwn), columns, width, !isOwn || begin >= prefix, isLast,
                        y + (u64)(span.result + row + h * 8) * ys + head * width);
      }
      SYNC();
      if (!isLast) load(next(block));
    }
  }
};

// A block for each span and head. - blocks: that a multiprocessor should hold, as many as do not overflow the
// registers. - scale: times log2 e. - group: query heads that share keys and values. - columns: of all keys' heads.
#define CODED(D, blocks)                                                                                               \
  KERNEL(128, blocks)                                                                                                  \
  attention_int8_##D(const Span *spans, const float *q, const u8 *keys, const float *scales, const u8 *values,         \
      const float *means, float *y, int qs, int ys, int group, int width, int columns, int places, float scale) {      \
    Coded<D>::run(spans, q, keys, scales, values, means, y, qs, ys, group, width, columns, places, scale);             \
  }
CODED(32, 3)
CODED(64, 2)
CODED(80, 2)
CODED(128, 2)
