// What one instruction set offers: a table of functions over contiguous stretches.
#pragma once

#include <cstdint>

#include "contract.h"

namespace thinned {

enum Dtype : int { kFloat32 = 0, kFloat64 = 1, kFloat16 = 2, kBfloat16 = 3, kMask = 4, kDtypes = 5 };
constexpr int kItemSize[kDtypes] = {4, 8, 2, 2, 1};

struct Kernels {
  const char* name;
  // Positions [start, start + n): x and out are contiguous (x unused for the mask). `streaming` asks
  // for stores that bypass the cache, where the alignment of out allows them.
  void (*run[kDtypes])(const Draw&, const void* x, void* out, uint64_t start, int64_t n,
                       double scale, bool streaming);
  // out = x * scale over n contiguous elements.
  void (*scaled[kDtypes])(const void* x, void* out, int64_t n, double scale);
  // Sum of a[j] * w[j], in an order that is the same for every instruction set.
  double (*product)(const float* a, const float* w, int64_t n);
};

const Kernels* portable_kernels();
// Null where this build or this machine lacks the instructions.
const Kernels* baseline_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

// Fastest first; nullptr ends the list.
const Kernels* const* available_kernels();
// By name; nullptr where it is unknown or missing here.
const Kernels* find_kernels(const char* name);

}  // namespace thinned
