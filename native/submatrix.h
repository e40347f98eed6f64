// The kept rows and columns of a matrix, gathered into a smaller one and scattered back.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace thinned {

// A matrix of `height` rows by `width` columns of `inner` elements each, in C order, and the part of it that `rows`
// and `columns` name: ascending numbers, each at most once; null for all of them.
struct Submatrix {
  Dtype dtype;
  void *whole, *part;
  int64_t height, width, inner;
  const int64_t *rows, *columns;
  int64_t part_height, part_width;
  int64_t part_row;  // elements from one row of the part to the next
  double scale;
};

// part = scale · whole[rows][columns].
void take(const Kernels& kernels, const Submatrix& what, int threads);

// The same for many parts of one whole: each of its rows is read once, and all parts that keep it take theirs while it
// is in the nearest cache.
void take_many(const Kernels& kernels, const std::vector<Submatrix>& parts, int threads);

// whole[rows][columns] = scale · part, and 0 elsewhere; or, with `add`, it is added and nothing else is touched.
void put(const Kernels& kernels, const Submatrix& what, bool add, int threads);

}  // namespace thinned
