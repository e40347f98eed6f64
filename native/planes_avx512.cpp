// Planes with AVX-512.
#include "planes.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "floats_avx512.h"
#include "planes_kernel.h"

namespace thinned {
namespace {

struct Sixteen : Avx512Floats {
  using Mask = __mmask16;
  using Avx512Floats::load;
  using Avx512Floats::store;
  static Mask mask(const int32_t* lanes) { return _mm512_movepi32_mask(_mm512_loadu_si512(lanes)); }
  static Mask between(int first, int end) { return Mask(((1u << end) - 1) & ~((1u << first) - 1)); }
  static V load(const float* x, Mask mask) { return _mm512_maskz_loadu_ps(mask, x); }
  static void store(float* x, V v, int n) { _mm512_mask_storeu_ps(x, __mmask16((1u << n) - 1), v); }
  static float sum(V v) { return _mm512_reduce_add_ps(v); }
  static void add_up(const float* sums, float* out) {
    const __m256 first = _mm256_hadd_ps(half(sums), half(sums + 16)), last = _mm256_hadd_ps(half(sums + 32), half(sums + 48));
    const __m256 all = _mm256_hadd_ps(first, last);
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
  }

 private:
  static __m256 half(const float* x) { return _mm256_add_ps(_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)); }
};

}  // namespace

const PlaneKernels* avx512_planes() { return planes_table<Sixteen>(); }

}  // namespace thinned

#else
namespace thinned {
const PlaneKernels* avx512_planes() { return nullptr; }
}  // namespace thinned
#endif
