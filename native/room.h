// A thread's scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace thinned {

// Of so many floats, on a line of the cache. The thread keeps it, and has no other: fresh memory of this size is page
// faults in every call.
inline float* room(int64_t floats) {
  thread_local std::vector<float> memory;
  const auto size = static_cast<size_t>(floats + 16);
  if (memory.size() < size) memory = std::vector<float>(size);
  return memory.data() + (-(reinterpret_cast<uintptr_t>(memory.data()) >> 2) & 15);
}

}  // namespace thinned
