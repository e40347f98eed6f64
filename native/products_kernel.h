// The table of products, from the templates over an instruction set.
//
// S gives, beside what attention_product.h needs: turn, of as many rows as a vector has lanes.
#pragma once

#include "attention_product.h"
#include "products.h"
#include "products_picked.h"

namespace thinned {
namespace {

template <class S>
void turn_rows(const float* x, int64_t row, int64_t n, int64_t depth, float* panel) {
  constexpr int64_t L = S::lanes, kWide = S::vectors * L;
  for (int64_t j = 0; j < n; j += L, x += L * row, panel += L) {
    const int64_t some = std::min(L, n - j);
    int64_t k = 0;
    if (some == L)
      for (; k + L <= depth; k += L) S::turn(x + k, row, panel + k * kWide, kWide);
    for (; k < depth; ++k)
      for (int64_t i = 0; i < L; ++i) panel[k * kWide + i] = i < some ? x[i * row + k] : 0.0f;
  }
}

template <class S>
const Products* products_table() {
  constexpr int64_t kWide = S::vectors * S::lanes;
  static const Products table = {
      S::lanes, kWide,
      [](const float* left, int64_t row, int64_t column, const float* right, int64_t panel, float* c, int64_t c_row,
         int64_t rows, int64_t columns, int64_t depth, bool add) {
        product<S>({left, row, column}, {right, kWide, panel}, c, c_row, rows, columns, depth, add);
      },
      turn_rows<S>, picked<S>};
  return &table;
}

}  // namespace
}  // namespace thinned
