// Optimizer steps in plain loops that the compiler vectorises: memory bounds them.
// Scalars are worked out in double and rounded once to the element type, as torch does.
#include "fastlstm/optim.hpp"

#include <algorithm>
#include <cmath>

namespace fastlstm {
namespace {

// 8 partial sums fill two vectors of 4 doubles; 4096 elements stay in the L1 cache
// and bound how far a partial sum can outgrow its addends.
constexpr Index kLanes = 8;
constexpr Index kBlock = 4096;

// Lane j adds elements j, j + 8, ...; then lanes in ascending order.
template <class T>
double block_sum_of_squares(Index n, const T* grad) noexcept {
  double lanes[kLanes] = {};
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (Index lane = 0; lane < kLanes; ++lane) {
      const double value = static_cast<double>(grad[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (; i < n; ++i) {
    const double value = static_cast<double>(grad[i]);
    lanes[i % kLanes] += value * value;
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

// g = grad_scale grad + weight_decay param
// velocity = momentum velocity + g
// param -= lr (nesterov ? g + momentum velocity : velocity)
template <class T>
void sgd_update(Index n, const SgdStep& step, const T* grad, T* param,
                T* velocity) noexcept {
  const T lr = static_cast<T>(step.lr);
  const T momentum = static_cast<T>(step.momentum);
  const T decay = static_cast<T>(step.weight_decay);
  const T scale = static_cast<T>(step.grad_scale);
  if (velocity == nullptr) {
    for (Index i = 0; i < n; ++i) {
      param[i] -= lr * (scale * grad[i] + decay * param[i]);
    }
    return;
  }
  const T look_ahead = step.nesterov ? momentum : T(1);
  const T direct = step.nesterov ? T(1) : T(0);
  for (Index i = 0; i < n; ++i) {
    const T g = scale * grad[i] + decay * param[i];
    velocity[i] = momentum * velocity[i] + g;
    param[i] -= lr * (direct * g + look_ahead * velocity[i]);
  }
}

// g = grad_scale grad + (decoupled ? 0 : weight_decay param)
// mean += (1 - beta1) (g - mean);  square = beta2 square + (1 - beta2) g^2
// param = (decoupled ? 1 - lr weight_decay : 1) param
//         - lr / (1 - beta1^step) mean / (sqrt(square / (1 - beta2^step)) + eps)
template <class T>
void adam_update(Index n, const AdamStep& step, const T* grad, T* param, T* mean,
                 T* square) noexcept {
  const double correction1 = 1.0 - std::pow(step.beta1, step.step);
  const double correction2 = 1.0 - std::pow(step.beta2, step.step);
  const T rate = static_cast<T>(step.lr / correction1);
  const T root = static_cast<T>(std::sqrt(correction2));
  const T keep1 = static_cast<T>(1.0 - step.beta1);
  const T beta2 = static_cast<T>(step.beta2);
  const T keep2 = static_cast<T>(1.0 - step.beta2);
  const T eps = static_cast<T>(step.eps);
  const T decay = static_cast<T>(step.decoupled ? 0.0 : step.weight_decay);
  const T shrink =
      static_cast<T>(step.decoupled ? 1.0 - step.lr * step.weight_decay : 1.0);
  const T scale = static_cast<T>(step.grad_scale);
  for (Index i = 0; i < n; ++i) {
    const T g = scale * grad[i] + decay * param[i];
    mean[i] += keep1 * (g - mean[i]);
    square[i] = beta2 * square[i] + keep2 * (g * g);
    const T spread = std::sqrt(square[i]) / root + eps;
    param[i] = shrink * param[i] - rate * (mean[i] / spread);
  }
}

// g = grad_scale grad + weight_decay param
// square = alpha square + (1 - alpha) g^2;  u = g / (sqrt(square) + eps)
// velocity = momentum velocity + u;  param -= lr (momentum ? velocity : u)
template <class T>
void rmsprop_update(Index n, const RmspropStep& step, const T* grad, T* param,
                    T* square, T* velocity) noexcept {
  const T lr = static_cast<T>(step.lr);
  const T alpha = static_cast<T>(step.alpha);
  const T keep = static_cast<T>(1.0 - step.alpha);
  const T eps = static_cast<T>(step.eps);
  const T momentum = static_cast<T>(step.momentum);
  const T decay = static_cast<T>(step.weight_decay);
  const T scale = static_cast<T>(step.grad_scale);
  for (Index i = 0; i < n; ++i) {
    const T g = scale * grad[i] + decay * param[i];
    square[i] = alpha * square[i] + keep * (g * g);
    T u = g / (std::sqrt(square[i]) + eps);
    if (velocity != nullptr) u = velocity[i] = momentum * velocity[i] + u;
    param[i] -= lr * u;
  }
}

template <class T>
double sum_of_squares(Index n, const T* grad) noexcept {
  double sum = 0;
  for (Index begin = 0; begin < n; begin += kBlock) {
    sum += block_sum_of_squares(std::min(kBlock, n - begin), grad + begin);
  }
  return sum;
}

#define FASTLSTM_OPTIM(T)                                                              \
  template void sgd_update<T>(Index, const SgdStep&, const T*, T*, T*) noexcept;       \
  template void adam_update<T>(Index, const AdamStep&, const T*, T*, T*, T*) noexcept; \
  template void rmsprop_update<T>(Index, const RmspropStep&, const T*, T*, T*,         \
                                  T*) noexcept;                                        \
  template double sum_of_squares<T>(Index, const T*) noexcept;
FASTLSTM_OPTIM(float)
FASTLSTM_OPTIM(double)
#undef FASTLSTM_OPTIM

}  // namespace fastlstm
