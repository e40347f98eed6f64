// Contiguous runs: any start, any length. Whole groups take the fast way, ragged ends go through keep bytes, and
// runs shorter than a group share one: each lane takes whatever block the next of them needs.
#pragma once

#include "columns.h"
#include "groups.h"
#include "kernels.h"
#include "noise.h"
#include "sum.h"

namespace thinned {
namespace {

template <class S, bool Streaming, class X, class T, class Scale>
void long_run(Generator<S>& generator, X x, T* out, uint64_t start, int64_t n, Scale scale) {
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

// The first whole group lies at the next multiple of 8 positions: its address decides.
template <class S, class T>
bool can_stream(const T* out, uint64_t start) {
  return (reinterpret_cast<uintptr_t>(out) + uintptr_t(-start & 7) * sizeof(T)) % S::kStreamAlignment == 0;
}

// Short runs that wait until their blocks fill a group.
template <class S, class T, class Scale>
class Waiting {
 public:
  static constexpr int kBlocks = Generator<S>::kBlocks;

  Waiting(Generator<S>& generator, Scale scale) : generator_(generator), scale_(scale) {}

  // False where the run is too long to wait.
  bool take(const T* x, T* out, uint64_t start, int64_t n) {
    const uint64_t first = start >> 3, last = (start + uint64_t(n) - 1) >> 3;
    const bool whole = n >= 8 * kBlocks && (start & 7) == 0;
    if (whole || last - first >= kBlocks || first >> 32 != last >> 32) return false;
    const int count = int(last - first) + 1;
    if (used_ + count > kBlocks || runs_ == kBlocks || (runs_ && high_ != first >> 32)) flush();
    high_ = first >> 32;
    run_[runs_++] = {x, out, start, n, used_};
    for (int k = 0; k < count; ++k) blocks_[used_++] = uint32_t(first) + uint32_t(k);
    return true;
  }

  void flush() {
    if (!runs_) return;
    alignas(64) uint8_t keep[Generator<S>::kGroup];
    const bool decided = generator_.bytes(high_, blocks_, keep);
    for (int r = 0; r < runs_; ++r) {
      const auto& w = run_[r];
      uint8_t* bytes = keep + 8 * w.place + (w.start & 7);
      if (!decided) exact_keep(generator_.draw(), w.start, w.n, bytes);
      apply_bytes(w.x, w.out, bytes, w.n, scale_);
    }
    runs_ = used_ = 0;
  }

 private:
  struct Run {
    const T* x;
    T* out;
    uint64_t start;
    int64_t n;
    int place;  // of its first block among those of the group
  };
  Generator<S>& generator_;
  Scale scale_;
  Run run_[kBlocks];
  uint32_t blocks_[kBlocks] = {};
  uint64_t high_ = 0;
  int runs_ = 0, used_ = 0;
};

template <class S, class T>
void runs_any(const Draw& d, NextRun next, void* source, double scale, bool streaming) {
  using Scale = typename ScaleOf<T>::type;
  const Scale s = Scale(scale);
  Generator<S> generator(d);
  Waiting<S, T, Scale> waiting(generator, s);
  Run run;
  while (next(source, run)) {
    if (run.n <= 0) continue;
    const T* x = static_cast<const T*>(run.x);
    T* out = static_cast<T*>(run.out);
    if (waiting.take(x, out, run.start, run.n)) continue;
    if (streaming && can_stream<S>(out, run.start))
      long_run<S, true>(generator, x, out, run.start, run.n, s);
    else
      long_run<S, false>(generator, x, out, run.start, run.n, s);
  }
  waiting.flush();
  if (streaming) S::fence();
}

template <class S, class T>
void added_any(const Draw& d, const Run& run, const void* residual, double scale, bool streaming) {
  const auto s = typename ScaleOf<T>::type(scale);
  const Summands<T> in{static_cast<const T*>(run.x), static_cast<const T*>(residual)};
  T* out = static_cast<T*>(run.out);
  Generator<S> generator(d);
  if (!streaming || !can_stream<S>(out, run.start))
    return long_run<S, false>(generator, in, out, run.start, run.n, s);
  long_run<S, true>(generator, in, out, run.start, run.n, s);
  S::fence();
}

template <class T>
void masked_any(const void* x, void* out, const uint8_t* keep, int64_t n, double scale) {
  apply_bytes(static_cast<const T*>(x), static_cast<T*>(out), keep, n,
              typename ScaleOf<T>::type(scale));
}

template <class T>
void scaled_any(const void* x, void* out, int64_t n, double scale) {
  using Scale = typename ScaleOf<T>::type;
  const T* in = static_cast<const T*>(x);
  T* to = static_cast<T*>(out);
  const Scale s = Scale(scale);
  int64_t j = 0;
  for (; j + 8 <= n; j += 8) {
    T v[8];  // for the reason that apply_block gives
    times_block<8>(in + j, v, s);
    std::memcpy(static_cast<void*>(to + j), v, sizeof v);
  }
  for (; j < n; ++j) to[j] = times(in[j], s);
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
      {runs_any<S, float>, runs_any<S, double>, runs_any<S, Half>, runs_any<S, Brain>,
       runs_any<S, Keep>},
      {masked_any<float>, masked_any<double>, masked_any<Half>, masked_any<Brain>,
       masked_any<Keep>},
      {scaled_any<float>, scaled_any<double>, scaled_any<Half>, scaled_any<Brain>, nullptr},
      {added_any<S, float>, added_any<S, double>, added_any<S, Half>, added_any<S, Brain>, nullptr},
      {sum_any<S, float>, sum_any<S, double>, sum_any<S, Half>, sum_any<S, Brain>, nullptr},
      {taken_any<S, float>, taken_any<S, double>, taken_any<S, Half>, taken_any<S, Brain>, nullptr},
      {put_any<S, float>, put_any<S, double>, put_any<S, Half>, put_any<S, Brain>, nullptr},
      normal_any<S>,
      product};
  return &kernels;
}

}  // namespace
}  // namespace thinned
