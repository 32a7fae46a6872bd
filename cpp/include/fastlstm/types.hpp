// Types that the whole public API shares: sizes, cell kinds, activations.
#pragma once

#include <cstdint>

namespace fastlstm {

using Index = std::int64_t;

enum class CellKind { lstm, gru, rnn };

// The values are shared with the kernels (kernels/math.hpp).
enum class Activation : int { tanh = 0, relu = 1, sigmoid = 2, linear = 3 };

}  // namespace fastlstm
