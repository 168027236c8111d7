// Rows that are picked, blended or averaged. A block of 256 threads makes a row.
#include "dialect.h"
#include "encoding.h"

// Row ids[i] of a table in its own encoding (`first` where there are no ids); where negative, row -1 - ids[i] of the features.
KERNEL(256, 4) lookup(ENCODED, const int *ids, int first, const float *features, int stride, float *y) {
  Encoded table = THIS_ENCODED;
  int id = ids ? ids[BX] : first;
  for (int i = TID; i < columns; i += 256)
    y[(u64)BX * columns + i] = id < 0 ? features[(u64)(-1 - id) * stride + i] : table(id, i);
}

// The sum of weights[i] · x[taps[i]]; tap -1 is the row given apart.
KERNEL(256, 4) interpolate(const float *x, int stride, const float *apart, const int *taps, const float *weights, int count,
                           int columns, float *y) {
  taps += (u64)BX * count;
  weights += (u64)BX * count;
  for (int i = TID; i < columns; i += 256) {
    float sum = 0;
    for (int tap = 0; tap < count; tap++) {
      float weight = weights[tap];
      if (tap > 0 && weight == 0) continue;
      float v = weight * (taps[tap] < 0 ? apart[i] : x[(u64)taps[tap] * stride + i]);
      sum = tap == 0 ? v : sum + v;
    }
    y[(u64)BX * columns + i] = sum;
  }
}

// Of each sequence, the first row (0), the last (1) or the mean (2).
KERNEL(256, 4) pool(const float *x, int stride, const int *starts, int kind, int columns, float *y) {
  int first = starts[BX], end = starts[BX + 1];
  for (int i = TID; i < columns; i += 256) {
    float v;
    if (kind == 2) {
      double sum = 0;
      for (int row = first; row < end; row++) sum += x[(u64)row * stride + i];
      v = (float)(sum / (end - first));
    } else {
      v = x[(u64)(kind == 0 ? first : end - 1) * stride + i];
    }
    y[(u64)BX * columns + i] = v;
  }
}
