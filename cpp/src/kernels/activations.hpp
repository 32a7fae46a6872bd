// The whole set of activations of ONNX's recurrent operators, and their slopes, for the
// general cell path. Formulas: docs/math.md.
#pragma once

#include "math.hpp"
#include "table.hpp"

namespace fastlstm {
namespace {

enum GeneralActivationCode {
  kAffine = 4,
  kLeakyRelu = 5,
  kThresholdedRelu = 6,
  kScaledTanh = 7,
  kHardSigmoid = 8,
  kElu = 9,
  kSoftsign = 10,
  kSoftplus = 11
};

template <class V>
inline V magnitude(V x) {
  return max(V::zero() - x, x);
}

// exp(x) - 1 for x <= 0, without cancellation near 0.
template <class V>
inline V vec_expm1(V x) {
  using C = ExpConstants<typename V::Value>;
  V magic;
  x = max(V::set1(-C::kMaxArgument), x);
  const V e = reduced_expm1(x, magic);
  const V power = add_exponent(V::set1(1), magic);
  return fma(power, e, power - V::set1(1));
}

// log(1 + u), 0 <= u <= 1: with s = u / (2 + u) it is 2 atanh(s), and as s <= 1/3 the
// series of atanh gains nearly a digit a term: 9 terms leave 1e-10 for float, 17 leave
// 4e-19 for double.
template <class V>
inline V vec_log1p(V u) {
  using T = typename V::Value;
  constexpr int kTerms = sizeof(T) == 4 ? 9 : 17;
  const V s = u / (V::set1(2) + u);
  const V square = s * s;
  V sum = V::set1(T(1) / T(2 * kTerms - 1));
  for (int k = kTerms - 2; k >= 0; --k) {
    sum = fma(sum, square, V::set1(T(1) / T(2 * k + 1)));
  }
  return (s + s) * sum;
}

// 1 where x >= bound (or where x is no number), else 0.
template <class V>
inline V step_at(V bound, V x) {
  return V::set1(1) - keep_where_positive(bound - x, V::set1(1));
}

// y = activation(x). Apart, because inlined for each gate it would be most of the code.
template <class V, class T>
__attribute__((noinline)) void apply_rare(const ActivationArgs<T>& a, const V& x,
                                          V& y) {
  const V alpha = V::set1(a.alpha);
  const V beta = V::set1(a.beta);
  const V one = V::set1(1);
  switch (a.code) {
    case kAffine:
      y = fma(alpha, x, beta);
      break;
    case kLeakyRelu:
      y = fma(alpha, min(V::zero(), x), max(V::zero(), x));
      break;
    case kThresholdedRelu:
      y = x * step_at(alpha, x);
      break;
    case kScaledTanh:
      y = alpha * vec_tanh(beta * x);
      break;
    case kHardSigmoid:
      y = max(V::zero(), min(one, fma(alpha, x, beta)));
      break;
    case kElu:
      y = fma(alpha, vec_expm1(min(V::zero(), x)), max(V::zero(), x));
      break;
    case kSoftsign:
      y = x / (one + magnitude(x));
      break;
    default:
      y = max(V::zero(), x) + vec_log1p(vec_exp(V::zero() - magnitude(x)));
  }
}

template <class V, class T>
inline V apply(const ActivationArgs<T>& a, V x) {
  if (a.code <= kLinear) return activate(a.code, x);
  V y;
  apply_rare(a, x, y);
  return y;
}

// The derivative at x, where the value is y.
template <class V, class T>
__attribute__((noinline)) void find_slope(const ActivationArgs<T>& a, const V& x,
                                          const V& y, V& slope) {
  const V alpha = V::set1(a.alpha);
  const V one = V::set1(1);
  switch (a.code) {
    case kAffine:
      slope = alpha;
      break;
    case kLeakyRelu:
      slope = alpha + keep_where_positive(x, one - alpha);
      break;
    case kThresholdedRelu:
      slope = step_at(alpha, x);
      break;
    case kScaledTanh: {
      const V t = vec_tanh(V::set1(a.beta) * x);
      slope = alpha * V::set1(a.beta) * fma(V::zero() - t, t, one);
      break;
    }
    case kHardSigmoid:
      slope = keep_where_positive(y * (one - y), alpha);
      break;
    case kElu: {
      const V above = keep_where_positive(x, one);
      slope = fma(one - above, y + alpha, above);
      break;
    }
    case kSoftsign: {
      const V bottom = one + magnitude(x);
      slope = one / (bottom * bottom);
      break;
    }
    case kSoftplus:
      slope = vec_sigmoid(x);
      break;
    default:
      slope = activation_gradient(a.code, y, one);
  }
}

// d times the derivative at x, where the value is y.
template <class V, class T>
inline V slope_times(const ActivationArgs<T>& a, V x, V y, V d) {
  V slope;
  find_slope(a, x, y, slope);
  return d * slope;
}

}  // namespace
}  // namespace fastlstm
