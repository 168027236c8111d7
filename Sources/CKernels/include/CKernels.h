// The numeric inner loops. Pure functions of pointers and counts: no allocation, no I/O, no parsing, no errors.
// Swift has checked every length; all arrays are dense, row-major, in the machine's (little) byte order, and may be
// unaligned unless said otherwise. Loops are compiled for several instruction sets from one source and chosen at run
// time by what the processor has; results do not depend on the choice unless a comment gives a bound.
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stddef.h>
#include <stdint.h>

// What the loops may use beyond plain C. A set, not a ladder: AVX-512 with VNNI does not bring AVX-VNNI. AVX2 stands
// for AVX2, FMA and F16C together; AVX-512 for F, BW and VL, and it and AVX-VNNI count only beside AVX2, VNNI and BF16
// only beside AVX-512.
enum {
  LLV_CPU_AVX2 = 1,
  LLV_CPU_AVX_VNNI = 2,
  LLV_CPU_AVX512 = 4,
  LLV_CPU_AVX512_VNNI = 8,
  LLV_CPU_AVX512_BF16 = 16,
  LLV_CPU_SHA = 32,
  LLV_CPU_DOT_PRODUCT = 64,
  LLV_CPU_I8MM = 128,
  // AVX512-BF16's instruction is no faster than Float32's two of the same products, as measured when first asked.
  LLV_CPU_SLOW_BF16 = 256,
  LLV_CPU_ALL = 511,
};
unsigned llv_cpu_features(void);
// Takes away what is not in `features`, for the calling thread: for tests.
void llv_cpu_allow(unsigned features);
// A single feature's name for people; null for a number that is none.
const char *llv_cpu_name(unsigned feature);

// hash.c ------------------------------------------------------------------------------------------------------------

// XXH64 (Yann Collet, xxHash specification 0.2.0), streamed in stripes of 32 bytes.
typedef struct { uint64_t lane[4]; } llv_xxh64_state;
void llv_xxh64_start(llv_xxh64_state *state, uint64_t seed);
void llv_xxh64_stripes(llv_xxh64_state *state, const uint8_t *data, size_t stripes);
// `tail` is the last `total % 32` bytes; `total` counts every byte hashed.
uint64_t llv_xxh64_finish(const llv_xxh64_state *state, uint64_t seed, const uint8_t *tail, uint64_t total);

// SHA-256 (FIPS 180-4): `state` is [8], advanced over `blocks` blocks of 64 bytes.
void llv_sha256_blocks(uint32_t *state, const uint8_t *data, size_t blocks);

// convert.c ---------------------------------------------------------------------------------------------------------

// `count` elements of `width` bytes to `width` planes of `count` bytes, and back.
void llv_planes_split(const void *source, void *target, size_t count, size_t width);
void llv_planes_join(const void *source, void *target, size_t count, size_t width);

// `count` elements of `size` bytes, side by side, to every `stride`-th of target, and back.
void llv_spread(const void *source, size_t count, size_t size, size_t stride, void *target);
void llv_gather(const void *source, size_t count, size_t size, size_t stride, void *target);

// Exact widening; NaN payloads are kept.
void llv_bf16_to_f32(const void *source, float *target, size_t count);
void llv_f16_to_f32(const void *source, float *target, size_t count);
float llv_half_to_float(uint16_t half);
// Nearest, ties to even; overflow to infinity.
uint16_t llv_half_from_float(float value);
// The same for arrays; NaN stays NaN, made quiet.
void llv_f32_to_f16(const float *source, void *target, size_t count);
void llv_f32_to_bf16(const float *source, void *target, size_t count);

// quantize.c --------------------------------------------------------------------------------------------------------

// One row of grouped integers to floats: `code * scale`, or `code * scale + zero` where `affine`. codes of 8, 4, 3 or
// 2 bits lie one after the other, earlier ones in lower bits, and are signed unless `affine`. scales, zeros:
// [ceil(columns / group)].
void llv_dequantize_row(const void *codes, const float *scales, const float *zeros, size_t columns, size_t group,
                        int bits, int affine, float *target);

typedef struct {
  double error, squares, largest;  // sum of (w - decoded)^2, sum of w^2, largest |w - decoded|
  uint64_t clamped, vanished,
      overflowed;  // elements outside the codes; groups with scale 0, with infinite scale or zero
} llv_loss;

// Searches step (and zero, where `affine`) of `count` groups of `n` elements, `stride` elements apart in w, and encodes
// them: codes one byte each, `stride` apart like w; scales and zeros in half precision, `scale_stride` apart. The
// search tries a grid of steps, solves for the least-squares step and zero of each one's codes (as llama.cpp's
// make_qx_quants and make_qkx3_quants do), and refits the best twice; codes are then nearest under the *stored* scale
// and zero. w is finite. scratch: [8 n], aligned to 32 bytes. `loss` is added to. The result does not depend on the
// instruction set, nor on which groups are passed together.
void llv_quantize_groups(const float *w, size_t stride, size_t count, size_t n, int bits, int affine, float *scratch,
                         uint8_t *codes, uint16_t *scales, uint16_t *zeros, size_t scale_stride, llv_loss *loss);
// One byte a code to codes of `bits`, one after the other, earlier ones in lower bits. target: [ceil(columns bits /
// 8)].
void llv_pack_codes(const uint8_t *codes, size_t columns, int bits, uint8_t *target);
// Stored codes of one row to one byte each, two's complement unless `affine`.
void llv_unpack_bytes(const void *codes, size_t columns, int bits, int affine, uint8_t *target);
// Index of the first NaN or infinity, `count` when there is none.
size_t llv_first_nonfinite(const float *x, size_t count);

// gptq.c ------------------------------------------------------------------------------------------------------------

// The step and zero of one group of n columns for `count` rows, as `llv_quantize_groups` searches them, with each
// squared error weighted by its column's importance (> 0) [n]; values of half precision, `scale_stride` apart. scratch:
// [8 n], aligned to 32 bytes.
void llv_search_steps(const float *w, size_t stride, size_t count, size_t n, int bits, int affine,
    const float *importance, float *scratch, float *scales, float *zeros, size_t scale_stride);
// GPTQ's column loop (Frantar et al. 2023, arXiv 2210.17323): n columns of `rows` rows, one after the other, become
// codes under their row's step and zero (values of IQ4_NL's table where `book`); the error over the diagonal of
// `factor`, the upper Cholesky factor of the inverse Hessian from these columns' place on, is taken from the `follow` -
// 1 columns after each, and left in `errors` for those beyond. w is changed; elements outside the codes are added to
// `clamped`.
void llv_gptq_columns(float *w, size_t stride, size_t rows, size_t n, const float *factor, size_t factor_stride,
    size_t follow, int bits, int affine, int book, const float *scales, const float *zeros, size_t scale_stride,
    uint8_t *codes, size_t code_stride, float *errors, size_t error_stride, uint64_t *clamped);

// descent.c ---------------------------------------------------------------------------------------------------------

// A row's values [columns] become better one after the other: each gets the code that costs least while the others
// stay. An error d costs d H d; moments: H, rows `stride` apart; gradient: H d, kept up to date, d what values are
// short of the weights. Groups are counted from `first` columns before. The number of codes that changed is added to
// `changes`.
void llv_descend_codes(const float *moments, size_t stride, size_t columns, size_t first, size_t group, int bits,
    int affine, int book, const float *scales, const float *zeros, uint8_t *codes, float *values, float *gradient,
    size_t *changes);
// The same for the step and zero of one group, the n columns from `first` on, whose codes stay: the best in half
// precision, or with row_scale above 0 the best whole ones of two levels.
void llv_descend_steps(const float *moments, size_t stride, size_t columns, size_t first, size_t n, int bits,
    int affine, float row_scale, float *scale, float *zero, const uint8_t *codes, float *values, float *gradient);

// One row's weights with `offsets` in steps added, to codes under the scales and zeros of its groups, and in `rest`
// what these are short of w. First each offset goes by `rate` up where the error's gradient times the scale is above 0,
// down where it is below, -0.5...0.5.
void llv_offset_codes(const float *w, size_t columns, size_t first, size_t group, int bits, int affine, int book,
                      const float *scales, const float *zeros, const float *gradient, float rate, float *offsets,
                      uint8_t *codes, float *rest);

// two_level.c -------------------------------------------------------------------------------------------------------

// Groups in two levels: an element is row_scale · step · (code · unit - zero), with a byte for each group, step - 1
// (steps are 1...16) in its low half and the zero (0...15) in the high half. unit is 1 where codes have 4 bits, 2 with
// 3 and 4 with 2. step · zero <= 128 and step · (largest code · unit - zero) <= 127.

// Index of the first byte that breaks these bounds, `count` when there is none.
size_t llv_first_bad_step(const uint8_t *steps, size_t count, int bits);
// Scales and zeros of [groups, rows] bytes, so that an element is code · scale + zero, exactly where row scales have
// half precision.
void llv_expand_steps(
    const uint8_t *steps, const float *row_scales, size_t groups, size_t rows, int bits, float *scales, float *zeros);
// A row of stored codes and its steps to the 8-bit codes that they stand for under the row's scale.
void llv_join_levels(const void *codes, const void *steps, size_t columns, size_t group, int bits, void *target);
// The bytes of a row's groups from what `llv_snap_steps` made.
void llv_join_steps(const float *scales, const float *zeros, float row_scale, size_t groups, int bits, uint8_t *steps);
// The scale of a row, w [columns], whose groups would have these steps and zeros at best: rounded up to seven
// significant bits, so that steps · scale are exact in half precision. 0 for a row of zeros.
float llv_row_scale(const float *scales, const float *zeros, size_t groups, int bits, const float *w, size_t columns);
// Steps and zeros of one group of n columns for `count` rows, as `llv_search_steps` left them, to the best near them
// that two levels hold under row_scales [count], `row_stride` apart (0: one for all). importance: [n], > 0. scratch: [8
// n], aligned to 32 bytes. The result does not depend on the instruction set.
void llv_snap_steps(const float *w, size_t stride, size_t count, size_t n, const float *importance,
    const float *row_scales, size_t row_stride, int bits, float *scratch, float *scales, float *zeros,
    size_t scale_stride);
// One row to codes [columns], a byte each, under the scales and zeros of its groups; values of IQ4_NL's table where
// `book`; `loss` is added to.
void llv_encode_row(const float *w, size_t columns, size_t group, int bits, int affine, int book, const float *scales,
                    const float *zeros, uint8_t *codes, llv_loss *loss);

// block_steps.c -----------------------------------------------------------------------------------------------------

// Of one row's block of Q2_K, Q3_K, Q4_K, Q5_K or Q6_K the scales d and least, of half precision, whose whole multiples
// come near these steps and (negated, none above 0) zeros, as `llv_search_steps` left them.
void llv_block_scales(int type, const float *scales, const float *zeros, size_t groups, float *d, float *least);
// Steps and zeros of one group of n columns for `count` rows to the best near them that the type holds under its rows'
// d and least [count], `d_stride` apart. importance: [n], > 0. scratch: [8 n], aligned to 32 bytes. The result does not
// depend on the instruction set.
void llv_snap_block(int type, const float *w, size_t stride, size_t count, size_t n, const float *importance,
    const float *d, const float *least, size_t d_stride, float *scratch, float *scales, float *zeros,
    size_t scale_stride);
// As `llv_search_steps`, for codes that are values of IQ4_NL's table.
void llv_search_book(const float *w, size_t stride, size_t count, size_t n, const float *importance, float *scratch,
    float *scales, size_t scale_stride);
// Steps and zeros of one group, as `llv_search_steps` left them for affine codes, to the best near them whose zero is
// minus a whole code times the step, which has half precision.
void llv_snap_whole(const float *w, size_t stride, size_t count, size_t n, int bits, const float *importance,
    float *scratch, float *scales, float *zeros, size_t scale_stride);

// ggml_unpack.c, ggml_join.c, ggml_pack.c
// ----------------------------------------------------------------------------------------

// ggml's numbers of the block types that are read.
enum {
  LLV_Q4_0 = 2, LLV_Q4_1 = 3, LLV_Q5_0 = 6, LLV_Q5_1 = 7, LLV_Q8_0 = 8, LLV_Q8_1 = 9, LLV_Q2_K = 10, LLV_Q3_K = 11,
  LLV_Q4_K = 12, LLV_Q5_K = 13, LLV_Q6_K = 14, LLV_Q8_K = 15, LLV_IQ4_NL = 20, LLV_IQ4_XS = 23, LLV_MXFP4 = 39,
};

// `count` blocks of `elements` elements to codes, one byte each, and a scale and a zero for each `group` of them, so
// that `code * scale + zero` is the element, bit for bit as gguf-py computes it (codes are signed, and zeros not
// written, for types without a minimum). The multi-byte fields of `big` blocks are big-endian.
void llv_ggml_unpack(int type, const void *blocks, size_t count, int big, size_t elements, size_t group, uint8_t *codes,
                     float *scales, float *zeros);

// Codes (one byte each, signed unless the type has a minimum) with half-precision scales and zeros to `count` blocks of
// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or IQ4_NL.
void llv_ggml_join(
    int type, const uint8_t *codes, const uint16_t *scales, const uint16_t *zeros, size_t count, void *target);
// Codes with the steps and zeros of their groups to blocks of Q2_K, Q3_K, Q4_K, Q5_K or Q6_K that hold them exactly.
// The place of the first block that cannot, `count` where all can.
size_t llv_ggml_join_super(
    int type, const uint8_t *codes, const float *scales, const float *zeros, size_t count, void *target);
// The place of the first code that the type does not have, `count` when there is none.
size_t llv_first_unfit_code(int type, const uint8_t *codes, size_t count);

// Weights to `count` blocks of IQ4_NL, Q2_K, Q3_K, Q4_K, Q5_K or Q6_K with the least squared error that a search finds:
// steps of the groups as in `llv_quantize_groups`, then the scales above them and the steps in turn, each solved for
// with the other held. w is finite. scratch: [256], aligned to 32 bytes. `loss` is added to, but for `clamped` and
// `vanished`.
void llv_ggml_pack(int type, const float *w, size_t count, float *scratch, void *target, llv_loss *loss);

// math.c ------------------------------------------------------------------------------------------------------------

// In place, element by element. Largest absolute errors are in Docs/reference/numerics.md and held by a test.
enum { LLV_GELU = 1, LLV_GELU_TANH, LLV_SILU, LLV_TANH, LLV_RELU, LLV_ADD, LLV_MULTIPLY };
void llv_activate(int kind, float *x, size_t count);
// (x - mean) / sqrt(variance + epsilon), mean 0 unless `centered`; times gain, plus bias where not null. x may be y.
void llv_norm_row(const float *x, size_t count, int centered, double epsilon, const float *gain, const float *bias,
                  float *y);
// x over its Euclidean length; zeros for a row of zeros. x may be y.
void llv_normalize_row(const float *x, size_t count, float *y);
// y[r] = x . rows[r], rows [count, width]. Products and lane sums in float, the lanes' sum in double.
void llv_dot_rows(const float *x, const float *rows, size_t count, size_t width, float *y);

// gradients.c -------------------------------------------------------------------------------------------------------

// Gradients by what an operation is made of, from those by its result. dy times the activation's slope at x, in place.
void llv_activate_gradient(int kind, const float *x, float *dy, size_t count);
// A row of scores to weights, in place; -INFINITY has none. At least one score is finite.
void llv_softmax_row(float *x, size_t count);
// From the gradient by weights p that by scores, in place.
void llv_softmax_gradient_row(const float *p, size_t count, float *dp);
// Of llv_norm_row; adds to dgain and dbias, where not null.
void llv_norm_gradient_row(
    const float *x, size_t count, int centered, double epsilon, const float *gain,
    const float *dy, float *dx, float *dgain, float *dbias);
// Of each group of a row the sum of x, and that of its products with w.
void llv_group_sums(const float *x, const float *w, size_t columns, size_t group, float *sums, float *products);
// Adds to sums x times its group's scale.
void llv_add_scaled(const float *x, const float *scales, size_t columns, size_t group, float *sums);

// A step of Adam: what stays of the running mean and mean square of gradients; the rate over the mean's bias; one over
// the root of the mean square's; what is added to its root.
typedef struct {
  float mean, square, factor, root, least;
} llv_adam;
// How far a latent may be from the code that it is rounded to, at the lowest code and the highest.
#define LLV_LATENT_REACH 0.49f
// Moves latents u, and leaves the codes that they are rounded to, in two's complement. A gradient that pushes a latent
// further out at the end of the codes counts as none.
void llv_move_latents(const llv_adam *adam, const float *gradient, size_t count, int lowest, int highest, float *u,
                      float *means, float *squares, uint8_t *codes);

// output.c ----------------------------------------------------------------------------------------------------------

// Outputs of a product that are computed together: the columns of a panel.
enum { LLV_PANEL = 16 };

// A step after a product: an activation of the list above, or LLV_ADD or LLV_MULTIPLY with `other`, rows `stride` apart
// (0: one row for all).
typedef struct { int kind; const float *other; size_t stride; } llv_step;
// Where a product goes: n columns of y, at most LLV_PANEL for each panel, rows `stride` apart. The bias (may be null)
// is added first, then come the steps in order, each rounded to Float32. `other` may be y.
typedef struct {
  const float *bias;
  const llv_step *steps;
  size_t step_count, n;
  float *y;
  size_t stride;
} llv_output;

// gemm_f32.c --------------------------------------------------------------------------------------------------------

// Up to LLV_PANEL rows of `columns` elements, `stride` apart, to a panel [columns, LLV_PANEL]; missing rows are zeros.
void llv_pack_panel_f32(const float *rows, size_t stride, size_t outputs, size_t columns, float *panel);
// The same for dense rows of half-precision elements.
void llv_pack_panel_16(const void *rows, size_t outputs, size_t columns, void *panel);
// x [rows, columns], rows `stride` apart, to y [columns, rows].
void llv_transpose(const float *x, size_t stride, size_t rows, size_t columns, float *y);
// out[i, j] = x[i] . panel's column j. x [m, columns], rows `stride` apart. Up to two panels, one after the other in
// memory, as out's n says. Fused multiply-adds in the order of the columns, so that every instruction set gives the
// same bits and a row does not depend on the others.
void llv_gemm_f32(const float *x, size_t stride, size_t m, size_t columns, const float *panel, const llv_output *out);

// bits.c ------------------------------------------------------------------------------------------------------------

// Products of vectors of bits, +1 where set and -1 where not: y[r, i] = columns - 2 (bits in which row r of x [m,
// words] and row i of a panel [words, LLV_PANEL] differ), rows of y `stride` apart. Exact up to 2^24 columns.
void llv_dot_bits(
    const uint64_t *x, size_t m, size_t words, size_t columns, const uint64_t *panel, float *y, size_t stride);

// gemm_bf16.c -------------------------------------------------------------------------------------------------------

// Columns filled up to pairs.
size_t llv_bf16_places(size_t columns);
// Up to LLV_PANEL dense rows of bf16 to a panel of pairs [places / 2][LLV_PANEL, 2]; missing rows are zeros.
void llv_pack_panel_bf16(const void *rows, size_t outputs, size_t columns, void *panel);
// The first `outputs` rows of such a panel.
void llv_unpack_panel_bf16(const void *panel, size_t outputs, size_t columns, void *rows);
// That panel to columns [columns, LLV_PANEL] of floats; where `swapped`, [places, LLV_PANEL] with the second of each
// pair first.
void llv_widen_panel_bf16(const void *panel, size_t columns, int swapped, float *target);
// Whether AVX512-BF16's instruction computes the products; otherwise Float32 arithmetic does, after each panel is
// widened.
int llv_takes_bf16(void);
// One row of activations to bf16: nearest, ties to even; magnitudes below 2^-126 become zero. target: as the products
// take it, [llv_bf16_row_bytes] bytes.
size_t llv_bf16_row_bytes(size_t columns);
void llv_round_row_bf16(const float *x, size_t columns, void *target);
// out[i, j] = x[i] . panel's column j. x: m such rows. Up to two panels, as above. Fused multiply-adds, pair after pair
// with the second of each first, which is what AVX512-BF16's instruction does (Intel's manual, VDPBF16PS): every
// instruction set gives the same bits but for weights and sums with magnitudes below 2^-126, which that instruction
// takes for zero. working: [llv_bf16_working] bytes, aligned to 4.
size_t llv_bf16_working(size_t columns);
void llv_gemm_bf16(const void *x, size_t m, size_t columns, const void *panel, void *working, const llv_output *out);

// gemm_int8.c -------------------------------------------------------------------------------------------------------

// What codes of activations that are to be multiplied with weights of `bits` are stored larger by: 128 where the
// processor wants them unsigned, else 0.
int llv_code_bias(int bits);
// Codes of a row: every group of the columns filled up to a multiple of four with zeros.
size_t llv_places(size_t columns, size_t group);
// One row of activations to codes -127...127, stored `bias` larger: scale = max |x| / 127 for each group, nearest, ties
// to even. For each group also what a product with codes that are larger by `offset` starts from, (bias - offset) times
// the sum of codes, and that sum times the scale. codes: [places]. scales, starts, sums: [ceil(columns / group)].
void llv_quantize_row(const float *x, size_t columns, size_t group, int bias, int offset, uint8_t *codes, float *scales,
                      int32_t *starts, float *sums);

// Stored codes of up to LLV_PANEL rows, `row_bytes` apart, to a panel: unsigned (half their range more where not
// affine), in blocks [places / 4][LLV_PANEL, 4]. Blocks of 8-bit codes have a byte each. Of 4-bit codes two successive
// blocks share their bytes, the first in the low halves; of 2-bit codes four, earlier ones in lower bits. Of 3-bit
// codes eight share three times as many: the lower two bits of each four as those of 2-bit codes, then the third bits,
// a bit each. Missing rows are zeros. panel: [llv_panel_bytes].
void llv_pack_panel(const void *codes, size_t row_bytes, size_t outputs, size_t columns, size_t group, int bits,
    int affine, uint8_t *panel);
size_t llv_panel_bytes(size_t columns, size_t group, int bits);
// The stored codes of the first `outputs` rows of such a panel; codes are or-ed into rows of zeros.
void llv_unpack_panel(const uint8_t *panel, size_t row_bytes, size_t outputs, size_t columns, size_t group, int bits,
    int affine, void *codes);

// One panel, or two: all that is of the second then lies behind what is of the first.
typedef struct {
  const void *codes;  // as llv_pack_panel makes them
  const float *scales, *zeros;  // [groups, LLV_PANEL]; zeros may be null
  size_t columns, group;
  int bits, offset;  // offset: what codes are larger by
  // [groups, LLV_PANEL] for groups in two levels, whose scales are then [LLV_PANEL], without zeros; null for others.
  // The product is that of 8-bit codes with a scale for a row: activations as `llv_quantize_row` makes them for one
  // group of all columns and an offset of 128.
  const uint8_t *steps;
} llv_int8_panel;
// Rows of activations: codes [m, places]; scales, starts (for the panel's offset) and sums [m, groups].
typedef struct { const void *codes; const float *scales; const int32_t *starts; const float *sums; } llv_codes;

// out[i, j] = sum over groups g of xs[i, g] ws[g, j] (starts[i, g] + sum of x codes times w codes) + zeros[g, j]
// sums[i, g]. Integer sums are exact (places times 127 * 255 below 2^31); groups are added in order with fused
// multiply-adds, so that every instruction set gives the same bits and a row does not depend on the others. working:
// [llv_int8_working] bytes, aligned to 4.
size_t llv_int8_working(size_t columns, size_t group);
void llv_gemm_int8(const llv_codes *x, size_t m, const llv_int8_panel *panel, void *working, const llv_output *out);
// The first panel's weights as floats [columns, LLV_PANEL]: (code - offset) * scale, plus zero where there are zeros.
// working as above.
void llv_dequantize_panel(const llv_int8_panel *panel, void *working, float *target);

// peak.c ------------------------------------------------------------------------------------------------------------

// The fastest that this processor's instructions for a kind of product can run, operands in registers: does `rounds` of
// a fixed number of them and returns how many multiplications with their additions that was; 0 where nobody wrote it
// down.
enum { LLV_PEAK_FLOAT, LLV_PEAK_INT8, LLV_PEAK_INT4, LLV_PEAK_BF16 };
double llv_peak(int kind, size_t rounds);

// attention.c -------------------------------------------------------------------------------------------------------

// Rows that are scored together, and keys of a block of scores.
enum { LLV_ATTENTION_QUERIES = 48, LLV_ATTENTION_KEYS = 128 };

// Keys in panels of LLV_PANEL rows [ceil(count / LLV_PANEL), d, LLV_PANEL], missing rows zeros; values in panels of
// columns [ceil(d / LLV_PANEL), count, LLV_PANEL], missing columns zeros.
typedef struct { const float *keys, *values; size_t count; } llv_attention_keys;

// What rows see of keys whose places are counted over all parts: row i stands at place `at + i`. With `causal` none
// after its own place; with a window above 0 those alone that are fewer places away. bias: null, or what is added to
// scores by the distance from row to key, of which it points at 0.
typedef struct { size_t at; int causal; size_t window; const float *bias; } llv_sight;

// y = softmax(scale q keys^T + bias) values for m <= LLV_ATTENTION_QUERIES rows of one head, over the keys of all
// parts; each row sees one at least. Scores are kept a block of keys at a time, with the largest score and the sum so
// far (Milakov and Gimelshein 2018); sums in double. Bits depend on the parts' counts and on the row's place, not on m.
// scratch: [llv_attention_scratch(d)].
void llv_attention(const llv_attention_keys *parts, size_t part_count, const float *q, size_t stride, size_t m,
    size_t d, float scale, llv_sight sight, float *scratch, float *y, size_t y_stride);
size_t llv_attention_scratch(size_t d);

// attention_int8.c --------------------------------------------------------------------------------------------------

// Keys and values of one head as 8-bit codes: keys less their mean, a scale each; values less their mean, a scale for
// each column. memory: [llv_attention_int8_bytes], aligned to 4.
size_t llv_attention_int8_bytes(size_t count, size_t d);
void llv_pack_attention_int8(
    const float *k, size_t k_stride, const float *v, size_t v_stride, size_t count, size_t d, void *memory);
typedef struct { const void *packed; size_t count; } llv_attention_codes;

// The same as llv_attention without a bias, by exact sums of 8-bit codes: of queries, a scale each; of weights, 0...127
// relative to the largest of 256 keys in a row. d <= 65,536. Every instruction set gives the same bits. scratch:
// [llv_attention_int8_scratch(d)] bytes.
void llv_attention_int8(const llv_attention_codes *parts, size_t part_count, const float *q, size_t stride, size_t m,
    size_t d, float scale, llv_sight sight, void *scratch, float *y, size_t y_stride);
size_t llv_attention_int8_scratch(size_t d);

#endif
