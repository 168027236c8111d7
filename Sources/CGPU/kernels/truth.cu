// What each matrix operation and conversion of the dialect makes of given registers: recorded on a GPU once
// (Tools/gpu-check), compared with emulated.h ever after.
#include "dialect.h"

// One warp; lane l reads words in[32 * i + l] and writes out[32 * i + l].
KERNEL(32, 1) truth(int operation, const u32 *in, u32 *out) {
  int lane = TID;
  auto word = [&](int i) { return in[32 * i + lane]; };
  u32 *tile = (u32 *)smem;
  switch (operation) {
    case 0: {  // products of bytes
      int d[4] = {(int)word(0), (int)word(1), (int)word(2), (int)word(3)};
      u32 a[4] = {word(4), word(5), word(6), word(7)};
      mma(d, a, word(8), word(9));
      for (int i = 0; i < 4; i++) out[32 * i + lane] = (u32)d[i];
      break;
    }
    case 1: {  // products of BF16
      float d[4] = {as_float(word(0)), as_float(word(1)), as_float(word(2)), as_float(word(3))};
      u32 a[4] = {word(4), word(5), word(6), word(7)};
      mma(d, a, word(8), word(9));
      for (int i = 0; i < 4; i++) out[32 * i + lane] = as_bits(d[i]);
      break;
    }
    case 2:
    case 3: {  // matrices out of shared memory; the second transposed
      for (int i = 0; i < 4; i++) tile[32 * i + lane] = word(i);
      SYNC();
      u32 r[4];
      if (operation == 2) ldsm4(r, tile + 4 * lane);
      else ldsm4t(r, tile + 4 * lane);
      for (int i = 0; i < 4; i++) out[32 * i + lane] = r[i];
      break;
    }
    case 4: {  // copies, of which those of odd lanes are zeros
      cp16(tile + 4 * lane, in + 4 * lane, lane % 2 == 0);
      cp_commit();
      cp_wait<0>();
      SYNC();
      for (int i = 0; i < 4; i++) out[32 * i + lane] = tile[32 * i + lane];
      break;
    }
    case 5: {  // numbers
      out[lane] = bf16x2(as_float(word(0)), as_float(word(1)));
      out[32 + lane] = as_bits(exp2_fast(as_float(word(2))));
      out[64 + lane] = (u32)round_int(as_float(word(3)));
      out[96 + lane] = as_bits(from_half((u16)word(0)));
      out[128 + lane] = shfl_xor(word(0), 5);
      out[160 + lane] = as_bits(as_float(word(2)) / as_float(word(3)));
      out[192 + lane] = as_bits(fused(as_float(word(0)), as_float(word(1)), as_float(word(2))));
      break;
    }
  }
}
