#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace fdsl {

// Round to nearest, keep subnormals, mask exceptions; what the caller had comes back at the end.
class FloatingPointMode {
 public:
#if defined(__x86_64__)
  FloatingPointMode() : before_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~FloatingPointMode() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FloatingPointMode() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  ~FloatingPointMode() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

 private:
  uint64_t before_;
#endif
};

}  // namespace fdsl
