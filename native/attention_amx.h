// Products by AMX, of 16 x 32 by 32 x 16 elements an instruction, added in float32.
//
// A left factor stands in rows of bfloat16. A right one in panels of 16 columns, in each of which the rows stand in
// pairs: element (k, j) is half k % 2 of word 16 * (k / 2) + j % 16 of panel j / 16. Probabilities become a right
// factor where queries are summed over, so that nothing of a tile has to be turned.
#pragma once

#include "attention_avx512.h"

namespace thinned {
namespace {

using S = Avx512Floats;
using Floats = Pass<S>;

constexpr int64_t kAcross = kColumns + 16, kAcrossBrain = kColumns + 32;  // no two rows in one set of the cache

struct Configuration {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

class Tiles {  // of this thread, while it exists
 public:
  Tiles() {
    const Configuration all;
    _tile_loadconfig(&all);
  }
  ~Tiles() { _tile_release(); }
};

// c (+)= a * b: rows and columns multiples of 32, depth too; b has `panel` words from one panel to the next.
void multiply(const uint16_t* a, int64_t a_row, const uint32_t* b, int64_t panel, float* c, int64_t c_row, int64_t rows,
              int64_t columns, int64_t depth, bool add) {
  for (int64_t j = 0; j < columns; j += 32)
    for (int64_t i = 0; i < rows; i += 32) {
      float* to = c + i * c_row + j;
      const int64_t step = c_row * 4;
      if (add) {
        _tile_loadd(0, to, step);
        _tile_loadd(1, to + 16, step);
        _tile_loadd(2, to + 16 * c_row, step);
        _tile_loadd(3, to + 16 * c_row + 16, step);
      } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      }
      const uint32_t* right = b + j / 16 * panel;
      for (int64_t k = 0; k < depth; k += 32) {
        _tile_loadd(4, a + i * a_row + k, a_row * 2);
        _tile_loadd(5, a + (i + 16) * a_row + k, a_row * 2);
        _tile_loadd(6, right + k * 8, 64);
        _tile_loadd(7, right + panel + k * 8, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      _tile_stored(0, to, step);
      _tile_stored(1, to + 16, step);
      _tile_stored(2, to + 16 * c_row, step);
      _tile_stored(3, to + 16 * c_row + 16, step);
    }
}

__m256i rounded(__m512 x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }

// Two rows as a pair: the first in the low halves.
__m512i pair(__m512 first, __m512 second) {
  const __m512i low = _mm512_cvtepu16_epi32(rounded(first)), high = _mm512_cvtepu16_epi32(rounded(second));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

const uint16_t* from(const void* data, int64_t first, int64_t row) {
  return static_cast<const uint16_t*>(data) + first * row;
}

// Rows as a left factor, zeros up to `height` rows of `to`.
void rows_of(const uint16_t* x, int64_t row, int64_t rows, int64_t width, uint16_t* out, int64_t to, int64_t height) {
  for (int64_t r = 0; r < height; ++r, out += to) {
    const int64_t n = r < rows ? width : 0;
    for (int64_t j = 0; j < n; ++j) out[j] = x[r * row + j];
    for (int64_t j = n; j < to; ++j) out[j] = 0;
  }
}

// The same turned: `height` rows of kRows, element (e, r).
void turned(const uint16_t* x, int64_t row, int64_t rows, int64_t width, uint16_t* out, int64_t height) {
  for (int64_t e = 0; e < height; ++e)
    for (int64_t r = 0; r < kRows; ++r) out[e * kRows + r] = e < width && r < rows ? x[r * row + e] : 0;
}

// Rows as a right factor whose depth they are: `height` of them, `to` columns.
void pairs_of(const uint16_t* x, int64_t row, int64_t rows, int64_t width, uint32_t* out, int64_t to, int64_t height) {
  for (int64_t j = 0; j < to; j += 16)
    for (int64_t r = 0; r < height; r += 2)
      for (int64_t n = 0; n < 16; ++n, ++out) {
        const bool in = j + n < width;
        const uint32_t low = in && r < rows ? x[r * row + j + n] : 0;
        const uint32_t high = in && r + 1 < rows ? x[(r + 1) * row + j + n] : 0;
        *out = low | high << 16;
      }
}

// Rows as a right factor whose columns they are: `to` of them, `depth` deep.
void columns_of(const uint16_t* x, int64_t row, int64_t rows, int64_t width, uint32_t* out, int64_t to, int64_t depth) {
  for (int64_t j = 0; j < to; j += 16, out += 8 * depth)
    for (int64_t n = 0; n < 16; ++n)
      for (int64_t e = 0; e < depth; e += 2) {
        const uint16_t* here = x + (j + n) * row + e;
        const uint32_t low = j + n < rows && e < width ? here[0] : 0;
        const uint32_t high = j + n < rows && e + 1 < width ? here[1] : 0;
        out[8 * e + n] = low | high << 16;
      }
}

}  // namespace
}  // namespace thinned
