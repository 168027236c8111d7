#include "internal.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

// XXH64 -------------------------------------------------------------------------------------------------------------

static const uint64_t P1 = 0x9E3779B185EBCA87u, P2 = 0xC2B2AE3D27D4EB4Fu, P3 = 0x165667B19E3779F9u,
                      P4 = 0x85EBCA77C2B2AE63u, P5 = 0x27D4EB2F165667C5u;

LLV_INLINE uint64_t rotl(uint64_t x, int r) { return x << r | x >> (64 - r); }
LLV_INLINE uint64_t load64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }
LLV_INLINE uint32_t load32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
LLV_INLINE uint64_t round64(uint64_t lane, uint64_t input) { return rotl(lane + input * P2, 31) * P1; }
LLV_INLINE uint64_t merge(uint64_t h, uint64_t lane) { return (h ^ round64(0, lane)) * P1 + P4; }

void llv_xxh64_start(llv_xxh64_state *state, uint64_t seed) {
  state->lane[0] = seed + P1 + P2;
  state->lane[1] = seed + P2;
  state->lane[2] = seed;
  state->lane[3] = seed - P1;
}

void llv_xxh64_stripes(llv_xxh64_state *state, const uint8_t *data, size_t stripes) {
  // Bytes ahead: what comes from memory then takes as long as what lies in a cache, 11.2 GB/s in the place of 6.7 on an
  // Intel Xeon of Emerald Rapids.
  enum { AHEAD = 4096 };
  uint64_t a = state->lane[0], b = state->lane[1], c = state->lane[2], d = state->lane[3];
  for (size_t i = 0; i < stripes; i++, data += 32) {
    __builtin_prefetch(data + AHEAD);
    a = round64(a, load64(data));
    b = round64(b, load64(data + 8));
    c = round64(c, load64(data + 16));
    d = round64(d, load64(data + 24));
  }
  state->lane[0] = a, state->lane[1] = b, state->lane[2] = c, state->lane[3] = d;
}

uint64_t llv_xxh64_finish(const llv_xxh64_state *state, uint64_t seed, const uint8_t *tail, uint64_t total) {
  const uint64_t *v = state->lane;
  uint64_t h = seed + P5;
  if (total >= 32) {
    h = rotl(v[0], 1) + rotl(v[1], 7) + rotl(v[2], 12) + rotl(v[3], 18);
    for (int i = 0; i < 4; i++) h = merge(h, v[i]);
  }
  h += total;
  size_t left = total % 32;
  for (; left >= 8; left -= 8, tail += 8) h = rotl(h ^ round64(0, load64(tail)), 27) * P1 + P4;
  for (; left >= 4; left -= 4, tail += 4) h = rotl(h ^ load32(tail) * P1, 23) * P2 + P3;
  for (; left > 0; left--, tail++) h = rotl(h ^ *tail * P5, 11) * P1;
  h = (h ^ h >> 33) * P2;
  h = (h ^ h >> 29) * P3;
  return h ^ h >> 32;
}

// SHA-256 -----------------------------------------------------------------------------------------------------------

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

LLV_INLINE uint32_t rotr(uint32_t x, int r) { return x >> r | x << (32 - r); }

static void sha256_plain(uint32_t *state, const uint8_t *data, size_t blocks) {
  for (; blocks > 0; blocks--, data += 64) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) w[i] = __builtin_bswap32(load32(data + 4 * i));
    for (int i = 16; i < 64; i++) {
      uint32_t s0 = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
      uint32_t s1 = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
      uint32_t t1 =
          s[7] + (rotr(s[4], 6) ^ rotr(s[4], 11) ^ rotr(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) + K[i] + w[i];
      uint32_t t2 = (rotr(s[0], 2) ^ rotr(s[0], 13) ^ rotr(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = s[3] + t1;
      s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) state[i] += s[i];
  }
}

#if defined(__x86_64__)
// Two rounds per SHA256RNDS2; the state is kept as the pairs ABEF and CDGH that the instruction works on.
__attribute__((target("sha,sse4.1,ssse3"))) static void sha256_ni(uint32_t *state, const uint8_t *data, size_t blocks) {
  const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  __m128i dcba = _mm_loadu_si128((const __m128i *)state), hgfe = _mm_loadu_si128((const __m128i *)(state + 4));
  __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1), efgh = _mm_shuffle_epi32(hgfe, 0x1B);
  __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
  for (; blocks > 0; blocks--, data += 64) {
    __m128i abef0 = abef, cdgh0 = cdgh, m[4];
    for (int i = 0; i < 4; i++) m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), swap);
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) {
      __m128i wk = _mm_add_epi32(m[i & 3], _mm_loadu_si128((const __m128i *)(K + 4 * i)));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0E));
      if (i < 12) {
        __m128i next = _mm_sha256msg1_epu32(m[i & 3], m[(i + 1) & 3]);
        next = _mm_add_epi32(next, _mm_alignr_epi8(m[(i + 3) & 3], m[(i + 2) & 3], 4));
        m[i & 3] = _mm_sha256msg2_epu32(next, m[(i + 3) & 3]);
      }
    }
    abef = _mm_add_epi32(abef, abef0);
    cdgh = _mm_add_epi32(cdgh, cdgh0);
  }
  __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}
#endif

void llv_sha256_blocks(uint32_t *state, const uint8_t *data, size_t blocks) {
#if defined(__x86_64__)
  if (llv_cpu_has(LLV_CPU_SHA)) {
    sha256_ni(state, data, blocks);
    return;
  }
#endif
  sha256_plain(state, data, blocks);
}
