// sigmoid, tanh and exp over Vec: one algorithm for every instruction set and both
// types. Error bounds are measured in tests/cpp/test_math.cpp. Included through
// bodies.hpp.
//
// With n = round(x / ln 2) and r = x - n ln 2, |r| <= ln(2)/2:
//   expm1(r) = r + r^2 q(r)            q: Chebyshev fit, tests/reference/fit_expm1.py
//   exp(x)   = 2^n (1 + expm1(r))
//   expm1(x) = 2^n expm1(r) + (2^n - 1)
#pragma once

namespace fastlstm {
namespace {

template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float kLog2E = 1.44269504088896341f;
  // ln 2 in two parts; n * kLn2High is exact for |n| < 2^9.
  static constexpr float kLn2High = 0.693359375f;
  static constexpr float kLn2Low = -2.12194440e-4f;
  static constexpr float kLn2 = 0.693147180559945309f;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
  static constexpr float kRound = 12582912.0f;
  // exp(-87) = 1.6e-38 is the last whole step above the smallest normal number.
  static constexpr float kMaxArgument = 87.0f;
  // tanh rounds to 1 beyond 9.02.
  static constexpr float kTanhSaturated = 9.1f;
  // Relative error of expm1 on |r| <= ln(2)/2: 2.5e-8, 0.4 ulp.
  static constexpr int kTerms = 5;
  static constexpr float kQ[kTerms] = {
      0.5f, 0.16666576989698775683f, 0.041666554617204574203f,
      0.0083631790527225773704f, 0.0013926183587713494542f};
};

template <>
struct ExpConstants<double> {
  static constexpr double kLog2E = 1.44269504088896340736;
  // n * kLn2High is exact for |n| < 2^11.
  static constexpr double kLn2High = 6.93147180369123816490e-01;
  static constexpr double kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kLn2 = 0.693147180559945309;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52
  static constexpr double kMaxArgument = 708.0;
  // tanh rounds to 1 beyond 19.07.
  static constexpr double kTanhSaturated = 19.2;
  // Relative error of expm1 on |r| <= ln(2)/2: 5.5e-19.
  static constexpr int kTerms = 11;
  static constexpr double kQ[kTerms] = {0.5,
                                        0.16666666666666670991,
                                        0.041666666666666669755,
                                        0.0083333333333261351258,
                                        0.0013888888888883748305,
                                        0.00019841269874820625271,
                                        0.000024801587325547741216,
                                        2.755725540020642443e-6,
                                        2.7557273643110295328e-7,
                                        2.5105217004720745164e-8,
                                        2.0914686968086877233e-9};
};

// x within +-bound.
template <class V>
inline V hold(typename V::Value bound, V x) {
  return max(V::set1(-bound), min(V::set1(bound), x));
}

// x = n ln 2 + r: x becomes expm1(r), and the low bits of `magic` hold n. K vectors go
// stage by stage, side by side: one alone would wait for itself. Vector k takes ln 2
// rounded once where kRough has the bit k.
template <unsigned kRough, int K, class V>
[[gnu::always_inline]] inline void reduced_expm1(V (&x)[K], V (&magic)[K]) {
  using C = ExpConstants<typename V::Value>;
  V q[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    magic[k] = fma(x[k], V::set1(C::kLog2E), V::set1(C::kRound));
  }
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const V n = magic[k] - V::set1(C::kRound);
    if ((kRough >> k & 1) != 0) {
      x[k] = fma(n, V::set1(-C::kLn2), x[k]);
    } else {
      x[k] = fma(n, V::set1(-C::kLn2High), x[k]);
      x[k] = fma(n, V::set1(-C::kLn2Low), x[k]);
    }
    q[k] = V::set1(C::kQ[C::kTerms - 1]);
  }
#pragma GCC unroll 16
  for (int i = C::kTerms - 2; i >= 0; --i) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) q[k] = fma(q[k], x[k], V::set1(C::kQ[i]));
  }
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) x[k] = fma(x[k] * x[k], q[k], x[k]);
}

template <class V>
inline V reduced_expm1(V x, V& magic) {
  V e[1] = {x}, n[1];
  reduced_expm1<0>(e, n);
  magic = n[0];
  return e[0];
}

// exp(x) with x held within +-kMaxArgument, so that neither the result nor its
// reciprocal is denormal.
template <class V>
inline V vec_exp(V x) {
  V magic;
  const V e =
      reduced_expm1(hold(ExpConstants<typename V::Value>::kMaxArgument, x), magic);
  return add_exponent(V::set1(1) + e, magic);
}

// x becomes sigmoid(x) = 1 / (1 + exp(-x)), which keeps its relative precision in the
// negative tail; or, where kTanh has the bit k, tanh(x) = expm1(2x) / (expm1(2x) + 2),
// without cancellation near 0. There ln 2 rounded once costs less than 0.3 ulp, for
// the error of exp(2x) grows with x, but counts as 1 / sinh(2x).
template <unsigned kTanh, int K, class V>
[[gnu::always_inline]] inline void squash(V (&x)[K]) {
  using C = ExpConstants<typename V::Value>;
  const V one = V::set1(1);
  V magic[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    if ((kTanh >> k & 1) != 0) {
      x[k] = hold(C::kTanhSaturated, x[k]);
      x[k] = x[k] + x[k];
    } else {
      x[k] = hold(C::kMaxArgument, V::zero() - x[k]);
    }
  }
  reduced_expm1<kTanh>(x, magic);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    if ((kTanh >> k & 1) != 0) {
      const V power = add_exponent(one, magic[k]);
      const V em1 = fma(power, x[k], power - one);
      x[k] = em1 / (em1 + V::set1(2));
    } else {
      x[k] = one / (one + add_exponent(one + x[k], magic[k]));
    }
  }
}

template <class V>
inline V vec_sigmoid(V x) {
  V y[1] = {x};
  squash<0>(y);
  return y[0];
}

template <class V>
inline V vec_tanh(V x) {
  V y[1] = {x};
  squash<1>(y);
  return y[0];
}

// Values of Activation in the public header, which the kernels do not include.
enum ActivationCode { kTanh = 0, kRelu = 1, kSigmoid = 2, kLinear = 3 };

template <class V>
inline V activate(int code, V x) {
  switch (code) {
    case kRelu:
      return max(V::zero(), x);
    case kSigmoid:
      return vec_sigmoid(x);
    case kLinear:
      return x;
    default:
      return vec_tanh(x);
  }
}

// Derivative of the activation, from its value y, times d.
template <class V>
inline V activation_gradient(int code, V y, V d) {
  switch (code) {
    case kRelu:
      return keep_where_positive(y, d);
    case kSigmoid:
      return d * y * (V::set1(1) - y);
    case kLinear:
      return d;
    default:
      return d * fma(V::zero() - y, y, V::set1(1));
  }
}

}  // namespace
}  // namespace fastlstm
