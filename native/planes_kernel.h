// The table of an instruction set, from templates.
//
// S gives, beside what attention_product.h needs: Mask, mask, between, load of some lanes, store of the first
// n, sum, and add_up of as many vectors as a tile has.
#pragma once

#include <type_traits>

#include "attention_product.h"
#include "planes.h"

namespace thinned {
namespace {

template <class S, int M, int N>
void tile_of(const Tile& t) {
  using V = typename S::V;
  V sum[M][N];
  const float *w = t.w, *x[N];
  THINNED_UNROLL
  for (int n = 0; n < N; ++n) x[n] = t.x + t.starts[n];
  THINNED_UNROLL
  for (int m = 0; m < M; ++m)
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) sum[m][n] = t.add ? S::load(t.c + m * t.c_row + n * S::lanes) : S::zero();
  for (int64_t k = 0; k < t.depth; ++k, w += M) {
    const int64_t at = t.offsets[k];
    V right[N];
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) right[n] = S::load(x[n] + at);
    THINNED_UNROLL
    for (int m = 0; m < M; ++m) {
      const V left = S::set(w[m]);
      THINNED_UNROLL
      for (int n = 0; n < N; ++n) sum[m][n] = S::fma(left, right[n], sum[m][n]);
    }
  }
  THINNED_UNROLL
  for (int m = 0; m < M; ++m)
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) S::store(t.c + m * t.c_row + n * S::lanes, sum[m][n]);
}

// Addresses that the compiler takes as they are: it would count them from one base again, at an addition each, and
// additions take the units that products need.
inline const float* plain(const float* x) {
#if defined(__GNUC__)
  asm("" : "+r"(x));
#endif
  return x;
}

template <class S, int M, int N, bool masked>
void dots_some(const Dots& d) {
  using V = typename S::V;
  V sum[M][N];
  THINNED_UNROLL
  for (int m = 0; m < M; ++m)
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) sum[m][n] = d.add ? S::load(d.sums + (m * N + n) * S::lanes) : S::zero();
  const int32_t *starts = d.starts + d.first, *end = starts + d.vectors;
  for (int64_t u = 0; u < d.units; ++u) {
    const float *y = d.y + u * d.y_unit + d.first * (M * S::lanes), *x[N];
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) x[n] = plain(d.x + u * d.x_unit + d.offsets[n]);
    [[maybe_unused]] const int32_t* masks = masked ? d.masks[u] + d.first * S::lanes : nullptr;
    for (const int32_t* start = starts; start < end; ++start, y += M * S::lanes) {
      const int64_t at = *start;
      V right[N];
      if constexpr (masked) {
        const typename S::Mask mask = S::mask(masks);
        masks += S::lanes;
        THINNED_UNROLL
        for (int n = 0; n < N; ++n) right[n] = S::load(x[n] + at, mask);
      } else {
        THINNED_UNROLL
        for (int n = 0; n < N; ++n) right[n] = S::load(x[n] + at);
      }
      THINNED_UNROLL
      for (int m = 0; m < M; ++m) {
        const V left = S::load(y + m * S::lanes);
        THINNED_UNROLL
        for (int n = 0; n < N; ++n) sum[m][n] = S::fma(left, right[n], sum[m][n]);
      }
    }
  }
  THINNED_UNROLL
  for (int m = 0; m < M; ++m)
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) S::store(d.sums + (m * N + n) * S::lanes, sum[m][n]);
}

template <class S, int M, int N>
void dots_of(const Dots& d) {
  if (d.masks)
    dots_some<S, M, N, true>(d);
  else
    dots_some<S, M, N, false>(d);
}

template <class S, int M, int N, class What>
void chosen(int64_t rows, int64_t columns, const What& what) {
  if constexpr (M > 0 && N > 0) {
    if (columns < N) return chosen<S, M, N - 1>(rows, columns, what);
    if (rows < M) return chosen<S, M - 1, N>(rows, columns, what);
    if constexpr (std::is_same_v<What, Tile>)
      tile_of<S, M, N>(what);
    else
      dots_of<S, M, N>(what);
  }
}

template <class S>
void place(const float* c, int64_t lane, const Piece* pieces, int64_t n, float bias, float* out, int64_t step) {
  const auto more = S::set(bias);
  for (const Piece* p = pieces; p < pieces + n; ++p) {
    const float* from = c + (p->lane - lane);
    float* to = out + p->to;
    if (step == 1)
      S::store(to, S::add(S::load(from), more), p->count);
    else
      for (int32_t k = 0; k < p->count; ++k) to[k * step] = from[k] + bias;
  }
}

template <class S>
float collect(const float* results, const Vectors& vectors, float* to, int64_t apart) {
  auto sum = S::zero();
  if (!vectors.full)
    for (size_t v = 0; v < vectors.starts.size(); ++v) S::store(to + int64_t(v) * apart, S::zero());
  for (const Piece& p : vectors.pieces) {
    const auto some = S::load(results + p.to, S::between(0, p.count));
    S::store(to + p.lane / S::lanes * apart + p.lane % S::lanes, some, p.count);
    sum = S::add(sum, some);
  }
  return S::sum(sum);
}

template <class S>
void add_up(const float* sums, int64_t n, float* out, bool add) {
  float all[S::vectors];
  if (n == S::vectors) S::add_up(sums, all);
  for (int64_t k = 0; k < n; ++k) {
    const float sum = n == S::vectors ? all[k] : S::sum(S::load(sums + k * S::lanes));
    out[k] = add ? out[k] + sum : sum;
  }
}

template <class S>
bool pad(const Padded& p) {
  constexpr int64_t L = S::lanes;
  auto none = S::zero();  // NaN where one is not finite
  for (int64_t j = 0; j < p.wide; j += L) {
    const int64_t first = j - p.skip;  // of the vector, in the source's row
    const auto mask = S::between(int(std::clamp<int64_t>(-first, 0, L)), int(std::clamp<int64_t>(p.n - first, 0, L)));
    const int some = int(std::min(L, p.wide - j));
    const float* from = p.from + first;
    float* to = p.to + j;
    auto put = [&](typename S::V v) {
      if (some == L)
        S::store(to, v);
      else
        S::store(to, v, some);
      to += p.wide;
    };
    for (int64_t row = 0; row < p.above; ++row) put(S::zero());
    for (int64_t row = 0; row < p.rows; ++row, from += p.from_row) {
      const auto v = S::load(from, mask);
      none = S::fma(v, S::zero(), none);
      put(v);
    }
    for (int64_t row = 0; row < p.below; ++row) put(S::zero());
  }
  return S::sum(none) == 0;
}

template <class S>
const PlaneKernels* planes_table() {
  static const PlaneKernels table = {S::lanes, S::rows, S::vectors, chosen<S, S::rows, S::vectors, Tile>,
                                     chosen<S, S::rows, S::vectors, Dots>, add_up<S>, place<S>, collect<S>, pad<S>};
  return &table;
}

}  // namespace
}  // namespace thinned
