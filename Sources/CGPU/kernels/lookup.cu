// Rows that are picked, blended or averaged. A block of 256 threads makes a row.
#include "dialect.h"
#include "encoding.h"

// Row ids[i] + first of a table in its own encoding (`first` where there are no ids); where an id is negative, row -1 -
// ids[i] of the features.
KERNEL(256, 4) lookup(ENCODED, const int *ids, int first, const float *features, int stride, float *y) {
  Encoded table = THIS_ENCODED;
  int id = ids ? ids[BX] : 0;
  for (int i = TID; i < columns; i += 256)
    y[(u64)BX * columns + i] = id < 0 ? features[(u64)(-1 - id) * stride + i] : table(id + first, i);
}

// The sum of weights[i] · x[taps[i]]; tap -1 is the row given apart.
KERNEL(256, 4)
interpolate(const float *x, int stride, const float *apart, const int *taps, const float *weights, int count,
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

// Column BX of rows ids[0 ..< count] of a table, times log2 e: a head's biases by distance, for scores that 2^x is
// taken of.
KERNEL(256, 4) distance_biases(ENCODED, const int *ids, int count, float *y) {
  Encoded table = THIS_ENCODED;
  for (int i = TID; i < count; i += 256) y[(u64)BX * count + i] = table(ids[i], BX) * 1.44269504088896341f;
}

enum { POOL_FIRST, POOL_LAST, POOL_MAX, POOL_MEAN, POOL_WEIGHTED_MEAN, POOL_ROOT_MEAN };

// One row of each sequence's rows, column by column.
KERNEL(256, 4) pool(const float *x, int stride, const int *starts, int kind, int columns, float *y) {
  int first = starts[BX], end = starts[BX + 1];
  double count = end - first;
  double divisor = kind == POOL_MEAN ? count : kind == POOL_WEIGHTED_MEAN ? count * (count + 1) / 2 : root(count);
  for (int i = TID; i < columns; i += 256) {
    float v = x[(u64)(kind == POOL_LAST ? end - 1 : first) * stride + i];
    double sum = 0;
    if (kind == POOL_MAX) {
      for (int row = first + 1; row < end; row++) {
        float other = x[(u64)row * stride + i];
        // What is not a number stays that.
        if (other > v || other != other) v = other;
      }
    } else if (kind >= POOL_MEAN) {
      for (int row = first; row < end; row++)
        sum += x[(u64)row * stride + i] * (kind == POOL_WEIGHTED_MEAN ? row - first + 1.0 : 1.0);
      v = (float)(sum / divisor);
    }
    y[(u64)BX * columns + i] = v;
  }
}
