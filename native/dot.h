// Inner products of a vector with many thinned copies of another, in one pass that stores no mask and no copy.
#pragma once

#include "kernels.h"

namespace thinned {

// out[d] = sum over j of w[j] * x[j], where position base + d * n + j is kept; x and w contiguous, d < draws. Tiles
// are summed in float and their sums added in double, in order: no result depends on the number of threads.
void dots(const Kernels& kernels, const float* x, const float* w, double* out, int64_t n,
          int64_t draws, uint64_t base, uint64_t seed, uint64_t stream, uint64_t threshold,
          int threads);

}  // namespace thinned
