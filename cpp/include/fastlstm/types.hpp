// Types that the whole public API shares: sizes, cell kinds, activations.
#pragma once

#include <cstdint>

namespace fastlstm {

using Index = std::int64_t;

enum class CellKind { lstm, gru, rnn };

// The values are shared with the kernels (kernels/math.hpp). From affine on it is the
// rest of ONNX's set, which only the general cell path knows; formulas: docs/math.md.
enum class Activation : int {
  tanh = 0,
  relu = 1,
  sigmoid = 2,
  linear = 3,
  affine = 4,            // alpha x + beta
  leaky_relu = 5,        // x >= 0 ? x : alpha x
  thresholded_relu = 6,  // x >= alpha ? x : 0
  scaled_tanh = 7,       // alpha tanh(beta x)
  hard_sigmoid = 8,      // min(max(alpha x + beta, 0), 1)
  elu = 9,               // x >= 0 ? x : alpha (exp(x) - 1)
  softsign = 10,         // x / (1 + |x|)
  softplus = 11          // log(1 + exp(x))
};

}  // namespace fastlstm
