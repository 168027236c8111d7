// The numeric inner loops. Pure functions of pointers and counts: no allocation, no I/O, no parsing, no errors.
// Swift has checked every length; all arrays are dense, row-major, in the machine's (little) byte order, and may be
// unaligned unless said otherwise. Loops are compiled for several instruction sets from one source and chosen at run
// time by what the processor has; results do not depend on the choice unless a comment gives a bound.
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stddef.h>
#include <stdint.h>

// Which instruction set the loops may use: 0 plain C, 1 AVX2 + FMA + F16C. `llv_cpu_limit` lowers it, for tests.
int llv_cpu_level(void);
void llv_cpu_limit(int level);

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

// Exact widening; NaN payloads are kept.
void llv_bf16_to_f32(const void *source, float *target, size_t count);
void llv_f16_to_f32(const void *source, float *target, size_t count);
float llv_half_to_float(uint16_t half);
// Nearest, ties to even; overflow to infinity.
uint16_t llv_half_from_float(float value);

// quantize.c --------------------------------------------------------------------------------------------------------

// One row of grouped integers to floats: `code * scale`, or `code * scale + zero` where `affine`. `bits` is 8 or 4 (low
// half of a byte first); codes are signed unless `affine`. scales, zeros: [ceil(columns / group)].
void llv_dequantize_row(const void *codes, const float *scales, const float *zeros, size_t columns, size_t group,
                        int bits, int affine, float *target);

#endif
