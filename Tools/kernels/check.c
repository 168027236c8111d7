// Every instruction set's kernels against the plain ones, bit for bit, on random problems of awkward sizes. Built and
// run by Tools/test-kernels, natively and for instruction sets that the machine at hand lacks. check [SETS]      SETS:
// what this processor has to be found to have, as in "AVX2 + AVX-512"
#include "CKernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 1;
static uint32_t next(void) { return (uint32_t)((state = state * 6364136223846793005u + 1442695040888963407u) >> 33); }
static float uniform(void) { return (float)(next() % 20001) / 10000 - 1; }
static int checks, failures;
static uint64_t hash;

// A set's result beside the plain one, which is the same on every processor.
static void compare(const char *what, unsigned set, const float *a, const float *b, size_t count) {
  checks++;
  for (size_t i = 0; !set && i < count; i++) {
    uint32_t word;
    memcpy(&word, b + i, 4);
    hash = (hash ^ word) * 1099511628211u;
  }
  if (memcmp(a, b, count * 4) == 0) return;
  failures++;
  for (size_t i = 0; i < count; i++)
    if (memcmp(a + i, b + i, 4) != 0) {
      printf("FAIL %s, set %#x, element %zu of %zu: %a, plain %a\n", what, set, i, count, (double)a[i], (double)b[i]);
      return;
    }
}

// Of two panels, of which the second may be a part.
enum { OUTPUTS = 2 * LLV_PANEL, MOST_ROWS = 29, MOST_COLUMNS = 200 };

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static void product_int8(int bits, int affine, size_t m, size_t columns, size_t group, size_t n, int kind, float *y) {
  size_t groups = (columns + group - 1) / group, places = llv_places(columns, group), row_bytes = (columns * (size_t)bits + 7) / 8;
  static float x[MOST_ROWS * MOST_COLUMNS], scales[MOST_COLUMNS * OUTPUTS], zeros[MOST_COLUMNS * OUTPUTS], bias[OUTPUTS], other[MOST_ROWS * OUTPUTS];
  size_t panel_bytes = llv_panel_bytes(columns, group, bits);
  uint8_t *codes = malloc(row_bytes * n), *panel = malloc(2 * panel_bytes), *xc = malloc(m * places);
  float *xs = malloc(m * groups * 4), *sums = malloc(m * groups * 4);
  int32_t *starts = malloc(m * groups * 4);
  for (size_t i = 0; i < m * columns; i++) x[i] = kind % 2 ? (next() % 2 ? 1 : -1) : uniform();
  // All sizes alike; extremes alone; both, but rare among small ones, as where many weights share a scale.
  for (size_t i = 0; i < row_bytes * n; i++) {
    uint8_t code = kind % 2 ? (next() % 2 ? 0x7F : 0x80) : (uint8_t)next();
    codes[i] = kind < 2 || next() % 100 == 0 ? code : (uint8_t)((int8_t)code / 8 + (bits == 8 && affine ? 128 : 0));
  }
  for (size_t i = 0; i < groups * OUTPUTS; i++) scales[i] = uniform(), zeros[i] = uniform();
  for (size_t j = 0; j < OUTPUTS; j++) bias[j] = uniform();
  for (size_t i = 0; i < m * OUTPUTS; i++) other[i] = uniform();
  int offset = affine ? 0 : 1 << (bits - 1);
  for (size_t i = 0; i < m; i++)
    llv_quantize_row(x + i * columns, columns, group, llv_code_bias(bits), offset, xc + i * places, xs + i * groups, starts + i * groups, sums + i * groups);
  for (size_t first = 0; first < n; first += LLV_PANEL)
    llv_pack_panel(codes + first * row_bytes, row_bytes, least(n - first, LLV_PANEL), columns, group, bits, affine, panel + first / LLV_PANEL * panel_bytes);
  void *working = malloc(llv_int8_working(columns, group));
  llv_int8_panel w = {panel, scales, affine ? zeros : 0, columns, group, bits, offset};
  llv_codes given = {xc, xs, starts, sums};
  llv_step steps[] = {{LLV_SILU, 0, 0}, {LLV_ADD, other, OUTPUTS}, {LLV_MULTIPLY, other, 0}};
  llv_output out = {bias, steps, 3, n, y, n};
  llv_gemm_int8(&given, m, &w, working, &out);
  free(codes), free(panel), free(xc), free(xs), free(sums), free(starts), free(working);
}

// Groups in two levels; extremes alone where kind is odd.
static void product_levels(int bits, size_t m, size_t columns, size_t group, size_t n, int kind, float *y) {
  size_t groups = (columns + group - 1) / group, places = llv_places(columns, columns), row_bytes = (columns * (size_t)bits + 7) / 8;
  static float x[MOST_ROWS * MOST_COLUMNS], scales[OUTPUTS];
  size_t panel_bytes = llv_panel_bytes(columns, group, bits);
  uint8_t *codes = malloc(row_bytes * n), *panel = malloc(2 * panel_bytes), *xc = malloc(m * places), *levels = malloc(groups * OUTPUTS);
  float xs[MOST_ROWS], sums[MOST_ROWS];
  int32_t starts[MOST_ROWS];
  for (size_t i = 0; i < m * columns; i++) x[i] = kind % 2 ? (next() % 2 ? 1 : -1) : uniform();
  for (size_t i = 0; i < row_bytes * n; i++) codes[i] = kind % 2 ? (next() % 2 ? 0xFF : 0x00) : (uint8_t)next();
  for (size_t i = 0; i < groups * OUTPUTS; i++)
    do levels[i] = kind % 2 ? (next() % 2 ? 0x8F : 0x7F) : (uint8_t)next();
    while (llv_first_bad_step(levels + i, 1, bits) == 0);
  for (size_t j = 0; j < OUTPUTS; j++) scales[j] = uniform();
  for (size_t i = 0; i < m; i++)
    llv_quantize_row(x + i * columns, columns, columns, llv_code_bias(8), 128, xc + i * places, xs + i, starts + i, sums + i);
  for (size_t first = 0; first < n; first += LLV_PANEL)
    llv_pack_panel(codes + first * row_bytes, row_bytes, least(n - first, LLV_PANEL), columns, group, bits, 1, panel + first / LLV_PANEL * panel_bytes);
  void *working = malloc(llv_int8_working(columns, group));
  llv_int8_panel w = {panel, scales, 0, columns, group, bits, 128, levels};
  llv_codes given = {xc, xs, starts, sums};
  llv_output out = {.n = n, .y = y, .stride = n};
  llv_gemm_int8(&given, m, &w, working, &out);
  free(codes), free(panel), free(xc), free(levels), free(working);
}

static void product_f32(size_t m, size_t columns, size_t n, float *y) {
  static float x[MOST_ROWS * MOST_COLUMNS], w[OUTPUTS * MOST_COLUMNS], panel[OUTPUTS * MOST_COLUMNS];
  for (size_t i = 0; i < m * columns; i++) x[i] = uniform();
  for (size_t i = 0; i < n * columns; i++) w[i] = uniform();
  for (size_t first = 0; first < n; first += LLV_PANEL)
    llv_pack_panel_f32(w + first * columns, columns, least(n - first, LLV_PANEL), columns, panel + first * columns);
  llv_output out = {.n = n, .y = y, .stride = n};
  llv_gemm_f32(x, columns, m, columns, panel, &out);
}

static void product_bf16(size_t m, size_t columns, size_t n, float *y) {
  size_t places = llv_bf16_places(columns);
  static float x[MOST_ROWS * (MOST_COLUMNS + 1)];
  static uint16_t w[OUTPUTS * MOST_COLUMNS], panel[OUTPUTS * (MOST_COLUMNS + 1)];
  float row[MOST_COLUMNS];
  for (size_t i = 0; i < m; i++) {
    for (size_t k = 0; k < columns; k++) row[k] = uniform();
    llv_round_row_bf16(row, columns, (char *)x + i * llv_bf16_row_bytes(columns));
  }
  for (size_t i = 0; i < n * columns; i++) w[i] = (uint16_t)(0x3C00 + next() % 0x400 + next() % 2 * 0x8000);
  for (size_t first = 0; first < n; first += LLV_PANEL)
    llv_pack_panel_bf16(w + first * columns, least(n - first, LLV_PANEL), columns, panel + first * places);
  void *working = malloc(llv_bf16_working(columns));
  llv_output out = {.n = n, .y = y, .stride = n};
  llv_gemm_bf16(x, m, columns, panel, working, &out);
  free(working);
}

// Rows that stand anywhere in the last part, each of which sees one key at least.
static llv_sight sight(size_t m, size_t prefix, size_t own, int causal) {
  return (llv_sight){.at = prefix + next() % (own - m + 1), .causal = causal, .window = next() % 2 ? 1 + next() % 200 : 0};
}

static void attention(size_t m, size_t d, size_t prefix, size_t own, int causal, float *y) {
  static float q[MOST_ROWS * 128], keys[2][512 * 128], values[2][512 * 128], scratch[48 * 512];
  for (size_t i = 0; i < m * d; i++) q[i] = uniform();
  for (int part = 0; part < 2; part++)
    for (size_t i = 0; i < 512 * 128; i++) keys[part][i] = uniform(), values[part][i] = uniform();
  llv_attention_keys parts[] = {{keys[0], values[0], prefix}, {keys[1], values[1], own}};
  if (llv_attention_scratch(d) > sizeof scratch / 4) abort();
  static float biases[2 * 1024];
  for (size_t i = 0; i < 2 * 1024; i++) biases[i] = uniform();
  llv_sight seen = sight(m, prefix, own, causal);
  if (next() % 2) seen.bias = biases + 1024;
  llv_attention(prefix ? parts : parts + 1, prefix ? 2 : 1, q, d, m, d, 0.2f, seen, scratch, y, d);
}

// Of numbers of every size, with keys and values whose means are far from zero.
static void attention_int8(size_t m, size_t d, size_t prefix, size_t own, int causal, float *y) {
  static float q[MOST_ROWS * 128], keys[512 * 128], values[512 * 128];
  llv_attention_codes parts[2] = {{0, prefix}, {0, own}};
  for (size_t i = 0; i < m * d; i++) q[i] = 3 * uniform();
  for (int part = 0; part < 2; part++) {
    for (size_t i = 0; i < 512 * 128; i++) keys[i] = uniform() + (float)(i % 5), values[i] = uniform() * (float)(i % 7);
    void *packed = malloc(llv_attention_int8_bytes(parts[part].count, d));
    llv_pack_attention_int8(keys, d, values, d, parts[part].count, d, packed);
    parts[part].packed = packed;
  }
  void *scratch = malloc(llv_attention_int8_scratch(d));
  llv_attention_int8(prefix ? parts : parts + 1, prefix ? 2 : 1, q, d, m, d, 0.2f, sight(m, prefix, own, causal), scratch, y, d);
  free((void *)parts[0].packed), free((void *)parts[1].packed), free(scratch);
}

// Every set that the kernels tell apart here, plain C first.
static unsigned sets[LLV_CPU_ALL + 1];
static size_t set_count;

static void find_sets(void) {
  for (unsigned set = 0; set <= LLV_CPU_ALL; set++) {
    if (set & LLV_CPU_SHA) continue;
    llv_cpu_allow(set);
    unsigned found = llv_cpu_features();
    size_t i = 0;
    while (i < set_count && sets[i] != found) i++;
    if (i == set_count) sets[set_count++] = found;
  }
}

static void describe(unsigned set, char *text) {
  strcpy(text, set ? "" : "plain C");
  for (unsigned feature = 1; feature < LLV_CPU_ALL; feature *= 2)
    if (set & feature) strcat(strcat(text, *text ? " + " : ""), llv_cpu_name(feature));
}

int main(int count, char **words) {
  find_sets();
  static float plain[MOST_ROWS * OUTPUTS], found[MOST_ROWS * OUTPUTS];
  for (int round = 0; round < 400; round++) {
    size_t m = 1 + next() % MOST_ROWS, columns = 1 + next() % MOST_COLUMNS, n = next() % 2 ? OUTPUTS : 1 + next() % OUTPUTS;
    size_t group = next() % 3 == 0 ? columns : 1 + next() % columns;
    if (round % 4 == 0) columns = 32 * (1 + next() % 6), group = 32;
    int bits = next() % 2 ? 8 : 2 + (int)(next() % 3), affine = next() % 2, kind = (int)(next() % 4);
    uint64_t seed = state;
    char what[100];
    snprintf(what, sizeof what, "int%d%s %zu x %zu x %zu, groups of %zu", bits, affine ? " affine" : "", m, columns, n, group);
    for (size_t i = 0; i < set_count; i++) {
      llv_cpu_allow(sets[i]), state = seed;
      product_int8(bits, affine, m, columns, group, n, kind, sets[i] ? found : plain);
      compare(what, sets[i], sets[i] ? found : plain, plain, m * n);
    }
    size_t levelled = columns >= 8 ? 8 * (1 + next() % (columns / 8)) : 0;
    bits = 2 + (int)(next() % 3);
    snprintf(what, sizeof what, "int%d, groups in two levels", bits);
    seed = state;
    for (size_t i = 0; i < set_count && levelled; i++) {
      llv_cpu_allow(sets[i]), state = seed;
      product_levels(bits, m, columns, levelled, n, kind, sets[i] ? found : plain);
      compare(what, sets[i], sets[i] ? found : plain, plain, m * n);
    }
    seed = state;
    for (size_t i = 0; i < set_count; i++) {
      llv_cpu_allow(sets[i]), state = seed;
      product_f32(m, columns, n, sets[i] ? found : plain);
      compare("float product", sets[i], sets[i] ? found : plain, plain, m * n);
    }
    for (size_t i = 0; i < set_count; i++) {
      llv_cpu_allow(sets[i]), state = seed;
      product_bf16(m, columns, n, sets[i] ? found : plain);
      compare("bf16 product", sets[i], sets[i] ? found : plain, plain, m * n);
    }
    if (round % 8) continue;
    static float before[MOST_ROWS * 128], after[MOST_ROWS * 128];
    size_t d = (size_t[]){32, 64, 72, 128, 5}[next() % 5], prefix = next() % 2 ? 1 + next() % 300 : 0, own = m + next() % 300;
    seed = state;
    for (size_t i = 0; i < set_count; i++) {
      llv_cpu_allow(sets[i]), state = seed;
      attention(m, d, prefix, own, affine, sets[i] ? after : before);
      compare("attention", sets[i], sets[i] ? after : before, before, m * d);
    }
    for (size_t i = 0; i < set_count; i++) {
      llv_cpu_allow(sets[i]), state = seed;
      attention_int8(m, d, prefix, own, affine, sets[i] ? after : before);
      compare("attention by integers", sets[i], sets[i] ? after : before, before, m * d);
    }
  }
  char all[200];
  for (size_t i = 0; i < set_count; i++) describe(sets[i], all), printf("%s%s", i ? "; " : "sets: ", all);
  printf("\n%d comparisons, %d failures, plain results %016llx\n", checks, failures, (unsigned long long)hash);
  // The last set is all that this processor has.
  if (count > 1 && strcmp(words[1], all)) return printf("FAIL found %s, expected %s\n", all, words[1]), 1;
  return failures > 0;
}
