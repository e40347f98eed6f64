// Products with AVX2 and FMA.
#include "products.h"

#if defined(__AVX2__) && (defined(__FMA__) || defined(_MSC_VER))
#include "floats_avx2.h"
#include "products_kernel.h"

namespace thinned {
namespace {

struct Eight : Avx2Floats {
  // Eight rows of eight, turned: pairs, fours, then halves of vectors change places.
  static void turn(const float* x, int64_t row, float* out, int64_t out_row) {
    __m256 a[8], b[8];
    THINNED_UNROLL
    for (int i = 0; i < 8; ++i) a[i] = load(x + i * row);
    THINNED_UNROLL
    for (int i = 0; i < 4; ++i) {
      b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
      b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
    THINNED_UNROLL
    for (int i = 0; i < 2; ++i) {
      a[4 * i] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0x44);
      a[4 * i + 1] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0xee);
      a[4 * i + 2] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0x44);
      a[4 * i + 3] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0xee);
    }
    THINNED_UNROLL
    for (int i = 0; i < 4; ++i) {
      store(out + i * out_row, _mm256_permute2f128_ps(a[i], a[4 + i], 0x20));
      store(out + (4 + i) * out_row, _mm256_permute2f128_ps(a[i], a[4 + i], 0x31));
    }
  }
};

}  // namespace

const Products* avx2_products() { return products_table<Eight>(); }

}  // namespace thinned

#else
namespace thinned {
const Products* avx2_products() { return nullptr; }
}  // namespace thinned
#endif
