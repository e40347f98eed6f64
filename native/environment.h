// Floating-point arithmetic as IEEE 754 has it, whatever the calling thread is set to: rounding to nearest, subnormal
// numbers, no traps. TensorFlow's and XLA's threads take subnormal numbers for zero, torch.set_flush_denormal makes
// the caller's do so, and a thread inherits that from the one that starts it.
#pragma once

#include <cstdint>

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#elif !(defined(__aarch64__) && defined(__GNUC__))
#include <cfenv>
#endif

namespace thinned {

// From its construction on; its end restores what was before, so that a pass leaves no flags behind.
class Ieee {
 public:
#if defined(__SSE2__) || defined(_M_X64)
  Ieee() : before_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
  ~Ieee() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__) && defined(__GNUC__)
  Ieee() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(uint64_t(0)));
  }
  ~Ieee() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#else
  Ieee() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~Ieee() { std::fesetenv(&before_); }

 private:
  std::fenv_t before_;
#endif

 public:
  Ieee(const Ieee&) = delete;
  Ieee& operator=(const Ieee&) = delete;
};

}  // namespace thinned
