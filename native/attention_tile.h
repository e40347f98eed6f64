// What is done to one tile of scores beside the products: masks, exponentials, drops.
//
// S gives, beside what attention_product.h needs: max, sub, mul, exp2_scale, round, keep (bytes to lanes), chosen, below.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>

#include "attention.h"
#include "attention_product.h"
#include "value.h"

namespace thinned {
namespace {

constexpr float kLog2e = 1.4426950408889634f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

constexpr int64_t kRows = 64, kColumns = 256;  // of a tile: queries by keys
constexpr int64_t kByteRow = kColumns + 64;    // keep bytes of a row, which may begin 7 before it

// 2^x for x up to about 1, to 1.5 units in the last place (Cephes' polynomial); 0 below 2^-126 and for -inf; NaN stays.
template <class S>
inline typename S::V exp2(typename S::V x) {
  using V = typename S::V;
  const V y = S::max(S::set(-127.0f), x), whole = S::round(y), f = S::sub(y, whole);
  V p = S::set(1.535336188319500e-4f);
  p = S::fma(p, f, S::set(1.339887440266574e-3f));
  p = S::fma(p, f, S::set(9.618437357674640e-3f));
  p = S::fma(p, f, S::set(5.550332471162809e-2f));
  p = S::fma(p, f, S::set(2.402264791363012e-1f));
  p = S::fma(p, f, S::set(6.931472028550421e-1f));
  p = S::fma(p, f, S::set(1.0f));
  return S::scaled(p, whole, x);
}

// e^(x - most). The difference comes first: times log2(e), large scores would lose what is between them, or overflow.
template <class S>
inline typename S::V exp_from(typename S::V x, typename S::V most) {
  return exp2<S>(S::mul(S::sub(x, most), S::set(kLog2e)));
}

template <class S>
inline float one_exp(float x, float most) {
  float all[S::lanes];
  S::store(all, exp_from<S>(S::set(x), S::set(most)));
  return all[0];
}

// A row's logsumexp in two parts: its largest score, and the logarithm of the sum of exponentials from there. Beside a
// score of -1e9 or less, as masks make them, one number has no place for that.
struct Sum {
  float most, log;
};

// Of a row of S::lanes-wide sums, in one order.
template <class S>
inline float total(typename S::V v) {
  float all[S::lanes];
  S::store(all, v);
  float sum = 0;
  for (float one : all) sum += one;
  return sum;
}

template <class S>
inline float largest(typename S::V v) {
  float all[S::lanes];
  S::store(all, v);
  float most = all[0];
  for (float one : all) most = one > most ? one : most;
  return most;
}

inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

inline float widen(float x) { return x; }
inline void narrow(float x, float& out) { out = x; }
inline void narrow(float x, Half& out) { out = narrow_half(x); }
inline void narrow(float x, Brain& out) { out = narrow_brain(x); }

// Rows of any of the element types into float32, with zeros up to `to` columns.
template <class T>
void widen_rows(const void* data, int64_t row, int64_t rows, int64_t width, float factor, float* out, int64_t to) {
  const T* x = static_cast<const T*>(data);
  for (int64_t r = 0; r < rows; ++r, x += row, out += to) {
    for (int64_t j = 0; j < width; ++j) out[j] = widen(x[j]) * factor;
    for (int64_t j = width; j < to; ++j) out[j] = 0;
  }
}

inline void gather(Dtype dtype, const void* data, int64_t first, int64_t row, int64_t rows, int64_t width, float factor,
                   float* out, int64_t to) {
  const char* from = static_cast<const char*>(data) + first * row * kItemSize[dtype];
  if (dtype == kFloat32) return widen_rows<float>(from, row, rows, width, factor, out, to);
  if (dtype == kFloat16) return widen_rows<Half>(from, row, rows, width, factor, out, to);
  widen_rows<Brain>(from, row, rows, width, factor, out, to);
}

template <class T>
void narrow_rows(const float* x, int64_t from, int64_t rows, int64_t width, float factor, void* data, int64_t row) {
  T* out = static_cast<T*>(data);
  for (int64_t r = 0; r < rows; ++r, x += from, out += row)
    for (int64_t j = 0; j < width; ++j) narrow(x[j] * factor, out[j]);
}

inline void scatter(Dtype dtype, const float* x, int64_t from, int64_t rows, int64_t width, float factor, void* data,
                    int64_t first, int64_t row) {
  char* to = static_cast<char*>(data) + first * row * kItemSize[dtype];
  if (dtype == kFloat32) return narrow_rows<float>(x, from, rows, width, factor, to, row);
  if (dtype == kFloat16) return narrow_rows<Half>(x, from, rows, width, factor, to, row);
  narrow_rows<Brain>(x, from, rows, width, factor, to, row);
}

// Rows of keys, packed as `from` wide, into panels of columns: element (e, key j).
template <class S>
void turn(const float* x, int64_t from, int64_t keys, int64_t width, float* out) {
  constexpr int64_t kWide = S::vectors * S::lanes;
  for (int64_t j = 0; j < keys; j += kWide, out += width * kWide) {
    const int64_t n = std::min(kWide, keys - j);
    for (int64_t e = 0; e < width; ++e) {
      for (int64_t i = 0; i < n; ++i) out[e * kWide + i] = x[(j + i) * from + e];
      for (int64_t i = n; i < kWide; ++i) out[e * kWide + i] = 0;
    }
  }
}

// e^(x - most - log).
template <class S>
inline typename S::V probability(typename S::V x, const Sum& sum) {
  return exp2<S>(S::fma(S::sub(x, S::set(sum.most)), S::set(kLog2e), S::set(-kLog2e * sum.log)));
}

// One tile: queries [i, i + rows) by keys [j, j + columns).
struct Tile {
  int64_t i, rows, j, columns;
};

// The keep bytes of a tile, a row each kByteRow; those of row r begin at offset[r].
struct Keeps {
  uint8_t bytes[kRows * kByteRow];
  const uint8_t* row[kRows];
};

inline void fill(const Kernels& kernels, const Attention& c, const Head& h, const Tile& t, Keeps& keeps) {
  if (h.threshold == 0 || h.threshold >= kDropAll) {
    std::memset(keeps.bytes, h.threshold == 0, sizeof keeps.bytes);
    for (int64_t r = 0; r < t.rows; ++r) keeps.row[r] = keeps.bytes;
    return;
  }
  struct Rows {
    uint64_t start, step;
    int64_t left, n;
    uint8_t* to;
    const uint8_t** row;
  } rows{h.base + uint64_t(t.i) * uint64_t(c.positions.row) + uint64_t(t.j), uint64_t(c.positions.row), t.rows,
         t.columns, keeps.bytes, keeps.row};
  auto next = [](void* data, Run& run) {
    auto& s = *static_cast<Rows*>(data);
    if (!s.left--) return false;
    const int64_t before = int64_t(s.start & 7);  // so that all runs begin with a block of the generator
    run = {nullptr, s.to, s.start - uint64_t(before), up(s.n + before, 8)};
    *s.row++ = s.to + before;
    s.to += kByteRow;
    s.start += s.step;
    return true;
  };
  kernels.runs[kMask](make_draw(h.seed, h.stream, h.threshold), next, &rows, 1.0, false);
}

template <class T>
void add_row(const void* mask, int64_t step, int64_t n, float* s) {
  const T* bias = static_cast<const T*>(mask);
  for (int64_t j = 0; j < n; ++j) s[j] += widen(bias[j * step]);
}

// What a query may not see becomes -inf, and what stands beyond the tile, up to `end`; a bias is added.
template <class S>
inline void hide(const Attention& c, const Head& h, const Tile& t, int64_t r, float* s, int64_t end) {
  const int64_t i = t.i + r, at = i * c.mask.row + t.j * c.mask.column;
  int64_t seen = t.columns;
  if (c.causal) seen = std::max<int64_t>(0, std::min(seen, i + 1 - t.j));
  if (c.mask_kind == kBool) {
    const auto* look = static_cast<const uint8_t*>(h.mask) + at;
    for (int64_t j = 0; j < seen; ++j) s[j] = look[j * c.mask.column] ? s[j] : -kInfinity;
  } else if (c.mask_kind == kAdded) {
    const auto* bias = static_cast<const char*>(h.mask) + at * kItemSize[c.mask_dtype];
    if (c.mask_dtype == kFloat32) add_row<float>(bias, c.mask.column, seen, s);
    if (c.mask_dtype == kFloat16) add_row<Half>(bias, c.mask.column, seen, s);
    if (c.mask_dtype == kBfloat16) add_row<Brain>(bias, c.mask.column, seen, s);
  }
  for (int64_t j = seen; j < end; ++j) s[j] = -kInfinity;
}

}  // namespace
}  // namespace thinned
