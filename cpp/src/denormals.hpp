// Flushes denormal numbers to zero while it lives, and leaves the thread's
// floating-point mode as it found it: a state that decays for thousands of steps would
// run many times slower once it is denormal. `parallel` holds one in every thread; code
// that computes outside of it holds its own.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace fastlstm {

class DenormalGuard {
 public:
  DenormalGuard() noexcept : before_(mode()) { set_mode(before_ | kFlush); }
  ~DenormalGuard() { set_mode(before_); }
  DenormalGuard(const DenormalGuard&) = delete;
  DenormalGuard& operator=(const DenormalGuard&) = delete;

 private:
#if defined(__x86_64__)
  using Mode = unsigned;
  static constexpr Mode kFlush = 0x8040;  // MXCSR: flush to zero, denormals are zero
  static Mode mode() noexcept { return _mm_getcsr(); }
  static void set_mode(Mode mode) noexcept { _mm_setcsr(mode); }
#elif defined(__aarch64__)
  using Mode = std::uint64_t;
  static constexpr Mode kFlush = Mode{1} << 24;  // FPCR.FZ: operands and results
  static Mode mode() noexcept {
    Mode mode = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void set_mode(Mode mode) noexcept {
    __asm__ volatile("msr fpcr, %0" : : "r"(mode));
  }
#else
  using Mode = unsigned;
  static constexpr Mode kFlush = 0;
  static Mode mode() noexcept { return 0; }
  static void set_mode(Mode) noexcept {}
#endif

  Mode before_;
};

}  // namespace fastlstm
