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
};

}  // namespace

const PlaneKernels* avx512_planes() { return planes_table<Sixteen>(); }

}  // namespace thinned

#else
namespace thinned {
const PlaneKernels* avx512_planes() { return nullptr; }
}  // namespace thinned
#endif
