// Weights to ggml's block layouts. Steps are searched for, never taken from the range alone; codes are nearest under
// the *stored* scales.
#include "ggml_blocks.h"
#include "search.h"

#include <math.h>
#include <string.h>

LLV_INLINE float stored(float x) { return llv_half_to_float(llv_half_from_float(x)); }
LLV_INLINE float lane_sum(v8 x) { return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])); }
LLV_INLINE float lane_most(v8 x) {
  float most = x[0];
  for (int j = 1; j < 8; j++) most = x[j] > most ? x[j] : most;
  return most;
}
LLV_INLINE int is_infinite_half(uint16_t half) { return (half & 0x7FFF) == 0x7C00; }

// The searches' start for w [8][n].
LLV_INLINE problem gather(const float *w, size_t n, v8 *target, v8 *least, v8 *most) {
  problem p = {.w = target, .n = n, .mass = (float)n};
  gather_groups(&p, w, n, 8, target, least, most, 0);
  return p;
}

LLV_INLINE void account(llv_loss *loss, v8 d) {
  v8 squares = d * d, magnitude = larger(d, -d);
  loss->error += lane_sum(squares);
  float most = lane_most(magnitude);
  loss->largest = most > loss->largest ? most : loss->largest;
}

// A code book
// ------------------------------------------------------------------------------------------------------------

LLV_INLINE fit refit_iq4(const problem *p, v8 inverse) {
  v8 sqq = splat(0), sqw = splat(0);
  for (size_t i = 0; i < 32; i++) {
    v8 q = nearest_iq4(p->w[i] * inverse);
    sqq += q * q;
    sqw += q * p->w[i];
  }
  fit result = {.scale = sqw / sqq, .zero = splat(0)};
  result.error = p->squares - result.scale * sqw;
  return result;
}

LLV_INLINE void pack_iq4_nl(const float *w, v8 *scratch, uint8_t *to, llv_loss *loss) {
  v8 least, most;
  problem p = gather(w, 32, scratch, &least, &most);
  v8 reach = larger(most, -least);
  fit best = {splat(0), splat(0), p.squares};
  for (int k = 0; k < LLV_SEARCH_STEPS; k++) {
    v8 inverse = reciprocal(reach) * splat(127.0f + 6.0f * (float)(k - 6));
    keep_better(&best, refit_iq4(&p, inverse));
    keep_better(&best, refit_iq4(&p, -inverse));
  }
  for (int k = 0; k < 2; k++) keep_better(&best, refit_iq4(&p, reciprocal(best.scale)));
  v8 scale;
  for (int j = 0; j < 8; j++) {
    uint16_t half = llv_half_from_float(best.scale[j]);
    put_half(to + 18 * j, half);
    scale[j] = llv_half_to_float(half);
    loss->overflowed += (uint64_t)is_infinite_half(half);
  }
  v8 inverse = reciprocal(scale);
  uint8_t codes[8][32];
  for (int i = 0; i < 32; i++) {
    v8 x = p.w[i] * inverse, index = splat(0), value = splat(iq4_book[0]);
    for (int k = 0; k < 15; k++) {
      i8x above = x > (iq4_book[k] + iq4_book[k + 1]) / 2;
      value = choose(above, splat(iq4_book[k + 1]), value);
      index = choose(above, splat((float)(k + 1)), index);
    }
    account(loss, p.w[i] - value * scale);
    for (int j = 0; j < 8; j++) codes[j][i] = (uint8_t)index[j];
  }
  for (int j = 0; j < 8; j++) put_codes(codes[j], 0, 0, to + 18 * j + 2);
  loss->squares += lane_sum(p.squares);
}

// Q4_K and Q5_K: eight steps and minima of six bits each under two half-precision scales
// ---------------------------------

// refit with a minimum that is not above zero, as these types can store.
LLV_INLINE fit refit_minimum(const problem *p, v8 inverse, v8 zero, v8 *qq, v8 *q1, v8 *qw) {
  v8 sq = splat(0), sqq = splat(0), sqw = splat(0);
  for (size_t i = 0; i < 32; i++) {
    v8 q = clamp8(round8((p->w[i] - zero) * inverse), 0, p->high);
    sq += q;
    sqq += q * q;
    sqw += q * p->w[i];
  }
  *qq = sqq, *q1 = sq, *qw = sqw;
  v8 n = splat(32), d = n * sqq - sq * sq;
  fit result;
  result.scale = choose(d > 0, (n * sqw - sq * p->sum) / choose(d > 0, d, splat(1)), splat(0));
  result.zero = (p->sum - result.scale * sq) / n;
  i8x is_above = result.zero > 0;
  v8 alone = choose(sqq > 0, sqw / choose(sqq > 0, sqq, splat(1)), splat(0));
  result.scale = larger(choose(is_above, alone, result.scale), splat(0));
  result.zero = choose(is_above, splat(0), result.zero);
  v8 s = result.scale, z = result.zero;
  result.error = p->squares - 2 * s * sqw - 2 * z * p->sum + s * s * sqq + 2 * s * z * sq + n * z * z;
  return result;
}

typedef struct { float d, least, error; v8 scale, minimum; } k_choice;

// Whole steps and minima for the wanted ones under d and least, and the error of the best codes for them.
LLV_INLINE k_choice k_try(const problem *p, float d, float least, v8 wanted, v8 wanted_zero, v8 *qq, v8 *q1, v8 *qw) {
  k_choice c = {.d = stored(d), .least = stored(least)};
  c.scale = c.d > 0 ? clamp8(round8(wanted / splat(c.d)), 0, 63) : splat(0);
  c.minimum = c.least > 0 ? clamp8(round8(-wanted_zero / splat(c.least)), 0, 63) : splat(0);
  v8 s = c.scale * c.d, z = -(c.minimum * c.least);
  refit_minimum(p, reciprocal(s), z, qq, q1, qw);
  v8 error = p->squares - 2 * s * *qw - 2 * z * p->sum + s * s * *qq + 2 * s * z * *q1 + 32 * z * z;
  c.error = lane_sum(error);
  return c;
}

LLV_INLINE void pack_k_affine(const float *w, int bits, v8 *scratch, uint8_t *to, llv_loss *loss) {
  v8 least, most, qq, q1, qw;
  problem p = gather(w, 32, scratch, &least, &most);
  p.high = (float)((1 << bits) - 1), p.affine = 1;
  least = smaller(least, splat(0));
  fit best = {splat(0), splat(0), p.squares};
  v8 inverse = reciprocal(most - least);
  for (int k = 0; k < LLV_SEARCH_STEPS; k++)
    keep_better(&best, refit_minimum(&p, inverse * splat(p.high + 0.4f * (float)(k - 7)), least, &qq, &q1, &qw));
  for (int k = 0; k < 2; k++) keep_better(&best, refit_minimum(&p, reciprocal(best.scale), best.zero, &qq, &q1, &qw));
  v8 wanted = best.scale, zero = best.zero;
  float d = lane_most(wanted) / 63, lowest = lane_most(-zero) / 63;
  k_choice kept = k_try(&p, d, lowest, wanted, zero, &qq, &q1, &qw);
  k_choice now = kept;
  for (int round = 0; round < 3; round++) {
    // The best d and least for these codes, steps and minima, all eight groups together.
    v8 sc = now.scale, m = now.minimum;
    float aa = lane_sum(sc * sc * qq), ab = -lane_sum(sc * m * q1), bb = 32 * lane_sum(m * m);
    float ya = lane_sum(sc * qw), yb = -lane_sum(m * p.sum), det = aa * bb - ab * ab;
    if (det > 1e-6f * aa * bb) {
      d = (ya * bb - yb * ab) / det, lowest = (yb * aa - ya * ab) / det;
    } else if (aa > 0) {
      d = ya / aa;
    }
    if (!(d > 0) || lowest < 0) break;
    // The best step and minimum of each group for its codes.
    v8 den = 32 * qq - q1 * q1;
    v8 s = choose(den > 0, (32 * qw - q1 * p.sum) / choose(den > 0, den, splat(1)), splat(0));
    v8 z = smaller((p.sum - s * q1) / splat(32), splat(0));
    s = choose(z < 0, s, choose(qq > 0, qw / choose(qq > 0, qq, splat(1)), splat(0)));
    now = k_try(&p, d, lowest, larger(s, splat(0)), z, &qq, &q1, &qw);
    if (now.error < kept.error) kept = now;
  }
  uint16_t half = llv_half_from_float(kept.d), half_least = llv_half_from_float(kept.least);
  loss->overflowed += (uint64_t)(is_infinite_half(half) || is_infinite_half(half_least));
  v8 s = kept.scale * kept.d, z = -(kept.minimum * kept.least), inverse_s = reciprocal(s);
  uint8_t steps[8], minima[8], codes[256];
  for (int j = 0; j < 8; j++) steps[j] = (uint8_t)kept.scale[j], minima[j] = (uint8_t)kept.minimum[j];
  for (int i = 0; i < 32; i++) {
    v8 q = clamp8(round8((p.w[i] - z) * inverse_s), 0, p.high);
    account(loss, p.w[i] - (q * s + z));
    for (int j = 0; j < 8; j++) codes[32 * j + i] = (uint8_t)q[j];
  }
  put_k_affine(bits, half, half_least, steps, minima, codes, to);
  loss->squares += lane_sum(p.squares);
}

// Q6_K: sixteen steps of eight signed bits under one half-precision scale
// ------------------------------------------------

typedef struct { v8 scale, qq, qw; float error; } q6_choice;

LLV_INLINE q6_choice q6_try(const problem *p, float d, v8 wanted) {
  q6_choice c = {
      .scale = d != 0 ? clamp8(round8(wanted / splat(d)), -128, 127) : splat(0), .qq = splat(0), .qw = splat(0)};
  v8 s = c.scale * d, inverse = reciprocal(s);
  for (size_t i = 0; i < 16; i++) {
    v8 q = clamp8(round8(p->w[i] * inverse), -32, 31);
    c.qq += q * q;
    c.qw += q * p->w[i];
  }
  c.error = lane_sum(p->squares - 2 * s * c.qw + s * s * c.qq);
  return c;
}

LLV_INLINE void pack_q6_k(const float *w, v8 *scratch, uint8_t *to, llv_loss *loss) {
  problem p[2];
  v8 wanted[2];
  float reach = 0;
  for (int h = 0; h < 2; h++) {
    v8 least, most;
    p[h] = gather(w + 128 * h, 16, scratch + 16 * h, &least, &most);
    p[h].low = -32, p[h].high = 31, p[h].affine = 0;
    wanted[h] = search(&p[h], least, most, 0).scale;
    float far = lane_most(larger(wanted[h], -wanted[h]));
    reach = far > reach ? far : reach;
  }
  float d = stored(reach / 127);
  q6_choice kept[2] = {q6_try(&p[0], d, wanted[0]), q6_try(&p[1], d, wanted[1])};
  for (int round = 0; round < 2; round++) {
    float up = 0, down = 0;
    for (int h = 0; h < 2; h++) {
      up += lane_sum(kept[h].scale * kept[h].qw);
      down += lane_sum(kept[h].scale * kept[h].scale * kept[h].qq);
    }
    if (!(down > 0)) break;
    float other = stored(up / down);
    q6_choice now[2];
    for (int h = 0; h < 2; h++)
      now[h] = q6_try(
          &p[h], other, choose(kept[h].qq > 0, kept[h].qw / choose(kept[h].qq > 0, kept[h].qq, splat(1)), splat(0)));
    if (!(now[0].error + now[1].error < kept[0].error + kept[1].error)) break;
    kept[0] = now[0], kept[1] = now[1], d = other;
  }
  uint16_t half = llv_half_from_float(d);
  loss->overflowed += (uint64_t)is_infinite_half(half);
  uint8_t codes[256], steps[16];
  for (int h = 0; h < 2; h++) {
    v8 s = kept[h].scale * d, inverse = reciprocal(s);
    for (int j = 0; j < 8; j++) steps[8 * h + j] = (uint8_t)(int8_t)kept[h].scale[j];
    for (int i = 0; i < 16; i++) {
      v8 q = clamp8(round8(p[h].w[i] * inverse), -32, 31);
      account(loss, p[h].w[i] - q * s);
      for (int j = 0; j < 8; j++) codes[128 * h + 16 * j + i] = (uint8_t)(int)q[j];
    }
    loss->squares += lane_sum(p[h].squares);
  }
  put_q6_k(half, steps, codes, to);
}

// Q2_K and Q3_K: sixteen steps, as GPTQ finds them where all errors count alike
// -------------------------------------------

LLV_INLINE void pack_low_k(int type, const float *w, float *scratch, uint8_t *to, llv_loss *loss) {
  static const float even[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  int affine = type == LLV_Q2_K, bits = affine ? 2 : 3;
  float scales[16], zeros[16], d, least;
  uint8_t codes[256];
  llv_search_steps(w, 16, 16, 16, bits, affine, even, scratch, scales, zeros, 1);
  llv_block_scales(type, scales, zeros, 16, &d, &least);
  llv_snap_block(type, w, 16, 16, 16, even, &d, &least, 0, scratch, scales, zeros, 1);
  llv_encode_row(w, 256, 16, bits, affine, 0, scales, zeros, codes, loss);
  llv_ggml_join_super(type, codes, scales, zeros, 1, to);
}

LLV_INLINE void llv_ggml_pack_body(
    int type, const float *w, size_t count, float *scratch, void *target, llv_loss *loss) {
  uint8_t *to = target;
  v8 *lanes = (v8 *)scratch;
  switch (type) {
    case LLV_IQ4_NL:
      for (size_t b = 0; b < count; b += 8) {
        size_t used = count - b < 8 ? count - b : 8;
        if (used == 8) {
          pack_iq4_nl(w + 32 * b, lanes, to + 18 * b, loss);
          continue;
        }
        // Blocks of zeros beside the last ones lose nothing.
        float padded[256] = {0};
        uint8_t blocks[8 * 18];
        memcpy(padded, w + 32 * b, used * 32 * sizeof(float));
        pack_iq4_nl(padded, lanes, blocks, loss);
        memcpy(to + 18 * b, blocks, used * 18);
      }
      return;
    case LLV_Q4_K:
      for (size_t b = 0; b < count; b++) pack_k_affine(w + 256 * b, 4, lanes, to + 144 * b, loss);
      return;
    case LLV_Q5_K:
      for (size_t b = 0; b < count; b++) pack_k_affine(w + 256 * b, 5, lanes, to + 176 * b, loss);
      return;
    case LLV_Q6_K:
      for (size_t b = 0; b < count; b++) pack_q6_k(w + 256 * b, lanes, to + 210 * b, loss);
      return;
    case LLV_Q3_K:
      for (size_t b = 0; b < count; b++) pack_low_k(type, w + 256 * b, scratch, to + 110 * b, loss);
      return;
    case LLV_Q2_K:
      for (size_t b = 0; b < count; b++) pack_low_k(type, w + 256 * b, scratch, to + 84 * b, loss);
      return;
    default: return;
  }
}
LLV_DISPATCH(llv_ggml_pack, (int type, const float *w, size_t count, float *scratch, void *target, llv_loss *loss),
             (type, w, count, scratch, target, loss))
