// Variants of the cells, on every instruction set: forward as the scalar kernels
// compute it, back-propagation against central differences, the same bits for any
// number of threads. tests/python/test_variants.py holds them to an independent
// reference.
#include "fastlstm/threads.hpp"
#include "recurrent_problem.hpp"
#include "variant_configs.hpp"

namespace fastlstm::testing {
namespace {

constexpr double kTolerance = 1e-8;

double worst_gradient(const Problem<double>& problem) {
  return relative_difference(problem.gradients().flat(), central_differences(problem));
}

}  // namespace

TEST_CASE("variants: gradients with every instruction set") {
  for_each_isa([] {
    for (const RecurrentConfig& config : variants(3, 5)) {
      CAPTURE(static_cast<int>(config.cell));
      CHECK(worst_gradient(Problem<double>(config, 3, 2)) < kTolerance);
    }
  });
}

TEST_CASE("variants: gradients of stacks in both directions") {
  for (RecurrentConfig config : variants(2, 3)) {
    config.num_layers = 2;
    config.bidirectional = true;
    config.dropout = 0.3;
    config.recurrent_dropout = 0.4;
    CHECK(worst_gradient(Problem<double>(config, 3, 2)) < kTolerance);
  }
}

TEST_CASE_TEMPLATE("variants: every instruction set gives what the scalar one does", T,
                   float, double) {
  for (const Index hidden : {2, 3, 4, 5, 8, 15, 16, 17, 33}) {
    for (const RecurrentConfig& config : variants(4, hidden)) {
      const Problem<T> problem(config, 4, 7);
      set_isa("scalar");
      const Outcome<T> wanted = problem.infer();
      const std::vector<T> gradients = problem.gradients().flat();
      for_each_isa([&] {
        const double limit =
            1e4 * static_cast<double>(std::numeric_limits<T>::epsilon());
        CHECK(relative_difference(problem.infer().output, wanted.output) < limit);
        CHECK(relative_difference(problem.gradients().flat(), gradients) < limit);
      });
    }
  }
}

TEST_CASE("variants: bits do not depend on the number of threads") {
  const int before = num_threads();
  for (RecurrentConfig config : variants(40, 70)) {
    config.recurrent_dropout = 0.3;
    const Problem<float> problem(config, 10, 24);
    set_num_threads(1);
    const Outcome<float> wanted = problem.infer();
    const std::vector<float> gradients = problem.gradients().flat();
    for (const int threads : {2, 3, 8}) {
      set_num_threads(threads);
      CHECK(problem.infer() == wanted);
      CHECK(same_bits(problem.gradients().flat(), gradients));
    }
  }
  set_num_threads(before);
}

TEST_CASE("variants: options that contradict the cell or each other are named") {
  const auto error = [](CellKind cell, const auto& change) {
    RecurrentConfig config = make_config(cell, 2, 4);
    change(config.options);
    return error_of([&] { check_config(config); });
  };
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(
      has(error(CellKind::lstm, [](CellOptions& o) { o.proj_size = 4; }), "proj_size"));
  CHECK(has(error(CellKind::lstm, [](CellOptions& o) { o.clip = -1; }), "clip"));
  CHECK(
      has(error(CellKind::lstm, [](CellOptions& o) { o.zoneout_h = 2; }), "zoneout_h"));
  CHECK(
      has(error(CellKind::lstm, [](CellOptions& o) { o.reset_after = false; }), "GRU"));
  CHECK(has(error(CellKind::gru, [](CellOptions& o) { o.peepholes = true; }), "LSTM"));
  CHECK(error(CellKind::gru, [](CellOptions& o) { o.reset_after = false; }).empty());
}

}  // namespace fastlstm::testing
