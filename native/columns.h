// Some elements of a row: gathered side by side, or spread over a row of zeros. Vectors go by a bit an element: all
// of a vector's kept lanes move at once, whichever they are. Without vectors it goes by their numbers.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels.h"
#include "value.h"

namespace thinned {
namespace {

// Bits of up to 16 elements from a multiple of as many.
inline uint32_t bits_at(const Columns& c, int64_t element) {
  return uint32_t(c.bits[element >> 6] >> (element & 63));
}

template <class T>
inline T scaled_once(T x, const Columns& c) {
  return c.scale == 1.0 ? x : times(x, typename ScaleOf<T>::type(c.scale));
}

struct PlainColumns {
  template <class T>
  static void take(const Columns& c, const T* row, T* part) {
    if (c.scale == 1.0)
      for (int64_t k = 0; k < c.kept; ++k) part[k] = row[c.numbers[k]];
    else
      for (int64_t k = 0; k < c.kept; ++k) part[k] = scaled_once(row[c.numbers[k]], c);
  }
  template <bool Add, class T>
  static void put(const Columns& c, const T* part, T* row) {
    if constexpr (Add) {
      for (int64_t k = 0; k < c.kept; ++k)
        row[c.numbers[k]] = plus(row[c.numbers[k]], scaled_once(part[k], c));
      return;
    }
    std::memset(static_cast<void*>(row), 0, size_t(c.n) * sizeof(T));
    for (int64_t k = 0; k < c.kept; ++k) row[c.numbers[k]] = scaled_once(part[k], c);
  }
};

// By vectors of W::lanes elements, for instruction sets that say how one is squeezed and spread.
template <class W, class T>
inline void take_vectors(const Columns& c, const T* row, T* part) {
  constexpr int L = W::lanes;
  const bool scales = c.scale != 1.0;
  const auto scale = W::all(T(c.scale));
  int64_t left = c.kept;
  for (int64_t j = 0; j < c.n; j += L) {
    const uint32_t bits = bits_at(c, j) & W::mask(L);
    if (!bits) continue;
    auto v = c.n - j >= L ? W::load(row + j) : W::load(row + j, int(c.n - j));
    if (scales) v = W::times(v, scale);
    v = W::squeezed(v, bits);
    // What stands behind the kept lanes is overwritten by the next vector, within the row.
    if (left >= L)
      W::store(part, v);
    else
      W::store(part, v, int(left));
    const int count = W::count(bits);
    part += count;
    left -= count;
  }
}

template <class W, bool Add, class T>
inline void put_vectors(const Columns& c, const T* part, T* row) {
  constexpr int L = W::lanes;
  const bool scales = c.scale != 1.0;
  const auto scale = W::all(T(c.scale));
  int64_t left = c.kept;
  for (int64_t j = 0; j < c.n; j += L) {
    const uint32_t bits = bits_at(c, j) & W::mask(L);
    const int64_t n = c.n - j;
    if (Add && !bits) continue;
    auto v = left >= L ? W::load(part) : W::load(part, int(left));
    if (scales) v = W::times(v, scale);
    v = W::spread(v, bits);
    if constexpr (Add) v = W::plus(n >= L ? W::load(row + j) : W::load(row + j, int(n)), v, bits);
    if (n >= L)
      W::store(row + j, v);
    else
      W::store(row + j, v, int(n));
    const int count = W::count(bits);
    part += count;
    left -= count;
  }
}

// Half floats are gone through one by one.
template <class Floats, class Doubles>
struct VectorColumns {
  static void take(const Columns& c, const float* row, float* part) { take_vectors<Floats>(c, row, part); }
  static void take(const Columns& c, const double* row, double* part) { take_vectors<Doubles>(c, row, part); }
  template <class T>
  static void take(const Columns& c, const T* row, T* part) {
    PlainColumns::take(c, row, part);
  }
  template <bool Add>
  static void put(const Columns& c, const float* part, float* row) {
    put_vectors<Floats, Add>(c, part, row);
  }
  template <bool Add>
  static void put(const Columns& c, const double* part, double* row) {
    put_vectors<Doubles, Add>(c, part, row);
  }
  template <bool Add, class T>
  static void put(const Columns& c, const T* part, T* row) {
    PlainColumns::put<Add>(c, part, row);
  }
};

template <class S, class T>
void taken_any(const Columns& c, const void* row, void* part) {
  S::Picks::take(c, static_cast<const T*>(row), static_cast<T*>(part));
}

template <class S, class T>
void put_any(const Columns& c, const void* part, void* row, bool add) {
  const T* from = static_cast<const T*>(part);
  T* to = static_cast<T*>(row);
  if (add)
    S::Picks::template put<true>(c, from, to);
  else
    S::Picks::template put<false>(c, from, to);
}

}  // namespace
}  // namespace thinned
