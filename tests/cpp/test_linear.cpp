// The dense layer of every instruction set against plain loops in double: odd sizes,
// parts of a batch, threads.
#include "support.hpp"

namespace fastlstm::testing {
namespace {

template <class T>
struct Problem {
  LinearShape shape;
  std::vector<T> x, weight, bias, d_out;
  explicit Problem(const LinearShape& s) : shape(s) {
    Random<T> random(5);
    x = random.array(s.rows * s.in_features);
    weight = random.array(s.out_features * s.in_features);
    bias = random.array(s.out_features);
    d_out = random.array(s.rows * s.out_features);
  }
};

template <class T>
struct Result {
  std::vector<T> out, d_weight, d_bias, d_x;
};

// Gradients start at 1, which must be added to.
template <class T>
Result<T> run(const Problem<T>& p) {
  Result<T> r{std::vector<T>(p.d_out.size()), std::vector<T>(p.weight.size(), T(1)),
              std::vector<T>(p.bias.size(), T(1)), std::vector<T>(p.x.size())};
  linear_forward(p.shape, p.x.data(), p.weight.data(), p.bias.data(), r.out.data());
  linear_backward(p.shape, p.x.data(), p.weight.data(), p.d_out.data(),
                  r.d_weight.data(), r.d_bias.data(), r.d_x.data());
  return r;
}

template <class T>
Result<T> reference(const Problem<T>& p) {
  const Index in = p.shape.in_features, outs = p.shape.out_features;
  const auto at = [](const std::vector<T>& values, Index i) {
    return static_cast<double>(values[static_cast<std::size_t>(i)]);
  };
  Result<T> r;
  for (Index row = 0; row < p.shape.rows; ++row) {
    for (Index o = 0; o < outs; ++o) {
      double sum = at(p.bias, o);
      for (Index k = 0; k < in; ++k)
        sum += at(p.x, row * in + k) * at(p.weight, o * in + k);
      r.out.push_back(static_cast<T>(sum));
    }
    for (Index k = 0; k < in; ++k) {
      double sum = 0;
      for (Index o = 0; o < outs; ++o) {
        sum += at(p.d_out, row * outs + o) * at(p.weight, o * in + k);
      }
      r.d_x.push_back(static_cast<T>(sum));
    }
  }
  for (Index o = 0; o < outs; ++o) {
    double bias = 1;
    for (Index row = 0; row < p.shape.rows; ++row) bias += at(p.d_out, row * outs + o);
    r.d_bias.push_back(static_cast<T>(bias));
    for (Index k = 0; k < in; ++k) {
      double sum = 1;
      for (Index row = 0; row < p.shape.rows; ++row) {
        sum += at(p.d_out, row * outs + o) * at(p.x, row * in + k);
      }
      r.d_weight.push_back(static_cast<T>(sum));
    }
  }
  return r;
}

template <class T>
bool same(const Result<T>& a, const Result<T>& b) {
  return same_bits(a.out, b.out) && same_bits(a.d_weight, b.d_weight) &&
         same_bits(a.d_bias, b.d_bias) && same_bits(a.d_x, b.d_x);
}

template <class T>
void check_sizes() {
  const double tolerance = std::is_same_v<T, float> ? 1e-4 : 1e-13;
  for (const Index in : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 70}) {
    for (const Index outs : {1, 3, 4, 5, 10, 33}) {
      for (const Index rows : {0, 1, 2, 6, 7, 13}) {
        const Problem<T> problem({rows, in, outs});
        const Result<T> got = run(problem), wanted = reference(problem);
        CHECK(max_difference(got.out, wanted.out) < tolerance);
        CHECK(max_difference(got.d_weight, wanted.d_weight) < tolerance);
        CHECK(max_difference(got.d_bias, wanted.d_bias) < tolerance);
        CHECK(max_difference(got.d_x, wanted.d_x) < tolerance);
      }
    }
  }
}

TEST_CASE("the dense layer is its equation at every size") {
  for_each_isa([] {
    check_sizes<float>();
    check_sizes<double>();
  });
}

TEST_CASE("a row's output does not depend on the batch it sits in") {
  for_each_isa([] {
    const Problem<float> problem({13, 37, 11});
    const Result<float> whole = run(problem);
    Problem<float> part = problem;
    part.shape.rows = 1;
    for (Index row = 0; row < 13; ++row) {
      part.x.assign(problem.x.begin() + row * 37, problem.x.begin() + (row + 1) * 37);
      part.d_out.assign(problem.d_out.begin() + row * 11,
                        problem.d_out.begin() + (row + 1) * 11);
      const Result<float> one = run(part);
      const auto slice = [&](const std::vector<float>& values, Index size) {
        return std::vector<float>(values.begin() + row * size,
                                  values.begin() + (row + 1) * size);
      };
      CHECK(same_bits(one.out, slice(whole.out, 11)));
      CHECK(same_bits(one.d_x, slice(whole.d_x, 37)));
    }
  });
}

TEST_CASE("large dense layers give the same bits on any number of threads") {
  // One narrow, one wide: parts of several threads are empty where columns are few.
  for (const LinearShape& shape :
       {LinearShape{30000, 9, 17}, LinearShape{50, 300, 301}}) {
    const Problem<float> problem(shape);
    set_num_threads(1);
    const Result<float> one = run(problem);
    for (const int threads : {2, 3, 8}) {
      set_num_threads(threads);
      CHECK(same(run(problem), one));
    }
    set_num_threads(available_cpus());
  }
}

}  // namespace
}  // namespace fastlstm::testing
