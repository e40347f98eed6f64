// The vector unit that the architecture guarantees: SSE2 on x86-64, NEON on 64-bit Arm. Two 64-bit lanes,
// four chains, 64 positions a group. float32 is vector code throughout; the other types take keep bytes.
#include "kernels.h"

#if defined(__SSE2__) || defined(_M_X64) || defined(__ARM_NEON)

#if defined(__ARM_NEON)
#include <arm_neon.h>
#else
#include <emmintrin.h>
#endif

#include "run.h"

namespace thinned {
namespace {

#if defined(__ARM_NEON)

struct Lanes128 {
  using Picks = PlainColumns;
  using V = uint64x2_t;
  using H = uint16x8_t;
  static V set(uint64_t v) { return vdupq_n_u64(v); }
  static V load(const uint64_t* v) { return vld1q_u64(v); }
  static H halves(uint16_t v) { return vdupq_n_u16(v); }
  static V add(V a, V b) { return vaddq_u64(a, b); }
  static V mul(V a, V b) { return vmull_u32(vmovn_u64(a), vmovn_u64(b)); }
  static V shr32(V a) { return vshrq_n_u64(a, 32); }
  static V swap32(V a) { return vreinterpretq_u64_u32(vrev64q_u32(vreinterpretq_u32_u64(a))); }
  static V low32(V a) { return vandq_u64(a, vdupq_n_u64(0xffffffff)); }
  static V bit_xor(V a, V b) { return veorq_u64(a, b); }
  static V counters(int chain) {
    return vcombine_u64(vcreate_u64(uint64_t(2 * chain)), vcreate_u64(uint64_t(2 * chain + 1)));
  }
  static void fence() {}

  static H first_block(V a, V b) { return vreinterpretq_u16_u64(vzip1q_u64(a, b)); }
  static H second_block(V a, V b) { return vreinterpretq_u16_u64(vzip2q_u64(a, b)); }
  static H at_most(H h, H limit) { return vcleq_u16(h, limit); }
  static H equal(H h, H tie) { return vceqq_u16(h, tie); }
  static H either(H a, H b) { return vorrq_u16(a, b); }
  static bool any(H a) { return vmaxvq_u16(a) != 0; }
  static void keep_sixteen(H d0, H d1, uint8_t* keep) {
    uint8x16_t dropped = vcombine_u8(vmovn_u16(d0), vmovn_u16(d1));
    vst1q_u8(keep, vbicq_u8(vdupq_n_u8(1), dropped));
  }
  template <bool>
  static void eight_floats(const float* x, float* out, H drop, float scale) {
    uint32x4_t low = vreinterpretq_u32_u16(vzip1q_u16(drop, drop)),
               high = vreinterpretq_u32_u16(vzip2q_u16(drop, drop));
    float32x4_t v0 = vmulq_n_f32(vld1q_f32(x), scale), v1 = vmulq_n_f32(vld1q_f32(x + 4), scale);
    vst1q_f32(out, vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v0), low)));
    vst1q_f32(out + 4, vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v1), high)));
  }
};

#else

struct Lanes128 {
  using Picks = PlainColumns;
  using V = __m128i;
  using H = __m128i;
  static V set(uint64_t v) { return _mm_set1_epi64x(int64_t(v)); }
  static V load(const uint64_t* v) { return _mm_loadu_si128(reinterpret_cast<const V*>(v)); }
  static H halves(uint16_t v) { return _mm_set1_epi16(int16_t(v)); }
  static V add(V a, V b) { return _mm_add_epi64(a, b); }
  static V mul(V a, V b) { return _mm_mul_epu32(a, b); }
  static V shr32(V a) { return _mm_srli_epi64(a, 32); }
  static V swap32(V a) { return _mm_shuffle_epi32(a, 0xb1); }
  static V low32(V a) { return _mm_and_si128(a, _mm_set1_epi64x(0xffffffff)); }
  static V bit_xor(V a, V b) { return _mm_xor_si128(a, b); }
  static V counters(int chain) { return _mm_set_epi64x(2 * chain + 1, 2 * chain); }
  static void fence() { _mm_sfence(); }

  static H first_block(V a, V b) { return _mm_unpacklo_epi64(a, b); }
  static H second_block(V a, V b) { return _mm_unpackhi_epi64(a, b); }
  static H at_most(H h, H limit) {
    return _mm_cmpeq_epi16(_mm_subs_epu16(h, limit), _mm_setzero_si128());
  }
  static H equal(H h, H tie) { return _mm_cmpeq_epi16(h, tie); }
  static H either(H a, H b) { return _mm_or_si128(a, b); }
  static bool any(H a) { return _mm_movemask_epi8(a) != 0; }
  static void keep_sixteen(H d0, H d1, uint8_t* keep) {
    __m128i kept = _mm_andnot_si128(_mm_packs_epi16(d0, d1), _mm_set1_epi8(1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(keep), kept);
  }
  template <bool Streaming>
  static void store(float* out, __m128 v) {
    if (Streaming)
      _mm_stream_ps(out, v);
    else
      _mm_storeu_ps(out, v);
  }
  template <bool Streaming>
  static void eight_floats(const float* x, float* out, H drop, float scale) {
    const __m128 s = _mm_set1_ps(scale);
    __m128 low = _mm_castsi128_ps(_mm_unpacklo_epi16(drop, drop)),
           high = _mm_castsi128_ps(_mm_unpackhi_epi16(drop, drop));
    store<Streaming>(out, _mm_andnot_ps(low, _mm_mul_ps(_mm_loadu_ps(x), s)));
    store<Streaming>(out + 4, _mm_andnot_ps(high, _mm_mul_ps(_mm_loadu_ps(x + 4), s)));
  }
};

#endif

struct Baseline : Lanes128 {
  static constexpr int lanes = 2, chains = 4;
  static constexpr uintptr_t kStreamAlignment = 16;
  static constexpr int order(int lane) { return lane; }

  struct Drops {
    H of[2 * chains];  // eight positions each, in order, all ones where dropped
  };

  static bool decide(const V (&a)[chains], const V (&b)[chains], H limit, H tie, Drops& drops) {
    H ties = halves(0);
    for (int c = 0; c < chains; ++c) {
      H h[2] = {first_block(a[c], b[c]), second_block(a[c], b[c])};
      for (int k = 0; k < 2; ++k) {
        drops.of[2 * c + k] = at_most(h[k], limit);
        ties = either(ties, equal(h[k], tie));
      }
    }
    return any(ties);
  }

  static void keep_bytes(const Drops& drops, uint8_t* keep) {
    for (int c = 0; c < chains; ++c)
      keep_sixteen(drops.of[2 * c], drops.of[2 * c + 1], keep + 16 * c);
  }

  template <bool Streaming>
  static void apply(const Keep*, Keep* out, const Drops& drops, float) {
    keep_bytes(drops, &out->byte);
  }
  template <bool Streaming>
  static void apply(const float* x, float* out, const Drops& drops, float scale) {
    for (int g = 0; g < 2 * chains; ++g)
      eight_floats<Streaming>(x + 8 * g, out + 8 * g, drops.of[g], scale);
  }
  template <bool, class T, class Scale>
  static void apply(const T* x, T* out, const Drops& drops, Scale scale) {
    alignas(16) uint8_t keep[16 * chains];
    keep_bytes(drops, keep);
    apply_bytes(x, out, keep, int64_t(sizeof keep), scale);
  }
  template <bool, class T>
  static void sum(const T* a, const T* b, T* out) {
    sum_elements(a, b, out, 16 * chains);
  }
};

}  // namespace

const Kernels* baseline_kernels() { return table<Baseline>("baseline"); }

}  // namespace thinned

#else
namespace thinned {
const Kernels* baseline_kernels() { return nullptr; }
}  // namespace thinned
#endif
