// Optimizer steps over all parameters of a model, and clipping by the global norm.
// The equations are torch's. Schedules are the caller's. Called by training.hpp, by the
// bindings and by C++ users.
//
// In every update the gradient used is g = grad_scale * grad [+ weight_decay * param]:
// clipping costs no pass of its own.
#pragma once

#include <variant>

#include "fastlstm/export.h"
#include "fastlstm/types.hpp"

namespace fastlstm {

// velocity = momentum velocity + g
// param -= lr (nesterov ? g + momentum velocity : velocity); without momentum lr g
struct Sgd {
  double momentum = 0;  // 0: no velocity is kept
  double weight_decay = 0;
  bool nesterov = false;
};

// mean += (1 - beta1) (g - mean);  square = beta2 square + (1 - beta2) g^2
// param -= lr / (1 - beta1^n) mean / (sqrt(square / (1 - beta2^n)) + eps)  at step n
struct Adam {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  // AdamW: shrink param by lr * weight_decay * param instead of adding to g.
  bool decoupled = false;
};

// square = alpha square + (1 - alpha) g^2;  u = g / (sqrt(square) + eps)
// velocity = momentum velocity + u;  param -= lr (momentum ? velocity : u)
struct Rmsprop {
  double alpha = 0.99;
  double eps = 1e-8;
  double momentum = 0;  // 0: no velocity is kept
  double weight_decay = 0;
};

using UpdateRule = std::variant<Sgd, Adam, Rmsprop>;

struct UpdateStep {
  double lr;
  double number;  // 1 at the first step; corrects the bias of Adam's averages
  double grad_scale = 1;
  bool zero_grads = false;  // leave the gradients at zero, in the same pass
  int max_threads = 0;      // 0: as many as help
};

// One array of parameters and what belongs to it: (size) each.
template <class T>
struct Parameter {
  Index size;
  T* param;   // updated
  T* grad;    // read
  T* first;   // updated, 0 at first. SGD: velocity; Adam: mean; RMSprop: square
  T* second;  // as first. Adam: square; RMSprop: velocity. Null where nothing is kept
};

// Updates every array. Elements do not depend on each other, nor on threads.
template <class T>
FASTLSTM_API void update(const UpdateRule& rule, const UpdateStep& step,
                         const Parameter<T>* params, Index count) noexcept;

// Square root of the sum of all squared gradients, in double and in an order that
// depends on the sizes alone.
template <class T>
FASTLSTM_API double gradient_norm(const Parameter<T>* params, Index count) noexcept;

// torch's factor that brings a norm to max_norm at most: max_norm / (norm + 1e-6),
// never above 1.
FASTLSTM_API double clip_scale(double norm, double max_norm) noexcept;

// Both in one go: the update with grad_scale * clip_scale(norm, max_norm) for its
// scale, where norm is that of the gradients as they are. Returns norm. If it is not
// finite, no parameter is touched.
template <class T>
FASTLSTM_API double clipped_update(const UpdateRule& rule, const UpdateStep& step,
                                   double max_norm, const Parameter<T>* params,
                                   Index count) noexcept;

}  // namespace fastlstm
