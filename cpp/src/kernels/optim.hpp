// Optimizer updates, one pass over a parameter, its gradient and its state, and the sum
// of squares that clipping needs. Equations: fastlstm/optim.hpp. Included through
// bodies.hpp.
#pragma once

#include "lanes.hpp"
#include "table.hpp"

namespace fastlstm {
namespace {

// g = scale grad + decay param, and grad = 0 where that is wanted
template <class V, class T>
inline V take_gradient(const UpdateArgs<T>& a, Index i, int lanes, V scale, V decay,
                       V param) {
  const V grad = load_lanes<V>(a.grad + i, lanes);
  if (a.zero_grad) store_lanes(V::zero(), a.grad + i, lanes);
  return fma(scale, grad, decay * param);
}

// velocity = momentum velocity + g;  param -= rate (direct g + ahead velocity)
template <class V, class T = typename V::Value>
void sgd(const SgdFactors<T>& f, const UpdateArgs<T>& a) {
  const V scale = V::set1(f.scale), decay = V::set1(f.decay);
  const V momentum = V::set1(f.momentum), down = V::set1(-f.rate);
  const V direct = V::set1(f.direct), ahead = V::set1(f.ahead);
  for_vectors<V>(a.n, [&](Index i, int lanes) {
    const V param = load_lanes<V>(a.param + i, lanes);
    V way = take_gradient(a, i, lanes, scale, decay, param);
    if (a.first != nullptr) {
      const V velocity = fma(momentum, load_lanes<V>(a.first + i, lanes), way);
      store_lanes(velocity, a.first + i, lanes);
      way = fma(ahead, velocity, direct * way);
    }
    store_lanes(fma(down, way, param), a.param + i, lanes);
  });
}

// mean += keep1 (g - mean);  square = beta2 square + keep2 g^2
// param = shrink param - rate mean / (sqrt(square) inverse_root + eps)
template <class V, class T = typename V::Value>
void adam(const AdamFactors<T>& f, const UpdateArgs<T>& a) {
  const V scale = V::set1(f.scale), decay = V::set1(f.decay);
  const V keep1 = V::set1(f.keep1), keep2 = V::set1(f.keep2);
  const V beta2 = V::set1(f.beta2), inverse_root = V::set1(f.inverse_root);
  const V eps = V::set1(f.eps), down = V::set1(-f.rate), shrink = V::set1(f.shrink);
  for_vectors<V>(a.n, [&](Index i, int lanes) {
    const V param = load_lanes<V>(a.param + i, lanes);
    const V g = take_gradient(a, i, lanes, scale, decay, param);
    const V old_mean = load_lanes<V>(a.first + i, lanes);
    const V mean = fma(keep1, g - old_mean, old_mean);
    const V square = fma(keep2 * g, g, beta2 * load_lanes<V>(a.second + i, lanes));
    const V spread = fma(sqrt(square), inverse_root, eps);
    store_lanes(mean, a.first + i, lanes);
    store_lanes(square, a.second + i, lanes);
    store_lanes(fma(down, mean / spread, shrink * param), a.param + i, lanes);
  });
}

// square = alpha square + keep g^2;  u = g / (sqrt(square) + eps)
// velocity = momentum velocity + u;  param -= rate (momentum ? velocity : u)
template <class V, class T = typename V::Value>
void rmsprop(const RmspropFactors<T>& f, const UpdateArgs<T>& a) {
  const V scale = V::set1(f.scale), decay = V::set1(f.decay);
  const V alpha = V::set1(f.alpha), keep = V::set1(f.keep), eps = V::set1(f.eps);
  const V down = V::set1(-f.rate), momentum = V::set1(f.momentum);
  for_vectors<V>(a.n, [&](Index i, int lanes) {
    const V param = load_lanes<V>(a.param + i, lanes);
    const V g = take_gradient(a, i, lanes, scale, decay, param);
    const V square = fma(keep * g, g, alpha * load_lanes<V>(a.first + i, lanes));
    store_lanes(square, a.first + i, lanes);
    V way = g / (sqrt(square) + eps);
    if (a.second != nullptr) {
      way = fma(momentum, load_lanes<V>(a.second + i, lanes), way);
      store_lanes(way, a.second + i, lanes);
    }
    store_lanes(fma(down, way, param), a.param + i, lanes);
  });
}

// Lane j adds the squares of elements j, j + 32, ...; then lanes in ascending order.
// Plain loops, which the compiler vectorises: there is no FMA in them, so that the sum
// is the same with every instruction set.
template <class T>
double sum_of_squares(const T* x, Index n) {
  constexpr int kLanes = 32;  // four AVX-512 registers of doubles in flight
  double lanes[kLanes] = {};
  Index i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = static_cast<double>(x[i + lane]);
      lanes[lane] += value * value;
    }
  }
  for (int lane = 0; i < n; ++i, ++lane) {
    const double value = static_cast<double>(x[i]);
    lanes[lane] += value * value;
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace
}  // namespace fastlstm
