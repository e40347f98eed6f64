// Elements that lie apart, to contiguous memory and back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cursor.h"
#include "kernels.h"
#include "value.h"

namespace thinned {

// Calls f with a number of the element type.
template <class F>
inline void with_type(Dtype t, F f) {
  switch (t) {
    case kFloat32: return f(float{});
    case kFloat64: return f(double{});
    case kFloat16: return f(Half{});
    case kBfloat16: return f(Brain{});
    default: return f(uint8_t{});
  }
}

// A loop of a stride that the compiler knows becomes vectors: reversed and every second element take half the time.
template <class T>
inline void gather(const T* from, int64_t stride, T* to, int64_t n) {
  switch (stride) {
    case 0: std::fill_n(to, n, T(*from)); return;
    case 1: std::memcpy(static_cast<void*>(to), from, size_t(n) * sizeof(T)); return;
    case -1:
      for (int64_t j = 0; j < n; ++j) to[j] = from[-j];
      return;
    case 2:
      for (int64_t j = 0; j < n; ++j) to[j] = from[2 * j];
      return;
    default:
      for (int64_t j = 0; j < n; ++j) to[j] = from[j * stride];
  }
}

template <class T>
inline void scatter(const T* from, T* to, int64_t stride, int64_t n) {
  switch (stride) {
    case 1: std::memcpy(static_cast<void*>(to), from, size_t(n) * sizeof(T)); return;
    case -1:
      for (int64_t j = 0; j < n; ++j) to[-j] = from[j];
      return;
    case 2:
      for (int64_t j = 0; j < n; ++j) to[2 * j] = from[j];
      return;
    default:
      for (int64_t j = 0; j < n; ++j) to[j * stride] = from[j];
  }
}

// The elements of one array, in the order of a job's dimensions, as stretches of one stride.
class Walk {
 public:
  template <class Stride>
  Walk(const std::vector<Dim>& dims, Stride Dim::*stride) {
    for (const Dim& d : dims) {
      const auto step = int64_t(d.*stride);
      if (!axes_.empty() && axes_.back().step == step * d.size)
        axes_.back() = {axes_.back().size * d.size, step, 0};
      else
        axes_.push_back({d.size, step, 0});
    }
    if (axes_.empty()) axes_.push_back({1, 1, 0});
  }

  bool contiguous() const { return axes_.size() == 1 && axes_[0].step == 1; }
  int64_t step() const { return axes_.back().step; }
  int64_t offset() const { return offset_; }
  // How many elements the stretch still has.
  int64_t left() const { return axes_.back().size - axes_.back().index; }

  void seek(int64_t flat) {
    offset_ = 0;
    for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
      axis->index = flat % axis->size;
      flat /= axis->size;
      offset_ += axis->index * axis->step;
    }
  }
  // On by n elements, of those that are left.
  void advance(int64_t n) {
    Axis& last = axes_.back();
    offset_ += n * last.step;
    if ((last.index += n) < last.size) return;
    for (size_t k = axes_.size(); k-- > 1;) {
      offset_ += axes_[k - 1].step - axes_[k].size * axes_[k].step;
      axes_[k].index = 0;
      if (++axes_[k - 1].index < axes_[k - 1].size) return;
    }
  }

 private:
  struct Axis {
    int64_t size, step, index;
  };
  std::vector<Axis> axes_;
  int64_t offset_ = 0;
};

// The next n elements of a walk over `base`.
template <class T>
inline void gather(const T* base, Walk& walk, T* to, int64_t n) {
  for (int64_t m; n > 0; n -= m, to += m) {
    m = walk.left() < n ? walk.left() : n;
    gather(base + walk.offset(), walk.step(), to, m);
    walk.advance(m);
  }
}
template <class T>
inline void scatter(const T* from, T* base, Walk& walk, int64_t n) {
  for (int64_t m; n > 0; n -= m, from += m) {
    m = walk.left() < n ? walk.left() : n;
    scatter(from, base + walk.offset(), walk.step(), m);
    walk.advance(m);
  }
}

}  // namespace thinned
