// Planes with AVX2 and FMA.
#include "planes.h"

#if defined(__AVX2__) && (defined(__FMA__) || defined(_MSC_VER))
#include "floats_avx2.h"
#include "planes_kernel.h"

namespace thinned {
namespace {

alignas(32) const int32_t kEdge[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};

struct Eight : Avx2Floats {
  using Mask = __m256i;
  using Avx2Floats::load;
  using Avx2Floats::store;
  static Mask mask(const int32_t* lanes) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(lanes)); }
  static Mask between(int first, int end) {
    return _mm256_andnot_si256(mask(kEdge + 8 - first), mask(kEdge + 8 - end));
  }
  static V load(const float* x, Mask mask) { return _mm256_maskload_ps(x, mask); }
  static void store(float* x, V v, int n) { _mm256_maskstore_ps(x, mask(kEdge + 8 - n), v); }
  static float sum(V v) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
  }
  static void add_up(const float* sums, float* out) {
    for (int k = 0; k < vectors; ++k) out[k] = sum(load(sums + k * lanes));
  }
};

}  // namespace

const PlaneKernels* avx2_planes() { return planes_table<Eight>(); }

}  // namespace thinned

#else
namespace thinned {
const PlaneKernels* avx2_planes() { return nullptr; }
}  // namespace thinned
#endif
