// Back-propagation through time in double against central differences of the forward
// pass, for every parameter, the input and the initial state.
#include "marks.hpp"
#include "variant_configs.hpp"

namespace fastlstm::testing {
namespace {

constexpr double kTolerance = 1e-8;

void check(const RecurrentConfig& config, Index seq_len, Index batch_size) {
  const Problem<double> problem(config, seq_len, batch_size);
  CHECK(relative_difference(problem.gradients().flat(), central_differences(problem)) <
        kTolerance);
}

// Along one random direction for each array, where there are too many values to change
// one by one.
void check_directions(Problem<double> problem) {
  constexpr double kStep = 1e-6;  // of each value: together they go far
  const std::vector<double> gradients = problem.gradients().flat();
  Random<double> random(3);
  std::vector<double> got, wanted;
  auto next = gradients.begin();
  for (std::vector<double>* part : problem.inputs()) {
    const std::vector<double> kept = *part;
    const std::vector<double> direction = random.array(static_cast<Index>(kept.size()));
    const auto loss_at = [&](double step) {
      for (std::size_t i = 0; i < kept.size(); ++i) {
        (*part)[i] = kept[i] + step * direction[i];
      }
      return problem.loss();
    };
    wanted.push_back((loss_at(kStep) - loss_at(-kStep)) / (2 * kStep));
    *part = kept;
    got.push_back(0);
    for (const double value : direction) got.back() += value * *next++;
  }
  CHECK(relative_difference(got, wanted) < kTolerance);
}

}  // namespace

TEST_CASE("gradients of a row alone that goes back in pieces") {
  const Marks marks(7, 1);
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      for (const Index units : {63, 64, 101, 260}) {  // two from 64 on, then eight
        CAPTURE(units);
        RecurrentConfig config = make_config(cell, 2, units);
        check_directions(Problem<double>(config, 7, 1));
        config.recurrent_dropout = 0.3;
        Problem<double> problem(config, 7, 1);
        check_directions(problem);
        problem.marks = marks.view(false, true, true);
        check_directions(problem);
      }
    }
  });
}

TEST_CASE("gradients of one layer, with every instruction set") {
  for_each_isa([] {
    for (const CellKind cell : kCells) {
      CAPTURE(static_cast<int>(cell));
      check(make_config(cell, 3, 5), 4, 3);
      check(make_config(cell, 9, 2), 3, 1);  // d_x in column blocks
      check(make_config(cell, 1, 9), 1, 7);
    }
  });
}

TEST_CASE("gradients of stacks, both directions and dropout") {
  for (const CellKind cell : kCells) {
    CAPTURE(static_cast<int>(cell));
    RecurrentConfig config = make_config(cell, 2, 3);
    config.num_layers = 3;
    check(config, 3, 2);
    config.num_layers = 2;
    config.bidirectional = true;
    check(config, 3, 2);
    config.dropout = 0.4;
    check(config, 4, 2);
  }
}

TEST_CASE("gradients with chosen activations") {
  constexpr Activation kAll[] = {Activation::tanh, Activation::relu,
                                 Activation::sigmoid, Activation::linear};
  for (const Activation activation : kAll) {
    for (const Activation output : kAll) {
      RecurrentConfig config = make_config(CellKind::lstm, 2, 3);
      config.cell_activation = activation;
      config.output_activation = output;
      check(config, 3, 2);
    }
    RecurrentConfig config = make_config(CellKind::rnn, 2, 3);
    config.cell_activation = activation;
    check(config, 3, 2);
  }
}

TEST_CASE("gradients over several chunks of steps") {
  for (const CellKind cell : kCells) {
    // The backward pass takes 256 rows at a time: here 90 * 3.
    const Problem<double> problem(make_config(cell, 1, 2), 90, 3);
    CHECK(relative_difference(problem.gradients().flat(),
                              central_differences(problem)) < kTolerance);
  }
}

TEST_CASE("float gradients are double's, rounded") {
  const auto check_float = [](const RecurrentConfig& config, Index seq_len,
                              Index batch_size) {
    const Problem<float> narrow(config, seq_len, batch_size);
    const Problem<double> wide(config, seq_len, batch_size);
    std::vector<double> got;
    for (const float value : narrow.gradients().flat()) {
      got.push_back(static_cast<double>(value));
    }
    CHECK(relative_difference(got, wide.gradients().flat()) < 2e-6);
  };
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      CAPTURE(static_cast<int>(cell));
      RecurrentConfig config = make_config(cell, 7, 33);
      config.num_layers = 2;
      config.bidirectional = true;
      check_float(config, 6, 5);
      // A row alone: one panel of an RNN, and the fewest units that go back in halves.
      check_float(make_config(cell, 3, 64), 9, 1);
      check_float(make_config(cell, 3, 70), 9, 1);
    }
  });
}

TEST_CASE("a state that is not given has the gradients of zeros") {
  const auto check_zeros = [](RecurrentConfig config, Index seq_len, Index batch_size) {
    config.bidirectional = true;
    config.recurrent_dropout = batch_size == 2 ? 0.3 : 0;
    Problem<float> problem(config, seq_len, batch_size);
    std::fill(problem.h0.begin(), problem.h0.end(), 0.0f);
    std::fill(problem.c0.begin(), problem.c0.end(), 0.0f);
    const std::vector<float> wanted = problem.gradients().flat();
    problem.starts_from_zeros = true;
    for (const Index every : {0, 2}) {
      problem.checkpoint_every = every;
      CHECK(same_bits(problem.gradients().flat(), wanted));
    }
  };
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      check_zeros(make_config(cell, 3, 20), 1, 1);
      check_zeros(make_config(cell, 3, 20), 5, 2);    // added at once
      check_zeros(make_config(cell, 3, 20), 40, 7);   // in two chunks
      check_zeros(make_config(cell, 3, 20), 30, 32);  // in groups of rows
      check_zeros(make_config(cell, 3, 65), 3, 300);  // a step alone in its chunk
    }
  });
}

TEST_CASE("backward overwrites gradients where it is told to") {
  const auto check_overwriting = [](const RecurrentConfig& config, Index seq_len,
                                    Index batch_size) {
    Problem<float> problem(config, seq_len, batch_size);
    const std::vector<float> wanted = problem.gradients().flat();
    for (const Index every : {0, 2}) {
      problem.checkpoint_every = every;
      problem.overwrites = true;
      CHECK(problem.gradients().flat() == wanted);
    }
  };
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      check_overwriting(make_config(cell, 3, 20), 5, 1);    // added at once
      check_overwriting(make_config(cell, 3, 20), 40, 7);   // in two chunks
      check_overwriting(make_config(cell, 3, 20), 30, 32);  // in groups of rows
      check_overwriting(make_config(cell, 3, 20), 0, 2);
      RecurrentConfig config = make_config(cell, 3, 20);
      config.num_layers = 2;
      config.bidirectional = true;
      check_overwriting(config, 6, 3);
    }
    for (const RecurrentConfig& config : variants(3, 20)) {
      check_overwriting(config, 5, 3);
    }
  });
}

TEST_CASE("backward adds to the gradients it is given") {
  const Problem<double> problem(make_config(CellKind::gru, 2, 3), 3, 2);
  BufferPool pool;
  Outcome<double> outcome;
  Tape<double> tape;
  problem.forward(outcome, pool, &tape);
  const Gradients<double> once = problem.backward(pool, tape);

  std::vector<std::vector<double>> twice(once.layers[0]);
  const LayerArrays<double> grads = {twice[0].data(), twice[1].data(), twice[2].data(),
                                     twice[3].data()};
  const auto params = problem.parameter_arrays();
  BackwardArgs<double> args{};
  args.d_output = {problem.output_weight.data(), 2 * 3, 3};
  args.d_h_n = problem.h_weight.data();
  args.params = params.data();
  args.grads = &grads;
  Tape<double> second;
  problem.forward(outcome, pool, &second);
  recurrent_backward(args, pool, second);
  for (std::size_t part = 0; part < twice.size(); ++part) {
    std::vector<double> wanted = once.layers[0][part];
    for (double& value : wanted) value *= 2;
    CHECK(max_difference(twice[part], wanted) < 1e-14);
  }
}

}  // namespace fastlstm::testing
