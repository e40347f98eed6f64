// Products of small matrices in float32 that lie in the nearest caches.
//
// S, the instruction set, gives: V, lanes, rows and vectors (of one block of accumulators), load, store, set, zero, fma.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__GNUC__)
#define THINNED_UNROLL _Pragma("GCC unroll 16")
#else
#define THINNED_UNROLL
#endif

namespace thinned {
namespace {

// a[r, k] stands at a + r * row + k * column.
struct Left {
  const float* data;
  int64_t row, column;
};

// Columns stand in panels of S::vectors vectors: element (k, panel p, j) at data + p * panel + k * row + j.
struct Right {
  const float* data;
  int64_t row, panel;
};

template <class S, int M, int N>
void block(const Left& left, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t depth, bool add) {
  using V = typename S::V;
  V sum[M][N];
  const float* a = left.data;
  const int64_t row = left.row;
  THINNED_UNROLL
  for (int m = 0; m < M; ++m)
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) sum[m][n] = add ? S::load(c + m * c_row + n * S::lanes) : S::zero();
  for (int64_t k = 0; k < depth; ++k, a += left.column, b += b_row) {
    V right[N];
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) right[n] = S::load(b + n * S::lanes);
    THINNED_UNROLL
    for (int m = 0; m < M; ++m) {
      const V x = S::set(a[m * row]);
      THINNED_UNROLL
      for (int n = 0; n < N; ++n) sum[m][n] = S::fma(x, right[n], sum[m][n]);
    }
  }
  THINNED_UNROLL
  for (int m = 0; m < M; ++m)
    THINNED_UNROLL
    for (int n = 0; n < N; ++n) S::store(c + m * c_row + n * S::lanes, sum[m][n]);
}

template <class S, int N, int M = S::rows>
void tail(int64_t rows, const Left& left, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t depth,
          bool add) {
  if constexpr (M > 0) {
    if (rows == M) return block<S, M, N>(left, b, b_row, c, c_row, depth, add);
    tail<S, N, M - 1>(rows, left, b, b_row, c, c_row, depth, add);
  }
}

template <class S, int N = S::vectors>
void panel(int vectors, int64_t rows, Left left, const float* b, int64_t b_row, float* c, int64_t c_row, int64_t depth,
           bool add) {
  if constexpr (N > 0) {
    if (vectors != N) return panel<S, N - 1>(vectors, rows, left, b, b_row, c, c_row, depth, add);
    for (; rows > 0; rows -= S::rows, c += S::rows * c_row, left.data += S::rows * left.row) {
      if (rows >= S::rows)
        block<S, S::rows, N>(left, b, b_row, c, c_row, depth, add);
      else
        tail<S, N>(rows, left, b, b_row, c, c_row, depth, add);
    }
  }
}

// c (+)= left * right, `columns` a multiple of the lanes; c has rows of c_row floats. An element is the sum over k in
// one order, wherever it stands.
template <class S>
void product(Left left, Right right, float* c, int64_t c_row, int64_t rows, int64_t columns, int64_t depth, bool add) {
  constexpr int64_t kWide = S::vectors * S::lanes, kDeep = 128;  // a panel of 32 KiB or less
  for (int64_t k = 0; k < depth; k += kDeep, add = true) {
    const int64_t deep = std::min(kDeep, depth - k);
    const Left a{left.data + k * left.column, left.row, left.column};
    for (int64_t j = 0; j < columns; j += kWide)
      panel<S>(int(std::min(kWide, columns - j) / S::lanes), rows, a,
               right.data + j / kWide * right.panel + k * right.row, right.row, c + j, c_row, deep, add);
  }
}

}  // namespace
}  // namespace thinned
