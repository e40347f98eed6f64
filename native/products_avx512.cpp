// Products with AVX-512.
#include "products.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include "floats_avx512.h"
#include "products_kernel.h"

namespace thinned {
namespace {

struct Sixteen : Avx512Floats {
  // Sixteen rows of sixteen, turned: pairs, fours, then quarters of vectors change places.
  static void turn(const float* x, int64_t row, float* out, int64_t out_row) {
    __m512 a[16], b[16];
    THINNED_UNROLL
    for (int i = 0; i < 16; ++i) a[i] = load(x + i * row);
    THINNED_UNROLL
    for (int i = 0; i < 8; ++i) {
      b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
      b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
    THINNED_UNROLL
    for (int i = 0; i < 4; ++i) {
      a[4 * i] = pairs<0x44>(b[4 * i], b[4 * i + 2]);
      a[4 * i + 1] = pairs<0xee>(b[4 * i], b[4 * i + 2]);
      a[4 * i + 2] = pairs<0x44>(b[4 * i + 1], b[4 * i + 3]);
      a[4 * i + 3] = pairs<0xee>(b[4 * i + 1], b[4 * i + 3]);
    }
    THINNED_UNROLL
    for (int i = 0; i < 4; ++i) {
      const __m512 low = quarters<0x88>(a[i], a[4 + i]), high = quarters<0xdd>(a[i], a[4 + i]);
      const __m512 third = quarters<0x88>(a[8 + i], a[12 + i]), last = quarters<0xdd>(a[8 + i], a[12 + i]);
      store(out + i * out_row, quarters<0x88>(low, third));
      store(out + (8 + i) * out_row, quarters<0xdd>(low, third));
      store(out + (4 + i) * out_row, quarters<0x88>(high, last));
      store(out + (12 + i) * out_row, quarters<0xdd>(high, last));
    }
  }

 private:
  template <int how>
  static __m512 pairs(__m512 a, __m512 b) {
    return _mm512_shuffle_ps(a, b, how);
  }
  template <int how>
  static __m512 quarters(__m512 a, __m512 b) {
    return _mm512_shuffle_f32x4(a, b, how);
  }
};

}  // namespace

const Products* avx512_products() { return products_table<Sixteen>(); }

}  // namespace thinned

#else
namespace thinned {
const Products* avx512_products() { return nullptr; }
}  // namespace thinned
#endif
