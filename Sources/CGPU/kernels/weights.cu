// Weights into the forms that products take. A block of 256 threads makes a row.
#include "encoding.h"

// Codes as signed bytes, every group filled up to `stripe`, the row to `places`, with zeros. Affine 8-bit codes become
// 128 smaller.
KERNEL(256, 4) weight_codes(ENCODED, u32 *y, int places, int stripe) {
  Encoded w = THIS_ENCODED;
  int row = BX, shift = bits == 8 && zerosAt ? 128 : 0;
  for (int at = 4 * TID; at < places; at += 1024) {
    int g = at / stripe, i = at % stripe, first = g * group + i;
    u32 four = 0;
    for (int e = 0; e < 4 && i + e < group && first + e < columns; e++)
      four |= (u32)(w.code(row, first + e) - shift & 255) << 8 * e;
    y[((u64)row * places + at) >> 2] = four;
  }
}

// Scales or zeros, [rows, groups] of `type`, to [groups, rows] of Float32.
KERNEL(256, 4) weight_scales(const u8 *from, int type, int rows, int groups, float *y) {
  for (int g = TID; g < groups; g += 256) y[(u64)g * rows + BX] = number(from, type, (u64)BX * groups + g);
}

// Any weight as BF16, the row filled up to `places`, even, with zeros.
KERNEL(256, 4) weight_bfloat16(ENCODED, u32 *y, int places) {
  Encoded w = THIS_ENCODED;
  int row = BX;
  for (int i = 2 * TID; i < places; i += 512)
    y[((u64)row * places + i) >> 1] = bf16x2(i < columns ? w(row, i) : 0, i + 1 < columns ? w(row, i + 1) : 0);
}
