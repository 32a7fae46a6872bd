// Ragged batches, masks, resets and checkpoints: gradients, NaN where nothing is read,
// the same bits from any number of threads, refusals.
#include <array>
#include <limits>
#include <utility>

#include "marks.hpp"

namespace fastlstm::testing {
namespace {

constexpr std::array<std::array<bool, 3>, 4> kKinds = {{{true, false, false},
                                                        {false, true, false},
                                                        {false, false, true},
                                                        {true, true, true}}};

template <class Check>
void for_each_kind(CellKind cell, const Check& check) {
  for (const auto& [ragged, masked, resets] : kKinds) {
    CAPTURE(ragged);
    CAPTURE(masked);
    CAPTURE(resets);
    RecurrentConfig config = make_config(cell, 3, 5);
    config.num_layers = 2;
    config.bidirectional = !resets;
    check(config, ragged, masked, resets);
  }
}

double loss_slope(Problem<double> problem, std::size_t part, std::size_t at) {
  constexpr double kStep = 1e-5;
  double& value = (*problem.inputs()[part])[at];
  value += kStep;
  const double above = problem.loss();
  value -= 2 * kStep;
  return (above - problem.loss()) / (2 * kStep);
}

// Every seventh entry of every gradient against differences.
void check_gradients(Problem<double> problem) {
  const std::vector<double> got = problem.gradients().flat();
  std::size_t first = 0;
  std::vector<double> some, wanted;
  for (std::size_t part = 0; part < problem.inputs().size(); ++part) {
    const std::size_t size = problem.inputs()[part]->size();
    for (std::size_t at = 0; at < size; at += 7) {
      some.push_back(got[first + at]);
      wanted.push_back(loss_slope(problem, part, at));
    }
    first += size;
  }
  CHECK(relative_difference(some, wanted) < 1e-7);
}

}  // namespace

TEST_CASE("gradients of ragged, masked and reset batches, with every instruction set") {
  for_each_isa([] {
    for (const CellKind cell : kCells) {
      CAPTURE(static_cast<int>(cell));
      for_each_kind(cell, [](const RecurrentConfig& config, bool a, bool b, bool c) {
        Problem<double> problem(config, 5, 4);
        const Marks marks(5, 4);
        problem.marks = marks.view(a, b, c);
        check_gradients(problem);
      });
    }
  });
}

TEST_CASE("gradients with recurrent dropout, of batches, of one row, with marks") {
  for_each_isa([] {
    for (const CellKind cell : kCells) {
      CAPTURE(static_cast<int>(cell));
      for_each_kind(cell, [](RecurrentConfig config, bool a, bool b, bool c) {
        config.recurrent_dropout = 0.4;
        Problem<double> problem(config, 5, 4);
        check_gradients(problem);
        check_gradients(Problem<double>(config, 5, 1));
        const Marks marks(5, 4);
        problem.marks = marks.view(a, b, c);
        check_gradients(problem);
      });
    }
  });
}

TEST_CASE("what is not real is never read") {
  for (const CellKind cell : kCells) {
    RecurrentConfig config = make_config(cell, 3, 21);
    config.bidirectional = true;
    Problem<float> problem(config, 6, 5);
    const Marks marks(6, 5);
    problem.marks = marks.view(true, true, false);
    const Outcome<float> outcome = problem.infer();
    const std::vector<float> gradients = problem.gradients().flat();
    for (Index t = 0; t < 6; ++t) {
      for (Index n = 0; n < 5; ++n) {
        if (marks.real(t, n)) continue;
        float* x = problem.x.data() + (t * 5 + n) * 3;
        std::fill_n(x, 3, std::numeric_limits<float>::quiet_NaN());
        if (t < marks.lengths[static_cast<std::size_t>(n)]) continue;
        float* d = problem.output_weight.data() + (t * 5 + n) * problem.units();
        std::fill_n(d, problem.units(), std::numeric_limits<float>::quiet_NaN());
      }
    }
    CHECK(problem.infer() == outcome);
    CHECK(same_bits(problem.gradients().flat(), gradients));
  }
}

TEST_CASE("the bits depend neither on threads nor on checkpoints") {
  for (const CellKind cell : kCells) {
    for (const auto& [batch_size, hidden_size] :
         {std::pair<Index, Index>{40, 70}, {6, 300}}) {
      for (const bool resets : {false, true}) {
        RecurrentConfig config = make_config(cell, 40, hidden_size);
        config.bidirectional = !resets;
        config.recurrent_dropout = resets ? 0.3 : 0;
        Problem<float> problem(config, 9, batch_size);
        const Marks marks(9, batch_size);
        problem.marks = marks.view(true, resets, resets);
        set_num_threads(1);
        const Outcome<float> outcome = problem.infer();
        const std::vector<float> gradients = problem.gradients().flat();
        for (const int threads : {1, 3}) {
          for (const Index every : {0, 1, 4, 100}) {
            set_num_threads(threads);
            problem.checkpoint_every = every;
            CHECK(problem.infer() == outcome);
            CHECK(same_bits(problem.gradients().flat(), gradients));
          }
        }
      }
    }
  }
  set_num_threads(available_cpus());
}

TEST_CASE("wrong marks are refused") {
  Problem<float> problem(make_config(CellKind::lstm, 3, 5), 4, 2);
  const std::vector<Index> lengths = {4, 5};
  problem.marks.lengths = lengths.data();
  CHECK(error_of([&] { problem.infer(); }) ==
        "lengths must be from 0 to T = 4, got 5 at row 1");
  problem.marks = {};
  problem.checkpoint_every = -1;
  CHECK(error_of([&] { problem.infer(); }) ==
        "checkpoint_every must be at least 1, or 0 for none, got -1");
  RecurrentConfig both = make_config(CellKind::gru, 3, 5);
  both.bidirectional = true;
  Problem<float> two(both, 4, 2);
  const Marks marks(4, 2);
  two.marks = marks.view(false, false, true);
  CHECK(error_of([&] { two.infer(); }).find("reset needs one direction") == 0);
}

}  // namespace fastlstm::testing
