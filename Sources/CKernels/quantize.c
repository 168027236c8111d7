#include "search.h"

#include <math.h>
#include <string.h>

// Codes of a group of fewer than eight bits, from the row's code `first` on.
LLV_INLINE void dequantize_few(
    const uint8_t *row, size_t first, size_t n, const int bits, int affine, float scale, float zero, float *to) {
  // Two's complement for symmetric codes: flip the sign bit and subtract.
  int flip = affine ? 0 : 1 << (bits - 1);
  for (size_t i = 0; i < n; i++) {
    float value = (float)((int)(llv_code(row, first + i, bits) ^ (unsigned)flip) - flip) * scale;
    to[i] = affine ? value + zero : value;
  }
}

LLV_INLINE void llv_dequantize_row_body(const void *codes, const float *scales, const float *zeros, size_t columns,
                                        size_t group, int bits, int affine, float *target) {
  const uint8_t *from = codes;
  for (size_t g = 0, first = 0; first < columns; g++, first += group) {
    size_t n = columns - first < group ? columns - first : group;
    float scale = scales[g], zero = affine ? zeros[g] : 0;
    float *to = target + first;
    if (bits == 8 && affine) {
      for (size_t i = 0; i < n; i++) to[i] = (float)from[first + i] * scale + zero;
    } else if (bits == 8) {
      for (size_t i = 0; i < n; i++) to[i] = (float)(int8_t)from[first + i] * scale;
    } else if (bits == 4) {
      dequantize_few(from, first, n, 4, affine, scale, zero, to);
    } else if (bits == 3) {
      dequantize_few(from, first, n, 3, affine, scale, zero, to);
    } else {
      dequantize_few(from, first, n, 2, affine, scale, zero, to);
    }
  }
}
LLV_DISPATCH(llv_dequantize_row,
             (const void *codes, const float *scales, const float *zeros, size_t columns, size_t group, int bits,
              int affine, float *target),
             (codes, scales, zeros, columns, group, bits, affine, target))

// Codes under the stored step and zero, and what they lose. Lanes from `lanes` on are left out.
LLV_INLINE void store_groups(
    const problem *p, v8 scale, v8 zero, size_t lanes, size_t stride, uint8_t *codes, llv_loss *loss) {
  const v8 range_low = splat(p->low), range_high = splat(p->high);
  const i8x used = (i8x){0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)lanes;
  v8 divisor = choose(scale != 0, scale, splat(1)), error = splat(0), most = splat(0);
  i8x clamped = {0};
  for (size_t i = 0; i < p->n; i++) {
    v8 w = p->w[i];
    v8 exact = choose(scale != 0, round8((w - zero) / divisor), splat(0));
    v8 q = clamp8(exact, p->low, p->high);
    clamped -= (exact < range_low) | (exact > range_high);
    v8 d = w - (q * scale + zero);
    error += d * d;
    most = larger(most, larger(d, -d));
    union { i8x all; int32_t lane[8]; } code = {__builtin_convertvector(q, i8x)};
    if (lanes == 8) {
      for (size_t j = 0; j < 8; j++) codes[j * stride + i] = (uint8_t)code.lane[j];
    } else {
      for (size_t j = 0; j < lanes; j++) codes[j * stride + i] = (uint8_t)code.lane[j];
    }
  }
  error = choose(used, error, splat(0));
  most = choose(used, most, splat(0));
  clamped &= used;
  for (int j = 0; j < 8; j++) {
    loss->error += error[j];
    loss->largest = most[j] > loss->largest ? most[j] : loss->largest;
    loss->clamped += (uint64_t)clamped[j];
  }
}

LLV_INLINE void llv_quantize_groups_body(const float *w, size_t stride, size_t count, size_t n, int bits, int affine,
                                         float *scratch, uint8_t *codes, uint16_t *scales, uint16_t *zeros,
                                         size_t scale_stride, llv_loss *loss) {
  problem p = {.w = (const v8 *)scratch, .n = n, .mass = (float)n, .affine = affine};
  p.low = lowest_code(bits, affine);
  p.high = highest_code(bits, affine);
  for (size_t first = 0; first < count; first += 8) {
    size_t lanes = count - first < 8 ? count - first : 8;
    v8 least, most;
    gather_groups(&p, w + first * stride, stride, lanes, (v8 *)scratch, &least, &most, 0);
    fit best = search(&p, least, most, 0);
    v8 scale = splat(0), zero = splat(0);
    for (size_t j = 0; j < lanes; j++) {
      uint16_t stored, stored_zero;
      stored_step(&best, j, least[j], most[j], affine, &stored, &stored_zero);
      int is_lost = affine ? least[j] != most[j] : least[j] != 0 || most[j] != 0;
      if ((stored & 0x7FFF) == 0x7C00 || (stored_zero & 0x7FFF) == 0x7C00) loss->overflowed++;
      if ((stored & 0x7FFF) == 0 && is_lost) loss->vanished++;
      scales[(first + j) * scale_stride] = stored;
      if (affine) zeros[(first + j) * scale_stride] = stored_zero;
      scale[j] = llv_half_to_float(stored);
      zero[j] = llv_half_to_float(stored_zero);
      loss->squares += p.squares[j];
    }
    store_groups(&p, scale, zero, lanes, stride, codes + first * stride, loss);
  }
}
LLV_DISPATCH(llv_quantize_groups,
             (const float *w, size_t stride, size_t count, size_t n, int bits, int affine, float *scratch,
              uint8_t *codes, uint16_t *scales, uint16_t *zeros, size_t scale_stride, llv_loss *loss),
             (w, stride, count, n, bits, affine, scratch, codes, scales, zeros, scale_stride, loss))

// Eight codes are `bits` whole bytes.
LLV_INLINE void pack_few(const uint8_t *codes, size_t columns, const int bits, uint8_t *target) {
  size_t i = 0;
  for (; i + 8 <= columns; i += 8, target += bits) {
    uint32_t word = 0;
    for (int k = 0; k < 8; k++) word |= (uint32_t)(codes[i + (size_t)k] & ((1 << bits) - 1)) << k * bits;
    for (int k = 0; k < bits; k++) target[k] = (uint8_t)(word >> 8 * k);
  }
  memset(target, 0, ((columns - i) * (size_t)bits + 7) / 8);
  for (size_t k = 0; i < columns; i++, k++) llv_set_code(target, k, bits, codes[i] & ((1u << bits) - 1));
}

LLV_INLINE void llv_pack_codes_body(const uint8_t *codes, size_t columns, int bits, uint8_t *target) {
  if (bits == 8) memcpy(target, codes, columns);
  else if (bits == 4) pack_few(codes, columns, 4, target);
  else if (bits == 3) pack_few(codes, columns, 3, target);
  else pack_few(codes, columns, 2, target);
}
LLV_DISPATCH(
    llv_pack_codes, (const uint8_t *codes, size_t columns, int bits, uint8_t *target), (codes, columns, bits, target))

void llv_unpack_bytes(const void *codes, size_t columns, int bits, int affine, uint8_t *target) {
  const uint8_t *from = codes;
  if (bits == 8) {
    memcpy(target, from, columns);
    return;
  }
  unsigned flip = affine ? 0 : 1u << (bits - 1);
  for (size_t i = 0; i < columns; i++) target[i] = (uint8_t)((llv_code(from, i, bits) ^ flip) - flip);
}

size_t llv_first_nonfinite(const float *x, size_t count) {
  size_t start = 0;
  // Blocks without a branch inside, so that the loop is vectorised.
  for (; start < count; start += 1024) {
    size_t end = start + 1024 < count ? start + 1024 : count;
    uint32_t bad = 0;
    for (size_t i = start; i < end; i++) {
      uint32_t bits;
      memcpy(&bits, x + i, 4);
      bad |= (bits & 0x7F800000) == 0x7F800000;
    }
    if (bad) break;
  }
  for (; start < count; start++)
    if (!isfinite(x[start])) return start;
  return count;
}
