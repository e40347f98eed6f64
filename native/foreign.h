// The kernel as other frameworks' plug-ins call it: one C function over row-major arrays.
#pragma once

#include <cstdint>

namespace thinned {

// out = x * scale where kept, +0 where dropped. x and out are contiguous and of `shape`; an element's position is
// `base` + the sum of index * stride, stride 0 where the decision is shared. dtype as in kernels.h (kMask: x
// unused). threads 0: as many as this process may run on.
void foreign(int dtype, const void* x, void* out, int dims, const int64_t* shape,
             const uint64_t* position_strides, uint64_t base, uint64_t seed, uint64_t stream,
             uint64_t threshold, double scale, int threads);

using Foreign = decltype(&foreign);

}  // namespace thinned
