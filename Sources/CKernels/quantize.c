#include "internal.h"
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
    } else {
      // Two's complement for symmetric codes: flip the sign bit and subtract.
      int flip = affine ? 0 : 8;
      for (size_t i = 0; i < n; i++) {
        int code = from[(first + i) / 2] >> ((first + i) % 2 * 4) & 15;
        float value = (float)((code ^ flip) - flip) * scale;
        to[i] = affine ? value + zero : value;
      }
    }
  }
}
LLV_DISPATCH(llv_dequantize_row,
             (const void *codes, const float *scales, const float *zeros, size_t columns, size_t group, int bits,
              int affine, float *target),
             (codes, scales, zeros, columns, group, bits, affine, target))
