// AVX2 with F16C: four 64-bit lanes, two chains, 64 positions a group.
#include "kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>

#include "columns_avx2.h"
#include "run.h"

namespace thinned {
namespace {

struct Avx2 {
  using Picks = Avx2Columns;
  using V = __m256i;
  using H = __m256i;
  static constexpr int lanes = 4, chains = 2;
  static constexpr uintptr_t kStreamAlignment = 32;

  static V set(uint64_t v) { return _mm256_set1_epi64x(int64_t(v)); }
  static V load(const uint64_t* v) { return _mm256_loadu_si256(reinterpret_cast<const V*>(v)); }
  static constexpr int order(int lane) { return lane; }
  static H halves(uint16_t v) { return _mm256_set1_epi16(int16_t(v)); }
  static V add(V a, V b) { return _mm256_add_epi64(a, b); }
  static V mul(V a, V b) { return _mm256_mul_epu32(a, b); }
  static V shr32(V a) { return _mm256_srli_epi64(a, 32); }
  static V swap32(V a) { return _mm256_shuffle_epi32(a, 0xb1); }
  static V low32(V a) { return _mm256_blend_epi32(a, _mm256_setzero_si256(), 0xaa); }
  static V bit_xor(V a, V b) { return _mm256_xor_si256(a, b); }
  static V counters(int chain) {
    return _mm256_add_epi64(set(uint64_t(4 * chain)), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static void fence() { _mm_sfence(); }

  // Halfword masks of 16 positions each, all ones where dropped. The low half of a vector holds positions
  // 0-3 and 8-11, the high half 4-7 and 12-15: one unpack then gives eight floats in order.
  struct Drops {
    V of[2 * chains];
  };

  static bool decide(const V (&a)[chains], const V (&b)[chains], H limit, H tie, Drops& drops) {
    V ties = _mm256_setzero_si256();
    for (int c = 0; c < chains; ++c) {
      V h[2] = {_mm256_permute2x128_si256(a[c], b[c], 0x20),
                _mm256_permute2x128_si256(a[c], b[c], 0x31)};
      for (int k = 0; k < 2; ++k) {
        drops.of[2 * c + k] = _mm256_cmpeq_epi16(_mm256_min_epu16(h[k], limit), h[k]);
        ties = _mm256_or_si256(ties, _mm256_cmpeq_epi16(h[k], tie));
      }
    }
    return !_mm256_testz_si256(ties, ties);
  }

  static V in_order(V drops) { return _mm256_permute4x64_epi64(drops, 0xd8); }

  static void keep_bytes(const Drops& drops, uint8_t* keep) {
    const V order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), one = _mm256_set1_epi8(1);
    for (int c = 0; c < chains; ++c) {
      V bytes = _mm256_packs_epi16(drops.of[2 * c], drops.of[2 * c + 1]);
      bytes = _mm256_andnot_si256(_mm256_permutevar8x32_epi32(bytes, order), one);
      _mm256_storeu_si256(reinterpret_cast<V*>(keep + 32 * c), bytes);
    }
  }

  template <bool Streaming>
  static void store(void* out, V v) {
    if (Streaming)
      _mm256_stream_si256(static_cast<V*>(out), v);
    else
      _mm256_storeu_si256(static_cast<V*>(out), v);
  }

  template <bool Streaming>
  static void apply(const Keep*, Keep* out, const Drops& drops, float) {
    keep_bytes(drops, &out->byte);
  }

  template <bool Streaming>
  static void sum(const float* a, const float* b, float* out) {
    for (int j = 0; j < 32 * chains; j += 8)
      store<Streaming>(out + j, _mm256_castps_si256(_mm256_add_ps(_mm256_loadu_ps(a + j),
                                                                  _mm256_loadu_ps(b + j))));
  }

  template <bool Streaming>
  static void sum(const double* a, const double* b, double* out) {
    for (int j = 0; j < 32 * chains; j += 4)
      store<Streaming>(out + j, _mm256_castpd_si256(_mm256_add_pd(_mm256_loadu_pd(a + j),
                                                                  _mm256_loadu_pd(b + j))));
  }

  template <bool Streaming>
  static void apply(const float* x, float* out, const Drops& drops, float scale) {
    const __m256 s = _mm256_set1_ps(scale);
    for (int g = 0; g < 2 * chains; ++g) {
      V low = _mm256_unpacklo_epi16(drops.of[g], drops.of[g]),
        high = _mm256_unpackhi_epi16(drops.of[g], drops.of[g]);
      __m256 v0 = _mm256_mul_ps(_mm256_loadu_ps(x + 16 * g), s),
             v1 = _mm256_mul_ps(_mm256_loadu_ps(x + 16 * g + 8), s);
      store<Streaming>(out + 16 * g, _mm256_andnot_si256(low, _mm256_castps_si256(v0)));
      store<Streaming>(out + 16 * g + 8, _mm256_andnot_si256(high, _mm256_castps_si256(v1)));
    }
  }

  template <bool Streaming>
  static void apply(const double* x, double* out, const Drops& drops, double scale) {
    const __m256d s = _mm256_set1_pd(scale);
    for (int g = 0; g < 2 * chains; ++g) {
      V ordered = in_order(drops.of[g]);
      __m128i half[2] = {_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)};
      for (int k = 0; k < 4; ++k) {
        __m128i four = k & 1 ? _mm_srli_si128(half[k >> 1], 8) : half[k >> 1];
        __m256d v = _mm256_mul_pd(_mm256_loadu_pd(x + 16 * g + 4 * k), s);
        store<Streaming>(out + 16 * g + 4 * k, _mm256_andnot_si256(_mm256_cvtepi16_epi64(four),
                                                                   _mm256_castpd_si256(v)));
      }
    }
  }

  static __m256 eight(const Half* x) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  }
  static __m128i round_half(__m256 v) {
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }

  template <bool Streaming>
  static void sum(const Half* a, const Half* b, Half* out) {
    for (int j = 0; j < 32 * chains; j += 16) {
      __m128i low = round_half(_mm256_add_ps(eight(a + j), eight(b + j))),
              high = round_half(_mm256_add_ps(eight(a + j + 8), eight(b + j + 8)));
      store<Streaming>(out + j, _mm256_set_m128i(high, low));
    }
  }

  template <bool Streaming>
  static void apply(const Half* x, Half* out, const Drops& drops, float scale) {
    const __m256 s = _mm256_set1_ps(scale);
    for (int g = 0; g < 2 * chains; ++g) {
      __m128i part[2];
      for (int k = 0; k < 2; ++k)
        part[k] = round_half(_mm256_mul_ps(eight(x + 16 * g + 8 * k), s));
      store<Streaming>(out + 16 * g, _mm256_andnot_si256(in_order(drops.of[g]),
                                                         _mm256_set_m128i(part[1], part[0])));
    }
  }

  // Eight floats as bfloat16 in the low half of each 32-bit lane, ties to even, NaN kept.
  static V round_brain(__m256 v) {
    V u = _mm256_castps_si256(v);
    V odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    V rounded = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    V nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    V quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  }

  // Of each eight, the first four and the last: what packus puts back in order.
  struct Wide {
    __m256 low, high;
    explicit Wide(const Brain* x) {
      const V in = _mm256_loadu_si256(reinterpret_cast<const V*>(x)), zero = _mm256_setzero_si256();
      low = _mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, in));
      high = _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, in));
    }
  };

  template <bool Streaming>
  static void sum(const Brain* a, const Brain* b, Brain* out) {
    for (int j = 0; j < 32 * chains; j += 16) {
      const Wide x(a + j), y(b + j);
      store<Streaming>(out + j, _mm256_packus_epi32(round_brain(_mm256_add_ps(x.low, y.low)),
                                                    round_brain(_mm256_add_ps(x.high, y.high))));
    }
  }

  template <bool Streaming>
  static void apply(const Brain* x, Brain* out, const Drops& drops, float scale) {
    const __m256 s = _mm256_set1_ps(scale);
    for (int g = 0; g < 2 * chains; ++g) {
      const Wide in(x + 16 * g);
      V low = round_brain(_mm256_mul_ps(in.low, s)), high = round_brain(_mm256_mul_ps(in.high, s));
      store<Streaming>(out + 16 * g, _mm256_andnot_si256(in_order(drops.of[g]),
                                                         _mm256_packus_epi32(low, high)));
    }
  }
};

}  // namespace

const Kernels* avx2_kernels() { return table<Avx2>("avx2"); }

}  // namespace thinned

#else
namespace thinned {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace thinned
#endif
