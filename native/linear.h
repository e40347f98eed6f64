// A linear map of what is kept, and its gradients: a weight is read where it stands, or some rows of it are packed for a
// product; its gradient is spread over its rows as it leaves another. Nothing else of it is stored. float32.
#pragma once

#include <cstdint>

#include "submatrix.h"

namespace thinned {

// The kept part of `weight` (its `part` is not used) is tall by wide. x is batch by wide, out and grad batch by tall.
struct Linear {
  Submatrix weight;
  int64_t batch;
  const float *x, *bias;  // bias by the whole weight's rows, or null
  float* out;
};

// out = x · partᵀ + bias[rows].
void linear(const Kernels& kernels, const Linear& what, int threads);

// Whichever is not null: of_input = grad · part; of_weight[rows][columns] = scale · gradᵀ · x, and 0 elsewhere, of the
// weight's own shape; of_bias likewise.
struct LinearGradients {
  Submatrix weight;
  int64_t batch;
  const float *grad, *x;
  float *of_input, *of_weight, *of_bias;
};
void linear_gradients(const Kernels& kernels, const LinearGradients& what, int threads);

}  // namespace thinned
