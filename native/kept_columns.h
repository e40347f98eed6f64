// The kept elements of every row of a matrix, by bits and by numbers.
#pragma once

#include <algorithm>
#include <vector>

#include "submatrix.h"

namespace thinned {

class KeptColumns {
 public:
  // Without columns all are kept, and no bits are made unless they are wanted.
  explicit KeptColumns(const Submatrix& w, bool bits_of_all = false)
      : columns_{nullptr, nullptr, w.width * w.inner, w.part_width * w.inner, w.scale} {
    if (!w.columns && !bits_of_all) return;
    numbers_.resize(size_t(columns_.kept));
    bits_.resize(size_t(columns_.n / 64 + 1));
    for (int64_t k = 0, at = 0; k < w.part_width; ++k)
      for (int64_t e = 0; e < w.inner; ++e) {
        const int64_t number = (w.columns ? w.columns[k] : k) * w.inner + e;
        numbers_[size_t(at++)] = number;
        bits_[size_t(number >> 6)] |= uint64_t(1) << (number & 63);
      }
    columns_.numbers = numbers_.data();
    columns_.bits = bits_.data();
  }
  KeptColumns(const KeptColumns&) = delete;
  KeptColumns(KeptColumns&&) = default;
  const Columns& columns() const { return columns_; }
  bool all() const { return !columns_.bits; }
  // Those that go through a row: fewer kept than one element in so many are found faster one by one.
  const Kernels& kernels(const Kernels& fast) const { return columns_.kept * kFew < columns_.n ? *portable_kernels() : fast; }

 private:
  static constexpr int64_t kFew = 16;
  std::vector<uint64_t> bits_;
  std::vector<int64_t> numbers_;
  Columns columns_;
};

}  // namespace thinned
