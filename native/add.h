// Residual and dropout in one pass over memory.
#pragma once

#include "kernels.h"

namespace thinned {

// out = (x * scale where kept, +0 where dropped) + residual, each of the two steps rounded to the type; contiguous,
// positions base … base + n - 1. `out` may be x or the residual.
struct Addition {
  Dtype dtype;
  const void *x, *residual;
  void* out;
  int64_t n;
  uint64_t base, seed, stream;
  uint64_t threshold;  // 0 keeps all, 2^32 drops all
  double scale;
};

void add(const Kernels& kernels, const Addition& job, int threads);

}  // namespace thinned
