// A job with its dimensions merged, and two ways to walk it; the third, of contiguous runs, is in layout.cpp.
#pragma once

#include "layout.h"

namespace thinned {

struct Plan {
  const Kernels& kernels;
  Job job;
  Draw draw;
  bool streaming;

  // All n elements of contiguous memory, where one keep byte decides.
  void decided(const void* x, void* out, bool keep, int64_t n) const;
  // Keep bytes of n positions, `step` apart.
  void keep_row(uint64_t start, uint64_t step, int64_t n, uint8_t* keep) const;
};

// Memory runs in the order of positions: elements are gathered, thinned and scattered.
void staged_part(void* plan, int part, int parts);
// Memory runs in another order than positions.
void tile_part(void* plan, int part, int parts);

}  // namespace thinned
