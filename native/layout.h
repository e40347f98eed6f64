// From strided arrays to contiguous runs: noise shapes, shards, transposed and channels_last inputs.
#pragma once

#include <cstdint>
#include <vector>

#include "cursor.h"
#include "kernels.h"

namespace thinned {

// out = x * scale where kept, +0 where dropped, at position `base` + the sum of index * stride. No two elements of
// out share memory; x may be out, stride by stride.
struct Job {
  Dtype dtype;
  const void* x;  // unused for kMask
  void* out;
  std::vector<Dim> dims;
  uint64_t base;
  uint64_t seed, stream;
  uint64_t threshold;  // 0 keeps all, 2^32 drops all
  double scale;

  bool constant() const { return threshold == 0 || threshold == kDropAll; }
};

void execute(const Kernels& kernels, Job job, int threads);

}  // namespace thinned
