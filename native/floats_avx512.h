// Sixteen floats as templates over an instruction set take them: products go by blocks of 6 by 64 accumulators.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace thinned {
namespace {

struct Avx512Floats {
  using V = __m512;
  static constexpr int lanes = 16, rows = 6, vectors = 4;

  static V load(const float* x) { return _mm512_loadu_ps(x); }
  static void store(float* x, V v) { _mm512_storeu_ps(x, v); }
  static V set(float x) { return _mm512_set1_ps(x); }
  static V zero() { return _mm512_setzero_ps(); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static V max(V a, V b) { return _mm512_max_ps(a, b); }  // b where either is NaN
  static V round(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static V scaled(V p, V whole, V x) {
    const __mmask16 some = _mm512_cmp_ps_mask(x, set(-126.0f), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(some, p, whole);
  }
  static V kept(const uint8_t* keep, V v) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(keep));
    return _mm512_maskz_mov_ps(_mm_test_epi8_mask(bytes, bytes), v);
  }
};

}  // namespace
}  // namespace thinned
