// bfloat16: the upper half of a float. Weights for inference may be stored so; they are
// widened exactly and all sums stay float. Used by Stream, the bindings and tests.
#pragma once

#include <cstdint>
#include <cstring>

#include "fastlstm/types.hpp"

namespace fastlstm {

// Rounds to nearest, ties to even; NaN stays NaN, what exceeds the range is infinite.
inline std::uint16_t to_bfloat16(float value) noexcept {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  }
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float from_bfloat16(std::uint16_t value) noexcept {
  const std::uint32_t bits = std::uint32_t{value} << 16;
  float wide = 0;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

// values: (count,); every value becomes the nearest that bfloat16 holds
inline void round_to_bfloat16(Index count, float* values) noexcept {
  for (Index i = 0; i < count; ++i) values[i] = from_bfloat16(to_bfloat16(values[i]));
}

}  // namespace fastlstm
