// The unit in which CPUs hand memory to each other: what threads share lies in lines of
// its own, and fetches ask for one at a time.
#pragma once

namespace fastlstm {

constexpr int kCacheLine = 64;  // bytes

}  // namespace fastlstm
