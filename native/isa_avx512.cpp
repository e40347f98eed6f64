// AVX-512 F, BW, VL, DQ: eight 64-bit lanes, two chains, 128 positions a group.
#include "kernels.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#include <immintrin.h>

#include "columns_avx512.h"
#include "run.h"

namespace thinned {
namespace {

struct Avx512 {
  using Picks = Avx512Columns;
  using V = __m512i;
  using H = __m512i;
  static constexpr int lanes = 8, chains = 2;
  static constexpr uintptr_t kStreamAlignment = 64;

  static V set(uint64_t v) { return _mm512_set1_epi64(int64_t(v)); }
  static V load(const uint64_t* v) { return _mm512_loadu_si512(v); }
  static H halves(uint16_t v) { return _mm512_set1_epi16(int16_t(v)); }
  static V add(V a, V b) { return _mm512_add_epi64(a, b); }
  static V mul(V a, V b) { return _mm512_mul_epu32(a, b); }
  static V shr32(V a) { return _mm512_srli_epi64(a, 32); }
  static V swap32(V a) { return _mm512_shuffle_epi32(a, _MM_PERM_ENUM(0xb1)); }
  static V low32(V a) { return _mm512_maskz_mov_epi32(0x5555, a); }
  static V bit_xor(V a, V b) { return _mm512_xor_si512(a, b); }
  // The counters stand so that unpacking 64-bit lanes puts the 128-bit blocks in natural order.
  static constexpr int order(int lane) { return (lane >> 1) + 4 * (lane & 1); }
  static V counters(int chain) {
    return add(set(uint64_t(8 * chain)), _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
  }
  static void fence() { _mm_sfence(); }

  struct Drops {
    uint32_t keep[2 * chains];  // a bit a position, 32 positions each, set where kept
  };

  static bool decide(const V (&a)[chains], const V (&b)[chains], H limit, H tie, Drops& drops) {
    uint32_t ties = 0;
    for (int c = 0; c < chains; ++c) {
      V h[2] = {_mm512_unpacklo_epi64(a[c], b[c]), _mm512_unpackhi_epi64(a[c], b[c])};
      for (int k = 0; k < 2; ++k) {
        drops.keep[2 * c + k] = _mm512_cmpgt_epu16_mask(h[k], limit);
        ties |= _mm512_cmpeq_epi16_mask(h[k], tie);
      }
    }
    return ties != 0;
  }

  static void keep_bytes(const Drops& drops, uint8_t* keep) {
    for (int g = 0; g < 2 * chains; ++g)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(keep + 32 * g),
                          _mm256_maskz_set1_epi8(drops.keep[g], 1));
  }

  template <bool Streaming>
  static void store(void* out, V v) {
    if (Streaming)
      _mm512_stream_si512(static_cast<V*>(out), v);
    else
      _mm512_storeu_si512(out, v);
  }

  template <bool Streaming>
  static void apply(const Keep*, Keep* out, const Drops& drops, float) {
    keep_bytes(drops, &out->byte);
  }

  template <bool Streaming>
  static void sum(const float* a, const float* b, float* out) {
    for (int j = 0; j < 64 * chains; j += 16)
      store<Streaming>(out + j, _mm512_castps_si512(_mm512_add_ps(_mm512_loadu_ps(a + j),
                                                                  _mm512_loadu_ps(b + j))));
  }

  template <bool Streaming>
  static void sum(const double* a, const double* b, double* out) {
    for (int j = 0; j < 64 * chains; j += 8)
      store<Streaming>(out + j, _mm512_castpd_si512(_mm512_add_pd(_mm512_loadu_pd(a + j),
                                                                  _mm512_loadu_pd(b + j))));
  }

  template <bool Streaming>
  static void apply(const float* x, float* out, const Drops& drops, float scale) {
    const __m512 s = _mm512_set1_ps(scale);
    for (int g = 0; g < 4 * chains; ++g) {
      auto keep = __mmask16(drops.keep[g >> 1] >> (16 * (g & 1)));
      __m512 v = _mm512_maskz_mul_ps(keep, _mm512_loadu_ps(x + 16 * g), s);
      store<Streaming>(out + 16 * g, _mm512_castps_si512(v));
    }
  }

  template <bool Streaming>
  static void apply(const double* x, double* out, const Drops& drops, double scale) {
    const __m512d s = _mm512_set1_pd(scale);
    for (int g = 0; g < 8 * chains; ++g) {
      auto keep = __mmask8(drops.keep[g >> 2] >> (8 * (g & 3)));
      __m512d v = _mm512_maskz_mul_pd(keep, _mm512_loadu_pd(x + 8 * g), s);
      store<Streaming>(out + 8 * g, _mm512_castpd_si512(v));
    }
  }

  static __m512 sixteen(const Half* x) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
  }
  static __m256i round_half(__m512 v) {
    return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }

  template <bool Streaming>
  static void sum(const Half* a, const Half* b, Half* out) {
    for (int j = 0; j < 64 * chains; j += 32) {
      __m256i low = round_half(_mm512_add_ps(sixteen(a + j), sixteen(b + j))),
              high = round_half(_mm512_add_ps(sixteen(a + j + 16), sixteen(b + j + 16)));
      store<Streaming>(out + j, _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1));
    }
  }

  template <bool Streaming>
  static void apply(const Half* x, Half* out, const Drops& drops, float scale) {
    const __m512 s = _mm512_set1_ps(scale);
    for (int g = 0; g < 2 * chains; ++g) {
      __m256i part[2];
      for (int k = 0; k < 2; ++k) {
        auto keep = __mmask16(drops.keep[g] >> (16 * k));
        part[k] = round_half(_mm512_maskz_mul_ps(keep, sixteen(x + 32 * g + 16 * k), s));
      }
      store<Streaming>(out + 32 * g,
                       _mm512_inserti64x4(_mm512_castsi256_si512(part[0]), part[1], 1));
    }
  }

  // Sixteen floats as bfloat16 in the low half of each 32-bit lane, ties to even, NaN kept.
  // (The machine's own conversion flushes subnormals, so it would give other bits.)
  static V round_brain(__m512 v) {
    V u = _mm512_castps_si512(v);
    V odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    V rounded = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_srli_epi32(_mm512_mask_or_epi32(rounded, nan, u, _mm512_set1_epi32(0x400000)),
                             16);
  }

  // Of each eight, the first four and the last: what packus puts back in order.
  struct Wide {
    __m512 low, high;
    explicit Wide(const Brain* x) {
      const V in = _mm512_loadu_si512(x), zero = _mm512_setzero_si512();
      low = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, in));
      high = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, in));
    }
  };

  template <bool Streaming>
  static void sum(const Brain* a, const Brain* b, Brain* out) {
    for (int j = 0; j < 64 * chains; j += 32) {
      const Wide x(a + j), y(b + j);
      store<Streaming>(out + j, _mm512_packus_epi32(round_brain(_mm512_add_ps(x.low, y.low)),
                                                    round_brain(_mm512_add_ps(x.high, y.high))));
    }
  }

  template <bool Streaming>
  static void apply(const Brain* x, Brain* out, const Drops& drops, float scale) {
    const __m512 s = _mm512_set1_ps(scale);
    for (int g = 0; g < 2 * chains; ++g) {
      const Wide in(x + 32 * g);
      V low = round_brain(_mm512_mul_ps(in.low, s)), high = round_brain(_mm512_mul_ps(in.high, s));
      store<Streaming>(out + 32 * g,
                       _mm512_maskz_mov_epi16(drops.keep[g], _mm512_packus_epi32(low, high)));
    }
  }
};

}  // namespace

const Kernels* avx512_kernels() { return table<Avx512>("avx512"); }

}  // namespace thinned

#else
namespace thinned {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace thinned
#endif
