// Groups of blocks by the vector code of S: to keep bytes, or straight to values. A group in which a first
// halfword ties goes through the full rule.
//
// S gives, beside what lanes.h needs: Drops, halves, load, order, decide (true where a first halfword ties),
// keep_bytes, and for every element type apply<Streaming>(x, out, drops, scale) and sum<Streaming>(a, b, out), which
// adds the elements of one group.
#pragma once

#include <cstring>
#include <type_traits>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "lanes.h"
#include "value.h"

namespace thinned {
namespace {

struct Keep {  // the element of a mask: one byte, and no input
  uint8_t byte;
};

template <int Bytes>
struct BitsOf;
template <>
struct BitsOf<2> {
  using type = uint16_t;
};
template <>
struct BitsOf<4> {
  using type = uint32_t;
};
template <>
struct BitsOf<8> {
  using type = uint64_t;
};

template <int N, class T, class Scale>
inline void times_block(const T* x, T* v, Scale scale) {
#if defined(__F16C__)  // compilers do not see the conversions: 8 ns an element without
  if constexpr (N == 8 && std::is_same_v<T, Half>) {
    const __m256 wide = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
    const __m128i rounded = _mm256_cvtps_ph(_mm256_mul_ps(wide, _mm256_set1_ps(scale)), _MM_FROUND_TO_NEAREST_INT);
    return _mm_storeu_si128(reinterpret_cast<__m128i*>(v), rounded);
  }
#endif
  for (int k = 0; k < N; ++k) v[k] = times(x[k], scale);
}

// N elements: kept where the byte is 1, +0 where it is 0. The bits are masked, as a choice would be compiled to
// branches; and by way of copies, which nothing can overlap, as x may be out. So the compiler uses vectors.
template <int N, class T, class Scale>
inline void apply_block(const T* x, T* out, const uint8_t* keep, Scale scale) {
  using Bits = typename BitsOf<sizeof(T)>::type;
  T v[N];
  Bits bits[N];
  times_block<N>(x, v, scale);
  std::memcpy(bits, v, sizeof v);
  for (int k = 0; k < N; ++k) bits[k] &= Bits(Bits(0) - Bits(keep[k]));
  std::memcpy(static_cast<void*>(out), bits, sizeof bits);
}

template <class T, class Scale>
inline void apply_bytes(const T* x, T* out, const uint8_t* keep, int64_t n, Scale scale) {
  const int64_t whole = n / 8 * 8;
  for (int64_t j = 0; j < whole; j += 8) apply_block<8>(x + j, out + j, keep + j, scale);
  for (int64_t j = whole; j < n; ++j) apply_block<1>(x + j, out + j, keep + j, scale);
}
inline void apply_bytes(const Keep*, Keep* out, const uint8_t* keep, int64_t n, float) {
  std::memcpy(out, keep, size_t(n));
}

template <class T>
inline const T* advance(const T* x, int64_t n) {
  return x + n;
}
inline const Keep* advance(const Keep*, int64_t) { return nullptr; }

template <class S, bool Streaming, class T, class Scale>
inline void apply_group(const T* x, T* out, const typename S::Drops& drops, Scale scale) {
  S::template apply<Streaming>(x, out, drops, scale);
}

template <class S>
class Generator {
 public:
  static constexpr int kBlocks = S::lanes * S::chains, kGroup = 8 * kBlocks;  // positions of one group

  explicit Generator(const Draw& d)
      : draw_(d),
        schedule_(d, 0),
        limit_(S::halves(uint16_t(d.low ? d.high : d.high - 1))),
        tie_(S::halves(uint16_t(d.high))) {}

  // Keep bytes of the group that begins at `start`, a multiple of 8.
  void bytes(uint64_t start, uint8_t (&keep)[kGroup]) {
    uint64_t block = start >> 3;
    // A group that crosses a multiple of 2^35 has two upper counter words: rare, so the slow way.
    if (uint32_t(block) > UINT32_MAX - uint32_t(kBlocks - 1))
      return exact_keep(draw_, start, kGroup, keep);
    typename S::V product[S::chains];
    first_products<S>(block, product);
    if (!bytes_of(block >> 32, product, keep)) exact_keep(draw_, start, kGroup, keep);
  }

  // Keep bytes of any blocks that share their upper 32 bits; false where one ties and h_1 must decide.
  bool bytes(uint64_t high, const uint32_t (&blocks)[kBlocks], uint8_t (&keep)[kGroup]) {
    typename S::V product[S::chains];
    uint64_t lanes[S::lanes];
    for (int c = 0; c < S::chains; ++c) {
      for (int l = 0; l < S::lanes; ++l) lanes[l] = blocks[S::lanes * c + S::order(l)];
      product[c] = S::mul(S::load(lanes), S::set(kMul0));
    }
    return bytes_of(high, product, keep);
  }

  const Draw& draw() const { return draw_; }

  // A stretch [start, start + n) inside one group. Here and below, X is what a pass reads: a pointer, or the
  // summands of sum.h.
  template <class X, class T, class Scale>
  void ragged(X x, T* out, uint64_t start, int64_t n, Scale scale) {
    alignas(64) uint8_t keep[kGroup];
    bytes(start & ~uint64_t(7), keep);
    apply_bytes(x, out, keep + (start & 7), n, scale);
  }

  // As many whole groups as fit in n and share one upper counter word; returns the positions done.
  template <bool Streaming, class X, class T, class Scale>
  int64_t groups(X x, T* out, uint64_t start, int64_t n, Scale scale) {
    const uint64_t block = start >> 3, room = (kDropAll - uint32_t(block)) / kBlocks;
    const int64_t fit = n / kGroup, count = uint64_t(fit) < room ? fit : int64_t(room);
    if (!count) return 0;
    upper(block >> 32);
    // A copy that no store can alias: bfloat16 takes 0.46 ns an element with it and 0.50 without.
    const Schedule<S> schedule = schedule_;
    typename S::V product[S::chains], a[S::chains], b[S::chains];
    first_products<S>(block, product);
    for (int64_t g = 0; g < count; ++g) {
      typename S::Drops drops;
      generate<S>(schedule, product, a, b);
      for (int c = 0; c < S::chains; ++c) product[c] = S::add(product[c], schedule.step);
      if (S::decide(a, b, limit_, tie_, drops) && draw_.low)
        refine(draw_, x, out, start + uint64_t(g) * kGroup, scale);
      else
        apply_group<S, Streaming>(x, out, drops, scale);
      x = advance(x, kGroup);
      out += kGroup;
    }
    return count * kGroup;
  }

 private:
  bool bytes_of(uint64_t high, const typename S::V (&product)[S::chains], uint8_t (&keep)[kGroup]) {
    typename S::V a[S::chains], b[S::chains];
    typename S::Drops drops;
    upper(high);
    generate<S>(schedule_, product, a, b);
    if (S::decide(a, b, limit_, tie_, drops) && draw_.low) return false;
    S::keep_bytes(drops, keep);
    return true;
  }

  void upper(uint64_t value) {
    if (value != schedule_.upper) schedule_ = Schedule<S>(draw_, value);
  }

  // One group by the full rule. A tie is one position in 65,536: out of line, it costs the loop nothing.
  template <class X, class T, class Scale>
#if defined(__GNUC__)
  __attribute__((noinline, cold))
#endif
  static void refine(const Draw& d, X x, T* out, uint64_t start, Scale scale) {
    alignas(64) uint8_t keep[kGroup];
    exact_keep(d, start, kGroup, keep);
    apply_bytes(x, out, keep, kGroup, scale);
  }

  Draw draw_;
  Schedule<S> schedule_;
  typename S::H limit_, tie_;
};

}  // namespace
}  // namespace thinned
