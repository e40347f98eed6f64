// Eight floats, or four doubles as pairs of them, squeezed and spread by a table of permutations. For AVX2 alone.
#pragma once

#include <immintrin.h>

#include "columns.h"

namespace thinned {
namespace {

struct Permutations {
  uint8_t squeeze[256][8];  // where the lane's element stands
  uint8_t spread[256][8];   // likewise; 0x80 where the lane has none
};

constexpr Permutations permutations() {
  Permutations made{};
  for (int bits = 0; bits < 256; ++bits) {
    int next = 0;
    for (int lane = 0; lane < 8; ++lane) {
      const bool kept = bits >> lane & 1;
      made.spread[bits][lane] = uint8_t(kept ? next : 0x80);
      if (kept) made.squeeze[bits][next++] = uint8_t(lane);
    }
  }
  return made;
}
constexpr Permutations kPermutations = permutations();

inline __m256i lanes_of(const uint8_t* bytes) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

// The first n of eight 32-bit lanes.
inline __m256i first(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

struct EightFloats {
  static constexpr int lanes = 8;
  static constexpr uint32_t mask(int n) { return (1u << n) - 1; }
  static int count(uint32_t bits) { return _mm_popcnt_u32(bits); }
  static __m256 all(float s) { return _mm256_set1_ps(s); }
  static __m256 load(const float* x) { return _mm256_loadu_ps(x); }
  static __m256 load(const float* x, int n) { return _mm256_maskload_ps(x, first(n)); }
  static void store(float* out, __m256 v) { _mm256_storeu_ps(out, v); }
  static void store(float* out, __m256 v, int n) { _mm256_maskstore_ps(out, first(n), v); }
  static __m256 times(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
  static __m256 squeezed(__m256 v, uint32_t bits) {
    return _mm256_permutevar8x32_ps(v, lanes_of(kPermutations.squeeze[bits]));
  }
  static __m256 spread(__m256 v, uint32_t bits) {
    const __m256i lanes = lanes_of(kPermutations.spread[bits]);
    const __m256 none = _mm256_castsi256_ps(_mm256_srai_epi32(lanes, 31));
    return _mm256_andnot_ps(none, _mm256_permutevar8x32_ps(v, lanes));
  }
  static __m256 plus(__m256 to, __m256 v, uint32_t bits) {
    return _mm256_blendv_ps(_mm256_add_ps(to, v), to, _mm256_castsi256_ps(lanes_of(kPermutations.spread[bits])));
  }
};

struct FourDoubles {
  static constexpr int lanes = 4;
  static constexpr uint32_t mask(int n) { return EightFloats::mask(n); }
  static int count(uint32_t bits) { return EightFloats::count(bits); }
  static uint32_t pairs(uint32_t bits) {
    constexpr uint8_t twice[16] = {0x00, 0x03, 0x0c, 0x0f, 0x30, 0x33, 0x3c, 0x3f,
                                   0xc0, 0xc3, 0xcc, 0xcf, 0xf0, 0xf3, 0xfc, 0xff};
    return twice[bits];
  }
  static __m256d all(double s) { return _mm256_set1_pd(s); }
  static __m256d load(const double* x) { return _mm256_loadu_pd(x); }
  static __m256d load(const double* x, int n) { return _mm256_maskload_pd(x, first(2 * n)); }
  static void store(double* out, __m256d v) { _mm256_storeu_pd(out, v); }
  static void store(double* out, __m256d v, int n) { _mm256_maskstore_pd(out, first(2 * n), v); }
  static __m256d times(__m256d a, __m256d b) { return _mm256_mul_pd(a, b); }
  static __m256d squeezed(__m256d v, uint32_t bits) {
    return _mm256_castps_pd(EightFloats::squeezed(_mm256_castpd_ps(v), pairs(bits)));
  }
  static __m256d spread(__m256d v, uint32_t bits) {
    return _mm256_castps_pd(EightFloats::spread(_mm256_castpd_ps(v), pairs(bits)));
  }
  static __m256d plus(__m256d to, __m256d v, uint32_t bits) {
    const __m256i lanes = lanes_of(kPermutations.spread[pairs(bits)]);
    return _mm256_blendv_pd(_mm256_add_pd(to, v), to, _mm256_castsi256_pd(lanes));
  }
};

struct Avx2Columns : VectorColumns<EightFloats, FourDoubles> {};

}  // namespace
}  // namespace thinned
