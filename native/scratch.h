// A thread's scratch memory, which it keeps: fresh memory of this size is page faults in every call.
#pragma once

#include <cstdint>
#include <vector>

namespace thinned {

// So many floats from a line of the cache on; what an earlier call got is theirs no more.
inline float* scratch(int64_t floats) {
  thread_local std::vector<float> memory;
  const auto size = size_t(floats + 16);
  if (memory.size() < size) memory = std::vector<float>(size);
  return memory.data() + (-(reinterpret_cast<uintptr_t>(memory.data()) >> 2) & 15);
}

}  // namespace thinned
