// Optimizer steps, one pass over a parameter, its gradient and its state.
// Schedules and the loop over parameters are the caller's. The equations are torch's.
// Called by the bindings and by C++ users.
#pragma once

#include "fastlstm/types.hpp"

namespace fastlstm {

// In every step the gradient used is grad_scale * grad: clipping by the global norm
// costs no pass of its own.

struct SgdStep {
  double lr;
  double momentum;      // 0: no velocity is kept
  double weight_decay;  // added to the gradient as weight_decay * param
  bool nesterov;
  double grad_scale;
};

struct AdamStep {
  double lr;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  bool decoupled;  // AdamW: shrink the parameter instead of adding to the gradient
  double step;     // 1 at the first step; corrects the bias of both averages
  double grad_scale;
};

struct RmspropStep {
  double lr;
  double alpha;
  double eps;
  double momentum;  // 0: no velocity is kept
  double weight_decay;
  double grad_scale;
};

// grad:     (n,); read
// param:    (n,); updated
// velocity: (n,); updated; nullptr where momentum is 0
template <class T>
void sgd_update(Index n, const SgdStep& step, const T* grad, T* param,
                T* velocity) noexcept;

// grad: (n,); read
// param, mean, square: (n,); updated; mean and square start at 0
template <class T>
void adam_update(Index n, const AdamStep& step, const T* grad, T* param, T* mean,
                 T* square) noexcept;

// grad: (n,); read
// param, square: (n,); updated; square starts at 0
// velocity: (n,); updated; nullptr where momentum is 0
template <class T>
void rmsprop_update(Index n, const RmspropStep& step, const T* grad, T* param,
                    T* square, T* velocity) noexcept;

// sum_i grad[i]^2 in double, in an order that depends on n alone.
template <class T>
double sum_of_squares(Index n, const T* grad) noexcept;

}  // namespace fastlstm
