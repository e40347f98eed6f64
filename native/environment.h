// Arithmetic as IEEE 754 has it, whatever the calling thread is set to: TensorFlow's and XLA's threads take
// subnormal numbers for zero, and a thread inherits that from the one that starts it.
#pragma once

#include <cstdint>

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace thinned {

class Ieee {
 public:
#if defined(__SSE2__) || defined(_M_X64)
  Ieee() : before_(_mm_getcsr()) { _mm_setcsr(before_ & ~(kFlush | kZeroInputs)); }
  ~Ieee() { _mm_setcsr(before_); }

 private:
  static constexpr unsigned kFlush = 0x8000, kZeroInputs = 0x0040;
  unsigned before_;
#elif defined(__aarch64__) && defined(__GNUC__)
  Ieee() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(before_ & ~kFlush));
  }
  ~Ieee() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  static constexpr uint64_t kFlush = uint64_t(1) << 24 | uint64_t(1) << 19;
  uint64_t before_;
#else
  Ieee() {}
#endif

 public:
  Ieee(const Ieee&) = delete;
  Ieee& operator=(const Ieee&) = delete;
};

}  // namespace thinned
