// One contiguous run: any start, any length. Whole groups go through the vector code of S; the two
// ragged ends, and a group in which a first halfword ties, go through keep bytes.
//
// S gives, beside what lanes.h needs: Drops, halves, decide (true where a first halfword ties),
// keep_bytes, and apply<Streaming>(x, out, drops, scale) for every element type.
#pragma once

#include <cstring>

#include "kernels.h"
#include "lanes.h"
#include "value.h"

namespace thinned {
namespace {

struct Keep {  // the element of a mask: one byte, and no input
  uint8_t byte;
};

template <class T, class Scale>
inline void apply_bytes(const T* x, T* out, const uint8_t* keep, int64_t n, Scale scale) {
  for (int64_t j = 0; j < n; ++j) {
    T v = times(x[j], scale);
    if (!keep[j]) std::memset(&v, 0, sizeof v);
    out[j] = v;
  }
}
inline void apply_bytes(const Keep*, Keep* out, const uint8_t* keep, int64_t n, float) {
  std::memcpy(out, keep, size_t(n));
}

template <class T>
inline const T* advance(const T* x, int64_t n) {
  return x + n;
}
inline const Keep* advance(const Keep*, int64_t) { return nullptr; }

template <class S>
class Generator {
 public:
  static constexpr int kGroup = 8 * S::lanes * S::chains;  // positions of one group

  explicit Generator(const Draw& d)
      : draw_(d),
        schedule_(d, 0),
        limit_(S::halves(uint16_t(d.low ? d.high : d.high - 1))),
        tie_(S::halves(uint16_t(d.high))) {}

  // Keep bytes of the group that begins at `start`, a multiple of 8.
  void bytes(uint64_t start, uint8_t (&keep)[kGroup]) {
    uint64_t block = start >> 3;
    // A group that crosses a multiple of 2^35 has two upper counter words: rare, so the slow way.
    if (uint32_t(block) > UINT32_MAX - uint32_t(kGroup / 8 - 1))
      return exact_keep(draw_, start, kGroup, keep);
    typename S::V product[S::chains], a[S::chains], b[S::chains];
    typename S::Drops drops;
    upper(block >> 32);
    first_products<S>(block, product);
    generate<S>(schedule_, product, a, b);
    if (S::decide(a, b, limit_, tie_, drops) && draw_.low)
      exact_keep(draw_, start, kGroup, keep);
    else
      S::keep_bytes(drops, keep);
  }

  // A stretch [start, start + n) inside one group.
  template <class T, class Scale>
  void ragged(const T* x, T* out, uint64_t start, int64_t n, Scale scale) {
    alignas(64) uint8_t keep[kGroup];
    bytes(start & ~uint64_t(7), keep);
    apply_bytes(x, out, keep + (start & 7), n, scale);
  }

  // As many whole groups as fit in n and share one upper counter word; returns the positions done.
  template <bool Streaming, class T, class Scale>
  int64_t groups(const T* x, T* out, uint64_t start, int64_t n, Scale scale) {
    const uint64_t block = start >> 3, room = (kDropAll - uint32_t(block)) / (kGroup / 8);
    const int64_t fit = n / kGroup, count = uint64_t(fit) < room ? fit : int64_t(room);
    if (!count) return 0;
    upper(block >> 32);
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
        S::template apply<Streaming>(x, out, drops, scale);
      x = advance(x, kGroup);
      out += kGroup;
    }
    return count * kGroup;
  }

 private:
  void upper(uint64_t value) {
    if (value != schedule_.upper) schedule_ = Schedule<S>(draw_, value);
  }

  // One group by the full rule. A tie is one position in 65,536: out of line, it costs the loop nothing.
  template <class T, class Scale>
#if defined(__GNUC__)
  __attribute__((noinline, cold))
#endif
  static void refine(const Draw& d, const T* x, T* out, uint64_t start, Scale scale) {
    alignas(64) uint8_t keep[kGroup];
    exact_keep(d, start, kGroup, keep);
    apply_bytes(x, out, keep, kGroup, scale);
  }

  Draw draw_;
  Schedule<S> schedule_;
  typename S::H limit_, tie_;
};

template <class S, class T, bool Streaming, class Scale>
void run_typed(const Draw& d, const T* x, T* out, uint64_t start, int64_t n, Scale scale) {
  Generator<S> generator(d);
  constexpr int64_t kGroup = Generator<S>::kGroup;
  while (n > 0) {
    int64_t done = 0;
    if ((start & 7) == 0) done = generator.template groups<Streaming>(x, out, start, n, scale);
    if (!done) {
      int64_t inside = kGroup - int64_t(start & 7);
      // A ragged beginning ends at the next multiple of 8, so that whole groups can follow.
      if (start & 7 && n > inside) inside = 8 - int64_t(start & 7);
      done = n < inside ? n : inside;
      generator.ragged(x, out, start, done, scale);
    }
    x = advance(x, done);
    out += done;
    start += uint64_t(done);
    n -= done;
  }
}

template <class S, class T>
void run_any(const Draw& d, const void* x, void* out, uint64_t start, int64_t n, double scale,
             bool streaming) {
  using Scale = typename ScaleOf<T>::type;
  auto run = run_typed<S, T, false, Scale>;
  if (streaming) {
    // The first whole group lies at the next multiple of 8 positions: its address decides.
    auto first = reinterpret_cast<uintptr_t>(out) + uintptr_t(-start & 7) * sizeof(T);
    if (first % S::kStreamAlignment == 0) run = run_typed<S, T, true, Scale>;
  }
  run(d, static_cast<const T*>(x), static_cast<T*>(out), start, n, Scale(scale));
  if (streaming) S::fence();
}

template <class T>
void scaled_any(const void* x, void* out, int64_t n, double scale) {
  using Scale = typename ScaleOf<T>::type;
  const T* in = static_cast<const T*>(x);
  T* to = static_cast<T*>(out);
  const Scale s = Scale(scale);
  for (int64_t j = 0; j < n; ++j) to[j] = times(in[j], s);
}

// Sixteen running sums, so that the compiler may use any vectors without changing the order of one addition.
inline double product(const float* a, const float* w, int64_t n) {
  constexpr int kLanes = 16;
  float lane[kLanes] = {};
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes)
    for (int k = 0; k < kLanes; ++k) lane[k] += a[j + k] * w[j + k];
  double sum = 0;
  for (; j < n; ++j) sum += double(a[j]) * double(w[j]);
  for (float part : lane) sum += double(part);
  return sum;
}

template <class S>
const Kernels* table(const char* name) {
  static const Kernels kernels = {
      name,
      {run_any<S, float>, run_any<S, double>, run_any<S, Half>, run_any<S, Brain>,
       run_any<S, Keep>},
      {scaled_any<float>, scaled_any<double>, scaled_any<Half>, scaled_any<Brain>, nullptr},
      product};
  return &kernels;
}

}  // namespace
}  // namespace thinned
