// The positions of the largest numbers u: which units a site keeps that keeps a fixed number of them.
#pragma once

#include <cstdint>

namespace thinned {

// Of each of `rows` rows of `size` positions, the `count` whose 32-bit numbers are largest, and of equal numbers those of
// the lowest positions; ascending, numbered within the row. 0 <= count <= size < 2^32.
void largest(uint64_t seed, uint64_t stream, int64_t rows, int64_t size, int64_t count, int64_t* out);

}  // namespace thinned
