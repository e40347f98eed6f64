// Products by rows of a weight that stay where they are: what is kept of each is read number by number.
//
// The vectors go along the inputs. A number of a weight is then one that stands in all lanes, wherever it comes from,
// and no part of the weight is packed: for one network among many that would take a third of its product's time.
#pragma once

#include "attention_product.h"
#include "products.h"

namespace thinned {
namespace {

template <class S, int M, int N, bool Whole>
void picked_block(const float* const* rows, const int64_t* columns, const float* panel, float* c, int64_t depth, bool add) {
  using V = typename S::V;
  constexpr int64_t kWide = S::vectors * S::lanes;
  V sum[M][N];
  const float* row[M];
  THINNED_UNROLL
  for (int m = 0; m < M; ++m) {
    row[m] = rows[m];
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) sum[m][n] = add ? S::load(c + m * kWide + n * S::lanes) : S::zero();
  }
  for (int64_t k = 0; k < depth; ++k) {
    const int64_t column = columns[k];
    const float* b = panel + (Whole ? column : k) * kWide;
    V right[N];
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) right[n] = S::load(b + n * S::lanes);
    THINNED_UNROLL
    for (int m = 0; m < M; ++m) {
      const V x = S::set(row[m][column]);
      THINNED_UNROLL
      for (int n = 0; n < N; ++n) sum[m][n] = S::fma(x, right[n], sum[m][n]);
    }
  }
  THINNED_UNROLL
  for (int m = 0; m < M; ++m)
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) S::store(c + m * kWide + n * S::lanes, sum[m][n]);
}

template <class S, int N, bool Whole, int M = S::rows>
void picked_tail(int64_t height, const float* const* rows, const int64_t* columns, const float* panel, float* c,
                 int64_t depth, bool add) {
  if constexpr (M > 0) {
    if (height == M) return picked_block<S, M, N, Whole>(rows, columns, panel, c, depth, add);
    picked_tail<S, N, Whole, M - 1>(height, rows, columns, panel, c, depth, add);
  }
}

// All columns for some rows, in stretches whose part of the panel stays in the nearest cache.
template <class S, bool Whole, int N = S::vectors>
void picked_sums(int64_t vectors, const Picked& p) {
  if constexpr (N > 0) {
    if (vectors != N) return picked_sums<S, Whole, N - 1>(vectors, p);
    constexpr int64_t kWide = S::vectors * S::lanes, kDeep = 128;
    for (int64_t k = 0; k < p.depth; k += kDeep) {
      const int64_t deep = std::min(kDeep, p.depth - k);
      const float* panel = Whole ? p.panel : p.panel + k * kWide;
      for (int64_t r = 0; r < p.height; r += S::rows) {
        const int64_t some = std::min<int64_t>(S::rows, p.height - r);
        const float* rows[S::rows];
        for (int64_t m = 0; m < some; ++m) rows[m] = p.weight + p.rows[r + m] * p.width;
        picked_tail<S, N, Whole>(some, rows, p.columns + k, panel, p.room + r * kWide, deep, k != 0);
      }
    }
  }
}

// Scaled, with the bias, and turned: the row of an output becomes a column.
template <class S>
void picked_out(const Picked& p, int64_t vectors) {
  constexpr int64_t L = S::lanes, kWide = S::vectors * L;
  using V = typename S::V;
  const V scale = S::set(p.scale);
  for (int64_t r = 0; r < p.height; ++r) {
    const V bias = p.bias ? S::set(p.bias[p.rows[r]]) : S::zero();
    for (int64_t n = 0; n < vectors; ++n) {
      float* c = p.room + r * kWide + n * L;
      const V y = S::fma(S::load(c), scale, bias);
      S::store(c, p.relu ? S::max(S::zero(), y) : y);  // the second where either is NaN
    }
  }
  for (int64_t j = 0; j < p.inputs; j += L) {
    int64_t r = 0;
    if (p.inputs - j >= L)
      for (; r + L <= p.height; r += L) S::turn(p.room + r * kWide + j, kWide, p.out + j * p.out_row + r, p.out_row);
    for (; r < p.height; ++r)
      for (int64_t i = j; i < std::min(j + L, p.inputs); ++i) p.out[i * p.out_row + r] = p.room[r * kWide + i];
  }
}

template <class S>
void picked(const Picked& p) {
  const int64_t vectors = (p.inputs + S::lanes - 1) / S::lanes;
  if (!p.depth)
    std::fill(p.room, p.room + p.height * S::vectors * S::lanes, 0.0f);
  else if (p.whole)
    picked_sums<S, true>(vectors, p);
  else
    picked_sums<S, false>(vectors, p);
  picked_out<S>(p, vectors);
}

}  // namespace
}  // namespace thinned
