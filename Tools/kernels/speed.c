// How fast the integer product alone is, on one thread: GMAC/s, the best but two of 41 runs, then the peaks for 4 and
// for 8 bits, and a number that is the same where the results are. Built and run by Tools/bench/kernels. speed BITS
// GROUP COLUMNS ROWS PANELS       (GROUP 0: one scale for a row; 8 bits are symmetric, fewer affine) speed 4t GROUP
// COLUMNS ROWS PANELS         (groups in two levels; 3t and 2t likewise)
#include "CKernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float bell(void) {
  float sum = -6;
  for (int i = 0; i < 12; i++) sum += (float)rand() / (float)RAND_MAX;
  return sum;
}

static int by_size(const void *a, const void *b) { return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b); }

static double peak(int kind) {
  double best = 0;
  for (int i = 0; i < 9; i++) {
    double start = now(), count = llv_peak(kind, 200000), speed = count / (now() - start);
    if (speed > best) best = speed;
  }
  return best / 1e9;
}

int main(int count, char **words) {
  if (count != 6) return fprintf(stderr, "speed BITS GROUP COLUMNS ROWS PANELS\n"), 64;
  int bits = atoi(words[1]);
  size_t group = (size_t)atol(words[2]), columns = (size_t)atol(words[3]), rows = (size_t)atol(words[4]), panels = (size_t)atol(words[5]);
  if (group == 0 || group > columns) group = columns;
  size_t places = llv_places(columns, group), groups = (columns + group - 1) / group, row_bytes = (columns * (size_t)bits + 7) / 8;
  int affine = bits < 8, levels = strchr(words[1], 't') != 0, offset = affine && !levels ? 0 : 128;
  uint8_t *steps = malloc(2 * groups * LLV_PANEL);
  memset(steps, 0x87, 2 * groups * LLV_PANEL);
  uint8_t *codes = malloc(rows * places), *stored = malloc(row_bytes * LLV_PANEL), *panel = malloc(llv_panel_bytes(columns, group, bits) * panels);
  float *x = malloc(columns * 4), *xs = malloc(rows * groups * 4), *sums = malloc(rows * groups * 4), *scales = malloc(2 * groups * LLV_PANEL * 4);
  int32_t *starts = malloc(rows * groups * 4);
  float *y = malloc(rows * panels * LLV_PANEL * 4);
  void *working = malloc(llv_int8_working(columns, group));
  for (size_t i = 0; i < rows; i++) {
    for (size_t k = 0; k < columns; k++) x[k] = bell();
    llv_quantize_row(x, columns, levels ? columns : group, llv_code_bias(levels ? 8 : bits), offset, codes + i * places, xs + i * groups, starts + i * groups, sums + i * groups);
  }
  for (size_t i = 0; i < 2 * groups * LLV_PANEL; i++) scales[i] = 0.01f;
  for (size_t p = 0; p < panels; p++) {
    for (size_t i = 0; i < row_bytes * LLV_PANEL; i++) stored[i] = (uint8_t)rand();
    // Codes of 8 bits are of bell-shaped values, each group filling its range.
    for (size_t first = 0; bits == 8 && first < row_bytes * LLV_PANEL;) {
      size_t n = columns - first % columns < group ? columns - first % columns : group;
      float most = 0;
      for (size_t i = 0; i < n; i++) x[i] = bell(), most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
      for (size_t i = 0; i < n; i++) stored[first + i] = (uint8_t)(int8_t)(127 * x[i] / most);
      first += n;
    }
    llv_pack_panel(stored, row_bytes, LLV_PANEL, columns, group, bits, affine, panel + p * llv_panel_bytes(columns, group, bits));
  }
  double seconds[41];
  llv_codes given = {codes, xs, starts, sums};
  for (int run = 0; run < 41; run++) {
    double start = now();
    for (size_t p = 0; p < panels; p += 2) {
      llv_int8_panel w = {panel + p * llv_panel_bytes(columns, group, bits), scales, affine && !levels ? scales : 0, columns, group, bits, offset, levels ? steps : 0};
      llv_output out = {.n = panels - p < 2 ? LLV_PANEL : 2 * LLV_PANEL, .y = y + p * LLV_PANEL, .stride = panels * LLV_PANEL};
      llv_gemm_int8(&given, rows, &w, working, &out);
    }
    seconds[run] = now() - start;
  }
  qsort(seconds, 41, sizeof(double), by_size);
  uint64_t hash = 0;
  for (size_t i = 0; i < rows * panels * LLV_PANEL; i++) {
    uint32_t word;
    memcpy(&word, y + i, 4);
    hash = hash * 1099511628211u + word;
  }
  printf("%.1f %.1f %.1f %016llx\n", (double)rows * (double)columns * (double)(panels * LLV_PANEL) / seconds[2] / 1e9, peak(LLV_PEAK_INT4), peak(LLV_PEAK_INT8), (unsigned long long)hash);
}
