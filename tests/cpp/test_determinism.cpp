// What must give the same bits: any number of threads, a row alone or in a batch, a
// sequence whole or in chunks, batch-first or time-first. Across instruction sets the
// results agree to rounding.
#include "layer_plan.hpp"
#include "recurrent_problem.hpp"

namespace fastlstm::testing {
namespace {

// Shapes that the threads share by rows, by panels, and by either according to their
// number (see choose_split).
struct Shape {
  Index seq_len, batch_size, input_size, hidden_size;
};
constexpr Shape kByRows = {4, 64, 33, 128};
constexpr Shape kByPanels = {3, 4, 300, 500};
constexpr Shape kOneRow = {4, 1, 100, 1000};
constexpr Shape kGroups = {240, 70, 3, 20};  // four, see row_groups
constexpr Shape kEither = {9, 32, 33, 200};

#if defined(FASTLSTM_EMULATED)
constexpr int kThreadCounts[] = {3};  // an emulated CPU takes 40 times as long
#else
constexpr int kThreadCounts[] = {2, 3, 4, 8};
#endif

template <class T>
Split split_of(const RecurrentConfig& config, const Shape& shape) {
  return choose_split(
      make_plan<T>(config, 0, false, {shape.seq_len, shape.batch_size}));
}

template <class T>
void check_threads(const Shape& shape) {
  for (const CellKind cell : kCells) {
    RecurrentConfig config = make_config(cell, shape.input_size, shape.hidden_size);
    config.bidirectional = shape.seq_len > 4;
    const Problem<T> problem(config, shape.seq_len, shape.batch_size);
    set_num_threads(1);
    const Outcome<T> outcome = problem.infer();
    const Gradients<T> gradients = problem.gradients();
    for (const int threads : kThreadCounts) {
      CAPTURE(threads);
      set_num_threads(threads);
      CHECK(split_of<T>(config, shape).threads > 1);
      CHECK(problem.infer() == outcome);
      CHECK(same_bits(problem.gradients().flat(), gradients.flat()));
    }
  }
  set_num_threads(available_cpus());
}

// Row n of a (outer, N, inner) array.
template <class T>
std::vector<T> row_of(const std::vector<T>& all, Index batch_size, Index inner,
                      Index n) {
  std::vector<T> row;
  for (std::size_t begin = static_cast<std::size_t>(n * inner); begin < all.size();
       begin += static_cast<std::size_t>(batch_size * inner)) {
    const auto first = all.begin() + static_cast<std::ptrdiff_t>(begin);
    row.insert(row.end(), first, first + inner);
  }
  return row;
}

}  // namespace

TEST_CASE("the shapes below are shared as they say") {
  for (const CellKind cell : kCells) {
    const auto split = [&](const Shape& shape, int threads) {
      set_num_threads(threads);
      return split_of<float>(make_config(cell, shape.input_size, shape.hidden_size),
                             shape);
    };
    CHECK(split(kByRows, 8).by_rows);
    CHECK_FALSE(split(kByPanels, 2).by_rows);
    CHECK_FALSE(split(kOneRow, 2).by_rows);
    CHECK(split(kEither, 2).by_rows);
    CHECK_FALSE(split(kEither, 8).by_rows);
  }
  set_num_threads(available_cpus());
}

TEST_CASE_TEMPLATE("threads sharing rows give the same bits", T, float, double) {
  check_threads<T>(kByRows);
}

TEST_CASE_TEMPLATE("threads sharing groups of rows give the same bits", T, float,
                   double) {
  check_threads<T>(kGroups);
}

TEST_CASE_TEMPLATE("threads sharing panels give the same bits", T, float, double) {
  check_threads<T>(kByPanels);
}

TEST_CASE_TEMPLATE("threads sharing a batch of one give the same bits", T, float,
                   double) {
  check_threads<T>(kOneRow);
}

TEST_CASE_TEMPLATE("the way of sharing does not change the bits", T, float, double) {
  check_threads<T>(kEither);
}

TEST_CASE_TEMPLATE("a row alone gives the bits that it gives in a batch", T, float,
                   double) {
  constexpr Index kBatch = 9;
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      RecurrentConfig config = make_config(cell, 3, 21);
      config.num_layers = 2;
      config.bidirectional = true;
      const Problem<T> batch(config, 5, kBatch);
      const Outcome<T> whole = batch.infer();
      for (Index n = 0; n < kBatch; ++n) {
        Problem<T> alone(config, 5, 1);
        alone.params = batch.params;
        alone.x = row_of(batch.x, kBatch, config.input_size, n);
        alone.h0 = row_of(batch.h0, kBatch, config.hidden_size, n);
        alone.c0 = row_of(batch.c0, kBatch, config.hidden_size, n);
        const Outcome<T> got = alone.infer();
        REQUIRE(same_bits(got.output, row_of(whole.output, kBatch, batch.units(), n)));
        REQUIRE(same_bits(got.h_n, row_of(whole.h_n, kBatch, config.hidden_size, n)));
        REQUIRE(same_bits(got.c_n, row_of(whole.c_n, kBatch, config.hidden_size, n)));
      }
    }
  });
}

TEST_CASE_TEMPLATE("a sequence in chunks gives the bits of the whole", T, float,
                   double) {
  constexpr Index kSteps = 150;  // more than are projected at once for a batch of one
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      for (const Index batch_size : {1, 3}) {
        RecurrentConfig config = make_config(cell, 2, 10);
        config.num_layers = 2;
        const Problem<T> whole(config, kSteps, batch_size);
        const Outcome<T> wanted = whole.infer();
        for (const Index chunk : {1, 7, 64}) {
          Outcome<T> state = {{}, whole.h0, whole.c0};
          std::vector<T> output;
          for (Index begin = 0; begin < kSteps; begin += chunk) {
            const Index steps = std::min(chunk, kSteps - begin);
            Problem<T> part(config, steps, batch_size);
            part.params = whole.params;
            const auto first = whole.x.begin() + begin * batch_size * config.input_size;
            part.x.assign(first, first + steps * batch_size * config.input_size);
            part.h0 = state.h_n;
            part.c0 = state.c_n;
            state = part.infer();
            output.insert(output.end(), state.output.begin(), state.output.end());
          }
          REQUIRE(same_bits(output, wanted.output));
          REQUIRE(same_bits(state.h_n, wanted.h_n));
          REQUIRE(same_bits(state.c_n, wanted.c_n));
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("keeping a tape does not change the output", T, float, double) {
  for_each_isa([] {
    for (const CellKind cell : kCells) {
      for (const Index batch_size : {1, 5}) {
        const Problem<T> problem(make_config(cell, 4, 19), 70, batch_size);
        BufferPool pool;
        Outcome<T> outcome;
        Tape<T> tape;
        problem.forward(outcome, pool, &tape);
        CHECK(outcome == problem.infer());
      }
    }
  });
}

TEST_CASE_TEMPLATE("instruction sets agree to rounding", T, float, double) {
  const double tolerance = 50 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (const CellKind cell : kCells) {
    RecurrentConfig config = make_config(cell, 7, 37);
    config.num_layers = 2;
    config.bidirectional = true;
    const Problem<T> problem(config, 6, 5);
    set_isa("scalar");
    const Outcome<T> outcome = problem.infer();
    const std::vector<T> gradients = problem.gradients().flat();
    for_each_isa([&] {
      CHECK(max_difference(problem.infer().output, outcome.output) < tolerance);
      CHECK(relative_difference(problem.gradients().flat(), gradients) < tolerance);
    });
  }
}

}  // namespace fastlstm::testing
