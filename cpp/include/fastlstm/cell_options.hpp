// What may differ from the plain cells. A cell with any of these takes the general path
// (src/general_loop.hpp), which is slower than the fused kernels of a plain cell.
// Equations: docs/math.md, "Variants".
#pragma once

#include "fastlstm/types.hpp"

namespace fastlstm {

struct Nonlinearity {
  Activation kind = Activation::tanh;
  double alpha = 0;
  double beta = 0;
};

// ONNX's f, g and h. GRU: of r and z; of n. RNN: `cell` alone.
struct GateActivations {
  Nonlinearity gate = {Activation::sigmoid, 0, 0};
  Nonlinearity cell;
  Nonlinearity output;
};

struct CellOptions {
  bool reset_after = true;  // GRU: r multiplies W_hn h + b_hn; if not, it multiplies h

  // If set, these take the place of RecurrentConfig's two activations; [1] is of the
  // reverse direction.
  bool own_activations = false;
  GateActivations activations[2];
  double clip = 0;  // of what the gates' activations take, to +-clip; 0: none

  // LSTM only.
  bool peepholes = false;   // c feeds i, f and o
  bool coupled = false;     // f = 1 - i; the rows of f are not used
  double cell_clip = 0;     // of c; 0: none
  bool layer_norm = false;  // of W_ih x, of W_hh h, and of c on its way to h
  double zoneout_h = 0;     // share of units that keep their h, and their c; drawn in
  double zoneout_c = 0;     // passes that keep a tape, its mean in others
  Index proj_size = 0;      // features of h; 0: H, and no projection

  bool plain() const {
    return reset_after && !own_activations && clip == 0 && !peepholes && !coupled &&
           cell_clip == 0 && !layer_norm && zoneout_h == 0 && zoneout_c == 0 &&
           proj_size == 0;
  }
};

}  // namespace fastlstm
