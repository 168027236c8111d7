// A tensor in a container's own encoding, element by element.
#pragma once
#include "dialect.h"

enum { TYPE_F32, TYPE_F16, TYPE_BF16 };

DEV float number(const u8 *at, int type, u64 index) {
  if (type == TYPE_F32) return ((const float *)at)[index];
  u16 bits = ((const u16 *)at)[index];
  return type == TYPE_F16 ? from_half(bits) : from_bfloat16(bits);
}

// Plain numbers of `type` where `bits` is 0. Else codes of `bits`, `group` of which share a scale (and a zero, where
// there are any) of `type`.
struct Encoded {
  const u8 *base;
  int type, bits, group, columns;
  u64 scales, zeros;  // offsets; zeros 0: none

  DEV int groups() const { return (columns + group - 1) / group; }

  // As the encoding counts: signed, or from 0 up where there are zeros.
  DEV int code(int row, int column) const {
    const u8 *codes = base + (u64)row * ((columns * (u64)bits + 7) / 8);
    u64 at = (u64)column * bits;
    int shift = at & 7, stored = codes[at >> 3] >> shift;
    if (shift + bits > 8) stored |= codes[(at >> 3) + 1] << (8 - shift);
    stored &= (1 << bits) - 1;
    int half = 1 << (bits - 1);
    return zeros || stored < half ? stored : stored - 2 * half;
  }

  DEV float operator()(int row, int column) const {
    if (!bits) return number(base, type, (u64)row * columns + column);
    u64 g = (u64)row * groups() + column / group;
    float v = (float)code(row, column) * number(base + scales, type, g);
    return zeros ? v + number(base + zeros, type, g) : v;
  }
};

#define ENCODED const u8 *base, int type, int bits, int group, int columns, u64 scalesAt, u64 zerosAt
#define THIS_ENCODED \
  Encoded { base, type, bits, group, columns, scalesAt, zerosAt }
