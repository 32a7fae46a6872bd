// sigmoid, tanh, relu and linear of every instruction set against libm in a wider type.
// The bounds below are the errors that kernels/math.hpp speaks of.
#include <type_traits>

#include "kernels/table.hpp"
#include "support.hpp"

namespace fastlstm::testing {
namespace {

// The arithmetic of the reference: its own error is below 0.001 ulp of T.
template <class T>
using Wider = std::conditional_t<std::is_same_v<T, float>, double, long double>;

template <class T>
struct Bounds;
template <>
struct Bounds<float> {
  static constexpr double kSigmoidUlp = 2.5, kTanhUlp = 3.0;
  static constexpr float kLargest = 87.0f;  // sigmoid(-x) is flat beyond
  static constexpr float kFlat = 1.7e-38f;
};
template <>
struct Bounds<double> {
  static constexpr double kSigmoidUlp = 2.5, kTanhUlp = 3.0;
  static constexpr double kLargest = 708.0;
  static constexpr double kFlat = 3.4e-308;
};

template <class T>
std::vector<T> activated(Activation which, const std::vector<T>& x) {
  std::vector<T> y(x.size());
  kernels<T>().activate(static_cast<int>(which), x.data(), static_cast<Index>(x.size()),
                        y.data());
  return y;
}

// Even in x and even in the logarithm of x, both signs.
template <class T>
std::vector<T> dense_points(T largest) {
  constexpr int kPoints = 40000;
  std::vector<T> points;
  for (int i = 0; i <= kPoints; ++i) {
    const double part = static_cast<double>(i) / kPoints;
    const double even = part * static_cast<double>(largest);
    const double log_even = std::exp2(-40.0 + part * 50.0);
    for (const double x : {even, std::min(log_even, static_cast<double>(largest))}) {
      points.push_back(static_cast<T>(x));
      points.push_back(static_cast<T>(-x));
    }
  }
  return points;
}

template <class T>
double ulp_error(T got, Wider<T> wanted) {
  const T near = std::abs(static_cast<T>(wanted));
  const T spacing = std::nextafter(near, std::numeric_limits<T>::infinity()) - near;
  return static_cast<double>(std::abs(static_cast<Wider<T>>(got) - wanted) / spacing);
}

template <class T, class Function>
double worst_ulp(const std::vector<T>& x, const std::vector<T>& y,
                 const Function& exact) {
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    worst = std::max(worst, ulp_error<T>(y[i], exact(static_cast<Wider<T>>(x[i]))));
  }
  return worst;
}

}  // namespace

TEST_CASE_TEMPLATE("sigmoid and tanh stay within their error bounds", T, float,
                   double) {
  const std::vector<T> x = dense_points<T>(Bounds<T>::kLargest);
  for_each_isa([&] {
    const double sigmoid = worst_ulp(x, activated(Activation::sigmoid, x),
                                     [](auto v) { return 1 / (1 + std::exp(-v)); });
    const double tanh = worst_ulp(x, activated(Activation::tanh, x),
                                  [](auto v) { return std::tanh(v); });
    MESSAGE(isa() << ": sigmoid " << sigmoid << " ulp, tanh " << tanh << " ulp");
    CHECK(sigmoid <= Bounds<T>::kSigmoidUlp);
    CHECK(tanh <= Bounds<T>::kTanhUlp);
  });
}

TEST_CASE_TEMPLATE("sigmoid and tanh never leave their range", T, float, double) {
  std::vector<T> x = dense_points<T>(Bounds<T>::kLargest);
  for (T& value : x) value *= 4;
  for_each_isa([&] {
    const auto in = [](T low) { return [low](T y) { return y >= low && y <= T(1); }; };
    const std::vector<T> sigmoid = activated(Activation::sigmoid, x);
    const std::vector<T> tanh = activated(Activation::tanh, x);
    CHECK(std::all_of(sigmoid.begin(), sigmoid.end(), in(T(0))));
    CHECK(std::all_of(tanh.begin(), tanh.end(), in(T(-1))));
  });
}

TEST_CASE_TEMPLATE("special values", T, float, double) {
  using Limits = std::numeric_limits<T>;
  const T inf = Limits::infinity();
  const T big = Limits::max();
  const T tiny = Limits::denorm_min();
  const std::vector<T> x = {inf,
                            -inf,
                            big,
                            -big,
                            T(0),
                            -T(0),
                            tiny,
                            -tiny,
                            Limits::min(),
                            -Limits::min(),
                            Limits::quiet_NaN()};
  for_each_isa([&] {
    const std::vector<T> s = activated(Activation::sigmoid, x);
    CHECK(s[0] == T(1));
    CHECK(s[1] <= Bounds<T>::kFlat);
    CHECK(s[2] == T(1));
    CHECK(s[3] <= Bounds<T>::kFlat);
    for (std::size_t i = 4; i < 10; ++i) CHECK(s[i] == T(0.5));
    CHECK(std::isnan(s[10]));

    const std::vector<T> t = activated(Activation::tanh, x);
    for (const std::size_t i : {0, 2}) {
      CHECK(t[i] == T(1));
      CHECK(t[i + 1] == T(-1));
    }
    for (std::size_t i = 4; i < 10; ++i) CHECK(t[i] == x[i]);
    CHECK(std::isnan(t[10]));

    const std::vector<T> relu = activated(Activation::relu, x);
    for (std::size_t i = 0; i < 10; ++i) CHECK(relu[i] == std::max(T(0), x[i]));
    CHECK(std::isnan(relu[10]));

    CHECK(same_bits(activated(Activation::linear, x), x));
  });
}

TEST_CASE_TEMPLATE("sigmoid is flat where its result would be denormal", T, float,
                   double) {
  const std::vector<T> x = {-Bounds<T>::kLargest * T(1.001),
                            -Bounds<T>::kLargest * T(2)};
  for_each_isa([&] {
    for (const T y : activated(Activation::sigmoid, x)) {
      CHECK(y >= std::numeric_limits<T>::min());
      CHECK(y <= Bounds<T>::kFlat);
    }
  });
}

TEST_CASE_TEMPLATE("activate treats every length alike", T, float, double) {
  for_each_isa([&] {
    const int width = kernels<T>().width;
    const std::vector<T> x = Random<T>(1).array(2 * width + 1);
    for (const auto which : {Activation::tanh, Activation::relu, Activation::sigmoid,
                             Activation::linear}) {
      const std::vector<T> whole = activated(which, x);
      for (std::size_t n = 1; n <= x.size(); ++n) {
        const auto size = static_cast<std::ptrdiff_t>(n);
        CHECK(same_bits(activated(which, std::vector<T>(x.begin(), x.begin() + size)),
                        std::vector<T>(whole.begin(), whole.begin() + size)));
      }
    }
  });
}

}  // namespace fastlstm::testing
