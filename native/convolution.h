// Convolutions of two axes in float32, of the rows and columns of a weight that are kept, with all gradients.
#pragma once

#include <cstdint>

#include "submatrix.h"

namespace thinned {

// Rows of the weight are channels of the output, its columns those of the input, and `inner` the taps. Its kept part,
// by which x and the gradients have their channels, is in `part`: the forward pass writes it and the backward pass
// reads it. Pairs are of height and width; images are in torch's own layout.
struct Convolution {
  Submatrix weight;
  int64_t batch;
  int64_t size[2], made[2], taps[2], stride[2], padding[2], dilation[2];
};

// Whether these kernels have convolutions: an instruction set without its own leaves them to a library.
bool convolves(const Kernels& kernels);

// out = x ∗ part + bias; the bias is by the whole weight's rows, or null.
void convolution(const Kernels& kernels, const Convolution& what, const float* x, const float* bias, float* out,
                 int threads);

// Whichever is not null: the gradient of x; that of the whole weight, 0 where nothing is kept; that of the bias.
struct ConvolutionGradients {
  const float *grad, *x;
  float *of_input, *of_weight, *of_bias;
};
void convolution_gradients(const Kernels& kernels, const Convolution& what, const ConvolutionGradients& wanted,
                           int threads);

}  // namespace thinned
