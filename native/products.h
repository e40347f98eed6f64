// Products of float32 matrices, as the drivers of linear maps take them from an instruction set.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace thinned {

// Some rows of a linear map of a panel: the weight is read where it stands.
struct Picked {
  const float* weight;
  int64_t width;                 // of the weight
  const int64_t *rows, *columns; // the kept numbers
  int64_t height, depth;         // and how many they are
  const float* panel;            // of x: element (k, j) = x[j, k] at k * wide + j, zeros from j = inputs to a multiple of lanes
  bool whole;                    // has a row for each column of the weight, not for each that is kept
  int64_t inputs;                // wide or fewer
  float scale;
  const float* bias;  // by the whole weight's rows, or null
  bool relu;          // of what is written
  float* room;        // of height * wide floats
  float* out;         // an input's rows side by side
  int64_t out_row;    // from one input to the next
};

struct Products {
  int64_t lanes, wide;  // of a vector; of a panel: the columns of a right factor that stand together
  // c (+)= a · b, of `rows` rows by `columns`, a multiple of the lanes; a[r, k] at left + r * row + k * column; element
  // (k, j) of panel p of b at right + p * panel + k * wide + j.
  void (*product)(const float* left, int64_t row, int64_t column, const float* right, int64_t panel, float* c,
                  int64_t c_row, int64_t rows, int64_t columns, int64_t depth, bool add);
  // Rows of x as neighbouring columns of a panel: element (k, j) = x[j, k], and 0 for j from n to a multiple of lanes.
  void (*turn)(const float* x, int64_t row, int64_t n, int64_t depth, float* panel);
  void (*picked)(const Picked& what);
};

// Null where this build lacks the instructions: BLAS is faster then.
const Products* avx2_products();
const Products* avx512_products();
// Those that go with these kernels, or null.
const Products* products_for(const Kernels& kernels);

}  // namespace thinned
