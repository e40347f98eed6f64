// Normal deviates for an array of any shape (CONTRACT.md, section 6).
#pragma once

#include <vector>

#include "cursor.h"
#include "kernels.h"

namespace thinned {

// Into contiguous float32 memory: the element of a multi-index has position `base` + the sum of index * stride. Of
// `dims`, size and position are read.
struct Deviates {
  float* out;
  std::vector<Dim> dims;
  uint64_t base, seed, stream;
};

void normal(const Kernels& kernels, Deviates job, int threads);

}  // namespace thinned
