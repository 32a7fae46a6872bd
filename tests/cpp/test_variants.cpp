// Variants of the cells, on every instruction set: forward as the scalar kernels
// compute it, back-propagation against central differences, the same bits for any
// number of threads. tests/python/test_variants.py holds them to an independent
// reference.
#include "fastlstm/threads.hpp"
#include "recurrent_problem.hpp"

namespace fastlstm::testing {
namespace {

constexpr double kTolerance = 1e-8;

// A set of options that has every smooth part of an LSTM's general path in it.
RecurrentConfig lstm_variant(Index input_size, Index hidden_size) {
  RecurrentConfig config = make_config(CellKind::lstm, input_size, hidden_size);
  config.options.peepholes = true;
  config.options.layer_norm = true;
  config.options.proj_size = hidden_size > 1 ? hidden_size - 1 : 0;
  config.options.zoneout_h = 0.3;
  config.options.zoneout_c = 0.2;
  config.options.own_activations = true;
  config.options.activations[0] = {{Activation::scaled_tanh, 0.8, 1.2},
                                   {Activation::softsign, 0, 0},
                                   {Activation::softplus, 0, 0}};
  config.options.activations[1].cell = {Activation::elu, 0.7, 0};
  return config;
}

// All with a clip that lets through what small numbers make.
std::vector<RecurrentConfig> variants(Index input_size, Index hidden_size) {
  std::vector<RecurrentConfig> all = {lstm_variant(input_size, hidden_size)};
  RecurrentConfig config = make_config(CellKind::lstm, input_size, hidden_size);
  config.options.coupled = true;
  config.options.clip = 50;
  config.options.cell_clip = 50;
  all.push_back(config);
  for (const bool reset_after : {false, true}) {
    config = make_config(CellKind::gru, input_size, hidden_size);
    config.options.reset_after = reset_after;
    config.options.clip = 50;
    all.push_back(config);
  }
  config = make_config(CellKind::rnn, input_size, hidden_size);
  config.options.own_activations = true;
  config.options.activations[0].cell = {Activation::softsign, 0, 0};
  all.push_back(config);
  return all;
}

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
  for (const RecurrentConfig& config : variants(40, 70)) {
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
