// Many masks in one call: rows of one shape, each with a key of its own, and what else differs.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace thinned {

// outer * inner rows, contiguous within: those of out follow one another, those of x lie x_outer and x_inner
// elements apart (0 where rows share one). Positions count within a row, from `base`.
struct Rows {
  Dtype dtype;
  const void* x;
  void* out;
  int64_t outer, inner, x_outer, x_inner;
  std::vector<int64_t> shape;              // of a row
  std::vector<uint64_t> position_strides;  // 0 where the decision is shared
  uint64_t base;
  const uint64_t* keys;  // seed and stream for each row
  uint64_t threshold;
  double scale;
  const uint64_t* each;  // null, or of each row its base, threshold and the bits of its scale in place of these
};

void many(const Kernels& kernels, const Rows& rows, int threads);

// Streams of `Key(seed, stream).fold(data)` for n keys (seed and stream each), into the streams of `out`.
void fold_many(const uint64_t* keys, const uint64_t* data, uint64_t* out, int64_t n);

}  // namespace thinned
