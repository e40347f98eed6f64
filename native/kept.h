// The positions that a mask keeps, as numbers: what a thinned network is cut out by.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace thinned {

// Of each of `rows` rows of `size` positions, the numbers within the row that are kept, ascending, in the first
// places of its own `size` of `out`; and how many they are, in `counts`.
void kept(const Kernels& kernels, uint64_t seed, uint64_t stream, uint64_t threshold, int64_t rows, int64_t size,
          int64_t* out, int64_t* counts);

}  // namespace thinned
