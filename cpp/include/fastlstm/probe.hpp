// What this machine can do at most, measured on the spot with the instruction set in
// force, in float32: the yardstick for the time of a call.
#pragma once

#include <cstddef>

#include "fastlstm/export.h"

namespace fastlstm {

// Floating-point operations a second (a multiply-add is two) of `threads` threads that
// work on registers alone, for about `seconds`; the best of many short samples, because
// disturbances only ever slow one down. Throws std::invalid_argument unless
// 1 <= threads <= 1024 and seconds is finite and above 0.
FASTLSTM_API double probe_flops(int threads, double seconds);

// Bytes a second that `threads` threads read together, each going again and again
// through `bytes` of its own; measured as above. Throws also unless bytes >= 4096.
FASTLSTM_API double probe_read(int threads, std::size_t bytes, double seconds);

}  // namespace fastlstm
