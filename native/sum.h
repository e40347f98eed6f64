// Residual and dropout in one pass: what a group gives waits in the nearest cache until the residual is added.
// (16 Mi float32, ns an element: 0.63 group by group with streaming stores, 0.71 without; 1.00 by blocks of 4,096,
// 1.10 by blocks of 512, as loading and computing then take turns. Dropout and then an addition 0.89, an addition
// alone 0.60.)
#pragma once

#include "groups.h"

namespace thinned {
namespace {

// What such a pass reads. `x` and `residual` may each be the output.
template <class T>
struct Summands {
  const T *x, *residual;
};

template <class T>
inline Summands<T> advance(Summands<T> in, int64_t n) {
  return {in.x + n, in.residual + n};
}

// By way of a copy, for the reason that apply_block gives.
template <int N, class T>
inline void sum_block(const T* a, const T* b, T* out) {
  T v[N];
  for (int k = 0; k < N; ++k) v[k] = plus(a[k], b[k]);
  std::memcpy(static_cast<void*>(out), v, sizeof v);
}

template <class T>
inline void sum_elements(const T* a, const T* b, T* out, int64_t n) {
  const int64_t whole = n / 8 * 8;
  for (int64_t j = 0; j < whole; j += 8) sum_block<8>(a + j, b + j, out + j);
  for (int64_t j = whole; j < n; ++j) sum_block<1>(a + j, b + j, out + j);
}

template <class S, class T>
void sum_any(const void* a, const void* b, void* out, int64_t n) {
  constexpr int64_t kGroup = 8 * S::lanes * S::chains;
  const T *from = static_cast<const T*>(a), *and_from = static_cast<const T*>(b);
  T* to = static_cast<T*>(out);
  int64_t j = 0;
  for (; j + kGroup <= n; j += kGroup) S::template sum<false>(from + j, and_from + j, to + j);
  sum_elements(from + j, and_from + j, to + j, n - j);
}

template <class T, class Scale>
inline void apply_bytes(Summands<T> in, T* out, const uint8_t* keep, int64_t n, Scale scale) {
  constexpr int64_t kPart = 8;
  T thin[kPart];
  for (int64_t j = 0; j < n; j += kPart) {
    const int64_t m = n - j < kPart ? n - j : kPart;
    apply_bytes(in.x + j, thin, keep + j, m, scale);
    sum_elements(thin, in.residual + j, out + j, m);
  }
}

template <class S, bool Streaming, class T, class Scale>
inline void apply_group(Summands<T> in, T* out, const typename S::Drops& drops, Scale scale) {
  alignas(64) T thin[8 * S::lanes * S::chains];
  S::template apply<false>(in.x, thin, drops, scale);
  S::template sum<Streaming>(thin, in.residual, out);
}

}  // namespace
}  // namespace thinned
