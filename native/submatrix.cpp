#include "submatrix.h"

#include <algorithm>
#include <cstring>

#include "pool.h"
#include "share.h"

namespace thinned {
namespace {

struct Task {
  const Submatrix& what;
  bool add;
};

// Two bytes that are only moved; the addition of float16 and bfloat16 is the caller's.
struct Half {
  uint16_t bits;
};

template <class T>
T times(T x, double scale) {
  return x * T(scale);
}
template <>
Half times(Half x, double) {
  return x;
}
template <class T>
void plus(T& to, T x) {
  to += x;
}
template <>
void plus(Half& to, Half x) {
  to = x;
}

// An output row from an input row, `each` columns of `inner` elements.
template <class T, class Write>
void columns(const Submatrix& w, Write write) {
  const int64_t n = w.inner;
  if (!w.columns) {
    for (int64_t k = 0; k < w.part_width * n; ++k) write(k, k);
  } else if (n == 1) {
    for (int64_t k = 0; k < w.part_width; ++k) write(w.columns[k], k);
  } else {
    for (int64_t k = 0; k < w.part_width; ++k)
      for (int64_t e = 0; e < n; ++e) write(w.columns[k] * n + e, k * n + e);
  }
}

template <class T>
void take_rows(const Submatrix& w, int64_t begin, int64_t end) {
  const int64_t across = w.width * w.inner, along = w.part_row;
  for (int64_t row = begin; row < end; ++row) {
    const T* from = static_cast<const T*>(w.whole) + (w.rows ? w.rows[row] : row) * across;
    T* to = static_cast<T*>(w.part) + row * along;
    if (w.scale == 1.0)
      columns<T>(w, [=](int64_t whole, int64_t part) { to[part] = from[whole]; });
    else
      columns<T>(w, [=](int64_t whole, int64_t part) { to[part] = times(from[whole], w.scale); });
  }
}

// Rows of the whole, so that each is written by one thread and once.
template <class T>
void put_rows(const Submatrix& w, bool add, int64_t begin, int64_t end) {
  const int64_t across = w.width * w.inner, along = w.part_row;
  int64_t next = w.rows ? std::lower_bound(w.rows, w.rows + w.part_height, begin) - w.rows : begin;
  for (int64_t row = begin; row < end; ++row) {
    T* to = static_cast<T*>(w.whole) + row * across;
    const bool kept = next < w.part_height && (!w.rows || w.rows[next] == row);
    if (!add && (!kept || w.columns)) std::memset(static_cast<void*>(to), 0, size_t(across) * sizeof(T));
    if (!kept) continue;
    const T* from = static_cast<const T*>(w.part) + next++ * along;
    if (add)
      columns<T>(w, [=](int64_t whole, int64_t part) { plus(to[whole], times(from[part], w.scale)); });
    else
      columns<T>(w, [=](int64_t whole, int64_t part) { to[whole] = times(from[part], w.scale); });
  }
}

template <class T>
void take_part(void* context, int part, int parts) {
  const Submatrix& w = static_cast<const Task*>(context)->what;
  take_rows<T>(w, w.part_height * part / parts, w.part_height * (part + 1) / parts);
}

template <class T>
void put_part(void* context, int part, int parts) {
  const Task& t = *static_cast<const Task*>(context);
  put_rows<T>(t.what, t.add, t.what.height * part / parts, t.what.height * (part + 1) / parts);
}

int many(int64_t elements, int threads) {
  return int(std::clamp<int64_t>(elements / kSerial, 1, std::max(threads, 1)));
}

}  // namespace

void take(const Submatrix& what, int threads) {
  Task task{what, false};
  auto run = what.dtype == kFloat64   ? take_part<double>
             : what.dtype == kFloat32 ? take_part<float>
                                      : take_part<Half>;
  parallel(many(what.part_height * what.part_width * what.inner, threads), run, &task);
}

void put(const Submatrix& what, bool add, int threads) {
  Task task{what, add};
  auto run = what.dtype == kFloat64 ? put_part<double> : what.dtype == kFloat32 ? put_part<float> : put_part<Half>;
  parallel(many(what.height * what.width * what.inner, threads), run, &task);
}

}  // namespace thinned
