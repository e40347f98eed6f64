#include "kept.h"

#include <vector>

#include "layout.h"

namespace thinned {

void kept(const Kernels& kernels, uint64_t seed, uint64_t stream, uint64_t threshold, int64_t rows, int64_t size,
          int64_t* out, int64_t* counts) {
  std::vector<uint8_t> mask(size_t(size) + 1);
  for (int64_t row = 0; row < rows; ++row, out += size) {
    execute(kernels,
            {kMask, nullptr, mask.data(), {{size, 1, 1, 1}}, uint64_t(row) * uint64_t(size), seed, stream, threshold, 1.0},
            1);
    int64_t count = 0;
    for (int64_t j = 0; j < size; ++j) {  // without a branch that nobody can foresee
      out[count] = j;
      count += mask[size_t(j)];
    }
    counts[row] = count;
  }
}

}  // namespace thinned
