// Attention whose probabilities are dropped, tile by tile: nothing of queries x keys is stored, forward or backward.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace thinned {

// An array of the call: where it begins, and the steps in elements of the heads' dimensions, of rows and of columns
// (of q, k, v, out and their gradients columns are neighbours).
struct Operand {
  void* data = nullptr;
  std::vector<int64_t> heads;
  int64_t row = 0, column = 1;
};

enum MaskKind : int { kNoMask = 0, kBool = 1, kAdded = 2 };

// Heads are counted through `lead`, its last dimension fastest: the query heads that one head of key serves.
struct Attention {
  Dtype dtype;
  std::vector<int64_t> lead;
  int64_t queries, keys, width, value_width;
  Operand q, k, v, out, logsumexp;
  Operand mask, positions, words, rates;  // words: two a head; rates: threshold, and the factor's bits, a head
  MaskKind mask_kind;
  Dtype mask_dtype;
  uint64_t base;
  double scale;
  bool causal;
  Operand grad, dq, dk, dv;  // backward alone
};

void attention_forward(const Kernels& kernels, const Attention& call, int threads);
void attention_backward(const Kernels& kernels, const Attention& call, int threads);

// One query head, as the kernels of an instruction set take it.
struct Head {
  const void *q, *k, *v, *grad, *mask;
  void *out, *dq, *dk, *dv;
  float* logsumexp;
  uint64_t base, seed, stream, threshold;
  float factor;
};

// What one instruction set does of it.
struct AttentionKernels {
  const char* name;
  // Queries [first, last) of a head. `room` is scratch memory of forward_room(call) floats.
  void (*forward)(const Kernels&, const Attention&, const Head&, int64_t first, int64_t last, float* room);
  int64_t (*forward_room)(const Attention&);
  // The keys [first, last) of one head of key, for all the query heads that it serves; query gradients into dq's memory where
  // `partial` is null, and else unscaled into that, heads x queries x padded width.
  void (*backward)(const Kernels&, const Attention&, const Head* heads, int64_t first, int64_t last, float* partial,
                   float* room);
  int64_t (*backward_room)(const Attention&, int64_t keys);
  // Adds `parts` partial gradients, `apart` floats from one to the next, and writes dq.
  void (*reduce)(const Attention&, const Head&, const float* partial, int parts, int64_t apart);
  int64_t (*padded)(int64_t width);
};

constexpr int64_t kQueries = 512;  // of a task of the forward pass: they share the packed keys

const AttentionKernels* portable_attention();
// Null where this build lacks the instructions.
const AttentionKernels* avx2_attention();
const AttentionKernels* avx512_attention();
// For bfloat16 alone, beside AVX-512; null too where the system gives no leave to use its registers.
const AttentionKernels* amx_attention();

}  // namespace thinned
