// How one pass is shared out, and where its elements lie.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels.h"

namespace thinned {

// One thread is enough below this: a parallel region costs microseconds.
constexpr int64_t kSerial = 16 * 1024;
// Streaming stores pay once the output exceeds the cache, and hurt inside it.
constexpr int64_t kStreamBytes = int64_t(16) << 20;

inline char* at(void* base, int64_t offset, Dtype t) {
  return static_cast<char*>(base) + offset * kItemSize[t];
}
inline const char* at(const void* base, int64_t offset, Dtype t) {
  return static_cast<const char*>(base) + offset * kItemSize[t];
}

// Where part begins when `total` elements are cut into parts of whole multiples.
inline int64_t share(int64_t total, int part, int parts, int64_t multiple) {
  if (part == parts) return total;
  auto cut = int64_t(double(total) * part / parts);
  return std::min(total, cut / multiple * multiple);
}

}  // namespace thinned
