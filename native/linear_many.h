// Linear maps of many samples by kept rows and columns of one weight. float32.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace thinned {

// out = x · (scale · weight[rows][columns])ᵀ + bias[rows], and 0 where that is negative with relu. Numbers ascend;
// null for all. x is batch by what is kept, or with whole_x batch by the weight's width, of which the rest is not read.
struct LinearMany {
  struct Sample {
    const int64_t *rows, *columns;
    int64_t tall, wide;
    const float* x;
    float* out;  // batch by tall
  };
  const float* weight;
  int64_t height, width;
  const float* bias;  // by the weight's rows, or null
  double scale;
  bool relu, whole_x;
  int64_t batch;
  std::vector<Sample> samples;
};

// Each sample of some inputs is one thread's, and no bit depends on which.
void linear_many(const Kernels& kernels, const LinearMany& what, int threads);

}  // namespace thinned
