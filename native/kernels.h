// What one instruction set offers: a table of functions over contiguous stretches.
#pragma once

#include <cstdint>

#include "contract.h"

namespace thinned {

enum Dtype : int { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBfloat16 = 3, kMask = 4, kDtypes = 5 };
constexpr int kItemSize[kDtypes] = {4, 8, 2, 2, 1};

// Positions [start, start + n) of contiguous memory; x is unused for the mask.
struct Run {
  const void* x;
  void* out;
  uint64_t start;
  int64_t n;
};

// Some elements of a row of `n`: a bit for each, padded with zeros to whole words, and the ascending numbers of the
// `kept` whose bit is set. What is moved is multiplied by `scale`.
struct Columns {
  const uint64_t* bits;
  const int64_t* numbers;
  int64_t n, kept;
  double scale;
};

// Hands out one run after another; false when there is none left.
using NextRun = bool (*)(void* source, Run&);

struct Kernels {
  const char* name;
  // All runs of a source. `streaming` asks for stores that bypass the cache, where the alignment of out
  // allows them.
  void (*runs[kDtypes])(const Draw&, NextRun next, void* source, double scale, bool streaming);
  // out = x * scale where the keep byte is 1, +0 where it is 0, over n contiguous elements.
  void (*masked[kDtypes])(const void* x, void* out, const uint8_t* keep, int64_t n, double scale);
  // out = x * scale over n contiguous elements.
  void (*scaled[kDtypes])(const void* x, void* out, int64_t n, double scale);
  // One run as above, and the residual added to what it gives.
  void (*added[kDtypes])(const Draw&, const Run&, const void* residual, double scale, bool streaming);
  // out = a + b over n contiguous elements.
  void (*sum[kDtypes])(const void* a, const void* b, void* out, int64_t n);
  // The kept elements of a row, side by side; and back, with +0 between, or added to what is there.
  void (*taken[kDtypes])(const Columns&, const void* row, void* part);
  void (*put[kDtypes])(const Columns&, const void* part, void* row, bool add);
  // Normal deviates of n positions, `step` apart.
  void (*normal)(const Draw&, uint64_t start, uint64_t step, int64_t n, float* out);
  // Sum of a[j] * w[j], in an order that is the same for every instruction set.
  double (*product)(const float* a, const float* w, int64_t n);
};

// One run alone.
void one_run(const Kernels& kernels, Dtype dtype, const Draw& draw, const Run& run, double scale,
             bool streaming);

const Kernels* portable_kernels();
// Null where this build or this machine lacks the instructions.
const Kernels* baseline_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

// Fastest first; nullptr ends the list.
const Kernels* const* available_kernels();
// By name; nullptr where it is unknown or missing here.
const Kernels* find_kernels(const char* name);

// The ones in use: the fastest, until others are chosen by name (false where that is unknown or missing here).
const Kernels& selected_kernels();
bool select_kernels(const char* name);

}  // namespace thinned
