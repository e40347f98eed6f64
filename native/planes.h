// Convolutions as sums over shifted planes: how a band of an image is laid out for them, and what an instruction set
// does with it.
//
// Vectors go along an image's pixels, and numbers of a weight are broadcast: any number of channels fills them. Of each
// channel a band of rows is copied with zeros around it, strides apart in planes of their own, so that a tap is a
// shift by one number everywhere.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace thinned {

// One axis of a correlation: out[first + n · step] = Σ_tap weight[tap] · source[n · stride + shift[tap] - front].
struct Axis {
  int64_t size;          // of the source
  int64_t front;         // zeros before it; less than none: what is left out
  int64_t stride;
  std::vector<int64_t> shifts;
  int64_t count;         // of results
  int64_t first, step;
};

// Lanes of the vectors of a band that are results, side by side, and where the first of them goes in the output.
struct Piece {
  int32_t lane, count;
  int64_t to;
};

// How the vectors of a band stand, the same for each channel and sample.
struct Vectors {
  std::vector<int32_t> starts;   // of each vector, in the plane
  std::vector<Piece> pieces;
  std::vector<int32_t> begin;    // the first piece of each vector, and one behind the last
  std::vector<int32_t> masks;    // of each lane: all bits where it is a result
  bool full;                     // all are
};

// For each: w · x over the depth. x[k, vector n] = x + starts[n] + offsets[k].
struct Tile {
  const float *w, *x;  // w[k, row], side by side
  const int32_t *offsets, *starts;
  float* c;
  int64_t c_row, depth;
  bool add;
};

// sums[row · columns + column] (+)= the products y · x of some units and vectors, a vector of sums each. Vectors of y's
// rows stand side by side, those of one place after those of another; x = x + offsets[column] + starts[vector].
struct Dots {
  const float *y, *x;
  int64_t y_unit, x_unit, units, vectors;
  const int32_t *offsets, *starts;
  const int32_t* const* masks;  // for each unit, those of all its vectors; null where x is finite
  int64_t first;                // of the vectors
  float* sums;
  bool add;
};

// Rows of `n` floats with zeros around them: rows above and below, `skip` before, and behind so many that there are
// `wide`.
struct Padded {
  const float* from;
  int64_t from_row, above, rows, below, skip, n;
  float* to;
  int64_t wide;
};

struct PlaneKernels {
  int64_t lanes, rows, vectors;  // of a vector; of a tile at most
  void (*tile)(int64_t rows, int64_t vectors, const Tile&);
  void (*dots)(int64_t rows, int64_t columns, const Dots&);
  // out[k] (+)= the sum of vector k.
  void (*add_up)(const float* sums, int64_t n, float* out, bool add);
  // Adds the bias and stores the results of one row of a tile, whose first lane is `lane`.
  void (*place)(const float* c, int64_t lane, const Piece* pieces, int64_t n, float bias, float* out, int64_t step);
  // The way back: results that stand side by side into vectors that are `apart` floats from one to the next, with zeros
  // between them; their sum.
  float (*collect)(const float* results, const Vectors&, float* to, int64_t apart);
  // Whether all that was copied is finite.
  bool (*pad)(const Padded&);
};

// Null where this build lacks the instructions.
const PlaneKernels* avx2_planes();
const PlaneKernels* avx512_planes();

class Layout {
 public:
  Layout(const PlaneKernels& run, Axis high, Axis wide, int64_t channels, int64_t out_width);

  const Axis y, x;
  const int64_t channels, out_width;
  int64_t bands() const { return bands_; }
  int64_t plane() const { return plane_; }
  // Floats of all channels of a band, and of what is read behind them.
  int64_t room() const;
  // Where each channel's taps stand, for all channels: channels · taps.
  const std::vector<int32_t>& offsets() const { return offsets_; }
  const Vectors& vectors(int64_t band) const { return band + 1 == bands_ ? last_ : full_; }
  // What is added to a piece's place in the output.
  int64_t shift(int64_t band) const { return band * band_ * y.step * out_width; }
  // Whether all that was copied is finite.
  bool pad(const float* source, int64_t band, float* to) const;

 private:
  Vectors vectors_of(int64_t rows) const;

  const PlaneKernels& run_;
  int64_t band_, bands_, high_, wide_, down_, across_, plane_;  // down and across: phases of the strides
  std::vector<int32_t> offsets_;
  Vectors full_, last_;
};

}  // namespace thinned
