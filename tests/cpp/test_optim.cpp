// Optimizer updates of every instruction set against plain loops in double, clipping,
// zeroing in the same pass, and bits that do not depend on threads.
#include <functional>

#include "support.hpp"

namespace fastlstm::testing {
namespace {

// Arrays of one parameter.
template <class T>
struct Arrays {
  std::vector<T> param, grad, first, second;
  Parameter<T> view(bool has_first, bool has_second) {
    return {static_cast<Index>(param.size()), param.data(), grad.data(),
            has_first ? first.data() : nullptr, has_second ? second.data() : nullptr};
  }
};

template <class T>
Arrays<T> random_arrays(Index size, std::uint64_t seed) {
  Random<T> random(seed);
  Arrays<T> a{random.array(size), random.array(size), random.array(size),
              random.array(size)};
  for (T& value : a.first) value = std::abs(value);  // as a mean square is
  for (T& value : a.second) value = std::abs(value);
  return a;
}

// One element: param, g, first and second after the step, as optim.hpp has it.
using Element = std::function<void(double& param, double g, double& a, double& b)>;

struct Case {
  UpdateRule rule;
  bool has_first, has_second;
  double decay;  // that adds to g
  Element element;
};

constexpr double kLr = 0.01;
constexpr double kNumber = 3;

std::vector<Case> cases() {
  const auto adam = [](double shrink) {
    return [shrink](double& p, double g, double& mean, double& square) {
      mean += 0.1 * (g - mean);
      square = 0.95 * square + 0.05 * g * g;
      const double spread = std::sqrt(square / (1 - std::pow(0.95, kNumber))) + 1e-6;
      p = shrink * p - kLr / (1 - std::pow(0.9, kNumber)) * mean / spread;
    };
  };
  return {
      {Sgd{0, 0.1, false}, false, false, 0.1,
       [](double& p, double g, double&, double&) { p -= kLr * g; }},
      {Sgd{0.9, 0, false}, true, false, 0,
       [](double& p, double g, double& v, double&) {
         v = 0.9 * v + g;
         p -= kLr * v;
       }},
      {Sgd{0.9, 0.1, true}, true, false, 0.1,
       [](double& p, double g, double& v, double&) {
         v = 0.9 * v + g;
         p -= kLr * (g + 0.9 * v);
       }},
      {Adam{0.9, 0.95, 1e-6, 0.2, false}, true, true, 0.2, adam(1)},
      {Adam{0.9, 0.95, 1e-6, 0.2, true}, true, true, 0, adam(1 - kLr * 0.2)},
      {Rmsprop{0.9, 1e-6, 0, 0.1}, true, false, 0.1,
       [](double& p, double g, double& square, double&) {
         square = 0.9 * square + 0.1 * g * g;
         p -= kLr * g / (std::sqrt(square) + 1e-6);
       }},
      {Rmsprop{0.9, 1e-6, 0.5, 0}, true, true, 0,
       [](double& p, double g, double& square, double& v) {
         square = 0.9 * square + 0.1 * g * g;
         v = 0.5 * v + g / (std::sqrt(square) + 1e-6);
         p -= kLr * v;
       }},
  };
}

template <class T>
double worst_error(const Case& c, Arrays<T> got, Arrays<T> given, double scale) {
  double worst = 0;
  for (std::size_t i = 0; i < given.param.size(); ++i) {
    double p = static_cast<double>(given.param[i]);
    double a = static_cast<double>(given.first[i]);
    double b = static_cast<double>(given.second[i]);
    c.element(p, scale * static_cast<double>(given.grad[i]) + c.decay * p, a, b);
    worst = std::max(worst, std::abs(static_cast<double>(got.param[i]) - p));
    worst = std::max(worst, std::abs(static_cast<double>(got.first[i]) - a));
    worst = std::max(worst, std::abs(static_cast<double>(got.second[i]) - b));
  }
  return worst;
}

template <class T>
void check_updates() {
  const double tolerance = std::is_same_v<T, float> ? 2e-6 : 1e-14;
  const Index width = 16;  // of the widest vector
  for (const Case& c : cases()) {
    for (Index size = 1; size <= 2 * width + 1; ++size) {
      const Arrays<T> given = random_arrays<T>(size, 7);
      for (const bool zero : {false, true}) {
        Arrays<T> got = given;
        const Parameter<T> view = got.view(c.has_first, c.has_second);
        update(c.rule, {kLr, kNumber, 0.5, zero}, &view, 1);
        CHECK(worst_error(c, got, given, 0.5) < tolerance);
        CHECK(
            same_bits(got.grad, zero ? std::vector<T>(given.grad.size()) : given.grad));
      }
    }
  }
}

TEST_CASE("updates are their equations") {
  for_each_isa([] {
    check_updates<float>();
    check_updates<double>();
  });
}

TEST_CASE("the norm is that of all gradients, the same with every instruction set") {
  std::vector<float> grads[3] = {
      Random<float>(1).array(70001), Random<float>(2).array(3), {}};
  double sum = 0;
  std::vector<Parameter<float>> list;
  for (auto& grad : grads) {
    for (const float g : grad) sum += static_cast<double>(g) * static_cast<double>(g);
    list.push_back(
        {static_cast<Index>(grad.size()), nullptr, grad.data(), nullptr, nullptr});
  }
  std::vector<double> norms;
  for_each_isa([&] { norms.push_back(gradient_norm(list.data(), 3)); });
  for (const double norm : norms) CHECK(norm == norms[0]);
  CHECK(norms[0] == doctest::Approx(std::sqrt(sum)).epsilon(1e-13));
}

TEST_CASE("clipping and update in one go equal both apart, on any number of threads") {
  const Adam rule;
  // Enough for several threads, and for pieces larger than the smallest.
  for (const Index size : {Index{100}, Index{50000}, Index{3000000}}) {
    std::vector<Arrays<float>> given = {random_arrays<float>(size, 1),
                                        random_arrays<float>(33, 2)};
    const auto views = [](std::vector<Arrays<float>>& arrays) {
      return std::vector<Parameter<float>>{arrays[0].view(true, true),
                                           arrays[1].view(true, true)};
    };
    auto apart = given;
    auto list = views(apart);
    const double norm = gradient_norm(list.data(), 2);
    update(rule, {kLr, 1, clip_scale(norm, 1), false}, list.data(), 2);
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      auto got = given;
      auto views_got = views(got);
      CHECK(clipped_update(rule, {kLr, 1, 1, true}, 1, views_got.data(), 2) == norm);
      for (std::size_t i = 0; i < 2; ++i) {
        CHECK(same_bits(got[i].param, apart[i].param));
        CHECK(same_bits(got[i].first, apart[i].first));
        CHECK(same_bits(got[i].second, apart[i].second));
        CHECK(same_bits(got[i].grad, std::vector<float>(got[i].grad.size())));
      }
    }
    set_num_threads(available_cpus());
  }
}

TEST_CASE("a norm that is not finite changes no parameter") {
  for (const float bad : {std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    Arrays<float> given = random_arrays<float>(40, 1);
    given.grad[17] = bad;
    Arrays<float> got = given;
    const Parameter<float> view = got.view(true, true);
    CHECK_FALSE(std::isfinite(clipped_update(Adam{}, {kLr, 1, 1, true}, 1, &view, 1)));
    CHECK(same_bits(got.param, given.param));
    CHECK(same_bits(got.first, given.first));
  }
}

}  // namespace
}  // namespace fastlstm::testing
