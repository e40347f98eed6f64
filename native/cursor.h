// The dimensions of strided arrays: merged where they are one, and counted through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace thinned {

struct Dim {
  int64_t size;
  int64_t x, out;     // strides in elements
  uint64_t position;  // stride in positions; 0 where the mask is shared along this dimension
};

// Merge neighbours that are one dimension in memory and in position; drop dimensions of size 1.
inline void simplify(std::vector<Dim>& dims) {
  std::vector<Dim> merged;
  for (const Dim& d : dims) {
    if (d.size == 1) continue;
    if (!merged.empty()) {
      Dim& outer = merged.back();
      if (outer.x == d.x * d.size && outer.out == d.out * d.size &&
          outer.position == d.position * uint64_t(d.size)) {
        outer = {outer.size * d.size, d.x, d.out, d.position};
        continue;
      }
    }
    merged.push_back(d);
  }
  dims.swap(merged);
}

// The offsets of one multi-index over some dimensions, counted up like an odometer.
class Cursor {
 public:
  explicit Cursor(const std::vector<Dim>& dims) : dims_(dims), index_(dims.size(), 0) {}

  int64_t total() const {
    int64_t n = 1;
    for (const Dim& d : dims_) n *= d.size;
    return n;
  }
  void seek(int64_t flat) {
    x = out = 0;
    position = 0;
    for (std::size_t k = dims_.size(); k-- > 0;) {
      index_[k] = flat % dims_[k].size;
      flat /= dims_[k].size;
      move(dims_[k], index_[k]);
    }
  }
  void next() {
    for (std::size_t k = dims_.size(); k-- > 0;) {
      if (++index_[k] < dims_[k].size) return move(dims_[k], 1);
      move(dims_[k], 1 - index_[k]);
      index_[k] = 0;
    }
  }

  int64_t x = 0, out = 0;
  uint64_t position = 0;

 private:
  void move(const Dim& d, int64_t steps) {
    x += steps * d.x;
    out += steps * d.out;
    position += uint64_t(steps) * d.position;
  }
  const std::vector<Dim>& dims_;
  std::vector<int64_t> index_;
};

}  // namespace thinned
