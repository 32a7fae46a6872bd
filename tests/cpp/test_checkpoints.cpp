// Checkpoints: the bits of the plain way through every kind of stack, and memory that
// grows as T / k + k.
#include <limits>

#include "marks.hpp"
#include "variant_configs.hpp"

namespace fastlstm::testing {
namespace {

#if defined(FASTLSTM_EMULATED)
constexpr Index kEvery[] = {4};  // an emulated CPU takes 40 times as long
#else
constexpr Index kEvery[] = {1, 4, 7, 1000};
#endif

template <class T>
void check_bits(Problem<T> problem) {
  BufferPool pool;
  Outcome<T> wanted;
  Tape<T> whole;
  problem.forward(wanted, pool, &whole);
  const std::vector<T> gradients = problem.backward(pool, whole).flat();
  for (const Index every : kEvery) {
    CAPTURE(every);
    for (const int threads : {1, 3, 4}) {
      set_num_threads(threads);
      problem.checkpoint_every = every;
      Outcome<T> outcome;
      Tape<T> tape;
      problem.forward(outcome, pool, &tape);
      CHECK(outcome == wanted);
      // The tape does not borrow it.
      outcome.output.assign(outcome.output.size(), std::numeric_limits<T>::quiet_NaN());
      CHECK(same_bits(problem.backward(pool, tape).flat(), gradients));
    }
  }
  set_num_threads(available_cpus());
}

// One direction and two; dense, ragged, ragged with a mask and, in one direction,
// resets.
void check_stacks(RecurrentConfig config, Index steps, Index rows) {
  const Marks marks(steps, rows);
  for (const bool two : {false, true}) {
    CAPTURE(two);
    config.bidirectional = two;
    Problem<float> problem(config, steps, rows);
    for (const int kind : {0, 1, 2}) {
      CAPTURE(kind);
      problem.marks = marks.view(kind > 0, kind > 1, kind > 1 && !two);
      check_bits(problem);
    }
  }
}

// Bytes that all calls of a pass took in all, but for x, the output and their
// gradients.
std::size_t bytes_of_pass(Problem<float> problem, Index steps, Index every) {
  problem.seq_len = steps;
  problem.checkpoint_every = every;
  const auto cut = [&](std::vector<float>& all, Index units) {
    all.resize(static_cast<std::size_t>(steps * problem.batch_size * units));
  };
  cut(problem.x, problem.config.input_size);
  cut(problem.output_weight, problem.units());
  BufferPool pool(1000);
  Outcome<float> outcome;
  {
    Tape<float> tape;
    problem.forward(outcome, pool, &tape);
    problem.backward(pool, tape);
  }
  return pool.idle_bytes();
}

}  // namespace

TEST_CASE("checkpoints change no bit of a stack") {
  for (const CellKind cell : kCells) {
    CAPTURE(static_cast<int>(cell));
    RecurrentConfig config = make_config(cell, 5, 19);
    config.num_layers = 3;
    config.dropout = 0.3;
    check_stacks(config, 23, 6);
    config.recurrent_dropout = 0.2;
    check_stacks(config, 23, 1);
  }
}

TEST_CASE("checkpoints change no bit where rows go through time in groups") {
  RecurrentConfig config = make_config(CellKind::lstm, 3, 20);
  config.num_layers = 2;  // four groups in the first layer, less in the second
  check_bits(Problem<float>(config, 130, 37));
  // Two groups, on half of the threads each, or one after the other on three.
  check_bits(Problem<float>(make_config(CellKind::lstm, 33, 96), 15, 64));
}

TEST_CASE("checkpoints change no bit of a row alone that goes back in pieces") {
  for (const CellKind cell : kCells) {
    check_stacks(make_config(cell, 3, 101), 23, 1);
    check_stacks(make_config(cell, 9, 370), 9, 1);  // of weights read as they lie
  }
}

TEST_CASE("checkpoints change no bit of large layers") {
  RecurrentConfig config = make_config(CellKind::gru, 30, 200);
  config.num_layers = 2;
  check_stacks(config, 9, 1);
  check_stacks(config, 9, 40);
}

TEST_CASE("checkpoints change no bit of variants") {
  for (RecurrentConfig config : variants(5, 19)) {
    config.num_layers = 2;
    config.dropout = 0.3;
    config.recurrent_dropout = 0.2;
    check_stacks(config, 23, 6);
  }
}

TEST_CASE("checkpoints without steps or rows") {
  RecurrentConfig config = make_config(CellKind::lstm, 3, 5);
  config.num_layers = 2;
  check_bits(Problem<float>(config, 0, 4));
  check_bits(Problem<float>(config, 4, 0));
  Problem<float> problem(config, 4, 2);
  const std::vector<Index> lengths = {0, 0};
  problem.marks.lengths = lengths.data();
  check_bits(problem);
}

TEST_CASE("memory grows as T / k + k") {
  RecurrentConfig plain = make_config(CellKind::lstm, 3, 20);
  RecurrentConfig variant = lstm_variant(3, 20);
  for (RecurrentConfig config : {plain, variant}) {
    config.num_layers = 3;
    config.dropout = 0.3;
    const Problem<float> problem(config, 4096, 8);
    const std::size_t every_step = bytes_of_pass(problem, 4096, 0);
    const std::size_t short_one = bytes_of_pass(problem, 256, 16);
    const std::size_t long_one = bytes_of_pass(problem, 4096, 64);
    CHECK(long_one < 5 * short_one);  // 16 times the steps, 4 times the memory
    CHECK(long_one < every_step / 15);
  }
}

}  // namespace fastlstm::testing
