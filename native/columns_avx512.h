// Sixteen floats or eight doubles, squeezed and spread by the machine's own instructions. For AVX-512 alone.
#pragma once

#include <immintrin.h>

#include "columns.h"

namespace thinned {
namespace {

struct SixteenFloats {
  static constexpr int lanes = 16;
  static constexpr uint32_t mask(int n) { return (1u << n) - 1; }
  static int count(uint32_t bits) { return _mm_popcnt_u32(bits); }
  static __m512 all(float s) { return _mm512_set1_ps(s); }
  static __m512 load(const float* x) { return _mm512_loadu_ps(x); }
  static __m512 load(const float* x, int n) { return _mm512_maskz_loadu_ps(__mmask16(mask(n)), x); }
  static void store(float* out, __m512 v) { _mm512_storeu_ps(out, v); }
  static void store(float* out, __m512 v, int n) { _mm512_mask_storeu_ps(out, __mmask16(mask(n)), v); }
  static __m512 times(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
  static __m512 squeezed(__m512 v, uint32_t bits) { return _mm512_maskz_compress_ps(__mmask16(bits), v); }
  static __m512 spread(__m512 v, uint32_t bits) { return _mm512_maskz_expand_ps(__mmask16(bits), v); }
  static __m512 plus(__m512 to, __m512 v, uint32_t bits) { return _mm512_mask_add_ps(to, __mmask16(bits), to, v); }
};

struct EightDoubles {
  static constexpr int lanes = 8;
  static constexpr uint32_t mask(int n) { return (1u << n) - 1; }
  static int count(uint32_t bits) { return _mm_popcnt_u32(bits); }
  static __m512d all(double s) { return _mm512_set1_pd(s); }
  static __m512d load(const double* x) { return _mm512_loadu_pd(x); }
  static __m512d load(const double* x, int n) { return _mm512_maskz_loadu_pd(__mmask8(mask(n)), x); }
  static void store(double* out, __m512d v) { _mm512_storeu_pd(out, v); }
  static void store(double* out, __m512d v, int n) { _mm512_mask_storeu_pd(out, __mmask8(mask(n)), v); }
  static __m512d times(__m512d a, __m512d b) { return _mm512_mul_pd(a, b); }
  static __m512d squeezed(__m512d v, uint32_t bits) { return _mm512_maskz_compress_pd(__mmask8(bits), v); }
  static __m512d spread(__m512d v, uint32_t bits) { return _mm512_maskz_expand_pd(__mmask8(bits), v); }
  static __m512d plus(__m512d to, __m512d v, uint32_t bits) { return _mm512_mask_add_pd(to, __mmask8(bits), to, v); }
};

struct Avx512Columns : VectorColumns<SixteenFloats, EightDoubles> {};

}  // namespace
}  // namespace thinned
