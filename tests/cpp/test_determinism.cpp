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
constexpr Shape kGroups = {240, 70, 3, 20};     // four, see row_groups
constexpr Shape kTwoGroups = {15, 64, 33, 96};  // on half of the threads each
constexpr Shape kSmallSteps = {60, 1, 20, 260};
constexpr Shape kEither = {9, 24, 33, 200};

#if defined(FASTLSTM_EMULATED)
constexpr int kThreadCounts[] = {3};  // an emulated CPU takes 40 times as long
constexpr int kThreadPairs[][2] = {{3, 2}};
#else
constexpr int kThreadCounts[] = {2, 3, 4, 8};
constexpr int kThreadPairs[][2] = {{1, 3}, {2, 1}, {3, 2}, {8, 1}, {4, 8}};
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

// Rows [begin, end) of a (outer, N, inner) array.
template <class T>
std::vector<T> rows_of(const std::vector<T>& all, Index batch_size, Index inner,
                       Index begin, Index end) {
  std::vector<T> rows;
  const auto size = static_cast<Index>(all.size());
  for (Index outer = 0; outer < size; outer += batch_size * inner) {
    const auto first = all.begin() + outer;
    rows.insert(rows.end(), first + begin * inner, first + end * inner);
  }
  return rows;
}

// Rows [begin, end) of a problem as a batch of their own.
template <class T>
Problem<T> part_of_batch(const Problem<T>& whole, Index begin, Index end) {
  const RecurrentConfig& config = whole.config;
  Problem<T> part(config, whole.seq_len, end - begin);
  part.params = whole.params;
  part.x = rows_of(whole.x, whole.batch_size, config.input_size, begin, end);
  part.h0 = rows_of(whole.h0, whole.batch_size, config.hidden_size, begin, end);
  part.c0 = rows_of(whole.c0, whole.batch_size, config.hidden_size, begin, end);
  return part;
}

template <class T>
Outcome<T> part_of_batch(const Outcome<T>& whole, const Problem<T>& problem,
                         Index begin, Index end) {
  const auto part = [&](const std::vector<T>& all, Index inner) {
    return rows_of(all, problem.batch_size, inner, begin, end);
  };
  const Index units = problem.config.hidden_size;
  return {part(whole.output, problem.units()), part(whole.h_n, units),
          part(whole.c_n, units)};
}

// Runs a sequence in chunks, the state carried by hand; each chunk on its own threads.
template <class T>
Outcome<T> run_in_chunks(const Problem<T>& whole, Index chunk) {
  const Index inputs = whole.batch_size * whole.config.input_size;
  Outcome<T> state = {{}, whole.h0, whole.c0};
  std::vector<T> output;
  for (Index begin = 0; begin < whole.seq_len; begin += chunk) {
    const Index steps = std::min(chunk, whole.seq_len - begin);
    Problem<T> part(whole.config, steps, whole.batch_size);
    part.params = whole.params;
    const auto first = whole.x.begin() + begin * inputs;
    part.x.assign(first, first + steps * inputs);
    part.h0 = state.h_n;
    part.c0 = state.c_n;
    set_num_threads(1 + static_cast<int>(begin / chunk % 3));
    state = part.infer();
    output.insert(output.end(), state.output.begin(), state.output.end());
  }
  set_num_threads(available_cpus());
  state.output = std::move(output);
  return state;
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
    CHECK_FALSE(split(kSmallSteps, 2).by_rows);
    CHECK(split(kEither, 2).by_rows);
    CHECK_FALSE(split(kEither, 8).by_rows);
  }
  // Weights beyond L2 take more rows to be read by every thread.
  set_num_threads(2);
  const RecurrentConfig large = make_config(CellKind::lstm, 200, 400);
  CHECK_FALSE(split_of<float>(large, {3, 24, 200, 400}).by_rows);
  CHECK(split_of<float>(large, {3, 48, 200, 400}).by_rows);
  const auto of_each_direction = [&](const Shape& shape, int threads) {
    set_num_threads(threads);
    const RecurrentConfig config =
        make_config(CellKind::lstm, shape.input_size, shape.hidden_size);
    return threads_side_by_side(
        make_plan<float>(config, 0, false, {shape.seq_len, shape.batch_size}));
  };
  for (const int threads : {2, 4, 8}) {
    CHECK(of_each_direction(kSmallSteps, threads) == threads / 2);
  }
  CHECK(of_each_direction(kSmallSteps, 1) == 0);
  CHECK(of_each_direction(kSmallSteps, 3) == 0);
  CHECK(of_each_direction(kEither, 8) == 4);
  CHECK(of_each_direction(kEither, 2) == 0);
  set_num_threads(available_cpus());
}

TEST_CASE_TEMPLATE("threads sharing rows give the same bits", T, float, double) {
  check_threads<T>(kByRows);
}

TEST_CASE_TEMPLATE("threads sharing groups of rows give the same bits", T, float,
                   double) {
  for (const Shape& shape : {kGroups, kTwoGroups}) check_threads<T>(shape);
}

TEST_CASE_TEMPLATE("threads sharing panels give the same bits", T, float, double) {
  check_threads<T>(kByPanels);
}

TEST_CASE_TEMPLATE("threads sharing a batch of one give the same bits", T, float,
                   double) {
  check_threads<T>(kOneRow);
}

TEST_CASE_TEMPLATE("threads sharing small steps give the same bits", T, float, double) {
  check_threads<T>(kSmallSteps);
}

// L2 holds no weights of all panels, but two panels of the first layer; of the second,
// which is read in pieces, 140 rows keep their sums in two groups. A row alone of the
// small ones has a panel, whole or in halves. Only kernels for x86 ask how large L1 is;
// elsewhere it would be nine minutes on an emulated CPU for nothing.
#if defined(FASTLSTM_TEST_X86)
TEST_CASE_TEMPLATE("the size of L1 does not change the bits", T, float, double) {
  constexpr Index kSizes[][2] = {{150, 400}, {1500, 520}, {3, 12}, {2, 16}, {5, 7}};
  set_num_threads(1);
  for (const CellKind cell : kCells) {
    for (const auto& [inputs, units] : kSizes) {
      for (const Index batch_size : {1, 20, 140}) {
        const Problem<T> problem(make_config(cell, inputs, units), 2, batch_size);
        set_l1_bytes(32 << 10);
        const Outcome<T> outcome = problem.infer();
        const Gradients<T> gradients = problem.gradients();
        set_l1_bytes(48 << 10);
        CHECK(problem.infer() == outcome);
        CHECK(same_bits(problem.gradients().flat(), gradients.flat()));
      }
    }
  }
  set_isa("auto");
  set_num_threads(available_cpus());
}
#endif

TEST_CASE_TEMPLATE("the way of sharing does not change the bits", T, float, double) {
  check_threads<T>(kEither);
}

// Records lie as the threads of forward shared them.
TEST_CASE_TEMPLATE("a tape is read and goes back on any number of threads", T, float,
                   double) {
  for (const Shape& shape :
       {kByRows, kByPanels, kGroups, kTwoGroups, kSmallSteps, kEither}) {
    for (const CellKind cell : kCells) {
      RecurrentConfig config = make_config(cell, shape.input_size, shape.hidden_size);
      config.bidirectional = shape.seq_len == kEither.seq_len;
      const Problem<T> problem(config, shape.seq_len, shape.batch_size);
      const auto run = [&](const int(&threads)[2]) {
        BufferPool pool;
        Outcome<T> outcome;
        Tape<T> tape;
        set_num_threads(threads[0]);
        problem.forward(outcome, pool, &tape);
        set_num_threads(threads[1]);
        std::vector<T> all(outcome.output.size());
        const SequenceView<T> view = {all.data(), problem.batch_size * problem.units(),
                                      problem.units()};
        std::vector<T> got;
        const auto append = [&](const std::vector<T>& part) {
          got.insert(got.end(), part.begin(), part.end());
        };
        if (cell == CellKind::lstm) {
          tape_cell(tape, 0, view);
          append(all);
        }
        tape_gate(tape, 0, 0, view);
        append(all);
        append(outcome.c_n);
        append(problem.backward(pool, tape).flat());
        return got;
      };
      const std::vector<T> wanted = run({1, 1});
      for (const auto& threads : kThreadPairs) {
        CAPTURE(threads[0]);
        CAPTURE(threads[1]);
        CHECK(same_bits(run(threads), wanted));
      }
    }
  }
  set_num_threads(available_cpus());
}

TEST_CASE_TEMPLATE("d_x has the same bits in any order of its axes", T, float, double) {
  constexpr Shape kLong = {40, 16, 9, 120};  // more steps than rows of a thread
  for (const Shape& shape : {kByRows, kByPanels, kLong}) {
    Problem<T> problem(make_config(CellKind::lstm, shape.input_size, shape.hidden_size),
                       shape.seq_len, shape.batch_size);
    set_num_threads(1);
    const std::vector<T> wanted = problem.gradients().x;
    problem.batch_first_d_x = true;
    for (const int threads : {1, 2, 3}) {
      CAPTURE(threads);
      set_num_threads(threads);
      const std::vector<T> got = problem.gradients().x;
      std::vector<T> time_first;
      for (Index t = 0; t < shape.seq_len; ++t) {
        for (Index n = 0; n < shape.batch_size; ++n) {
          const auto first = got.begin() + (n * shape.seq_len + t) * shape.input_size;
          time_first.insert(time_first.end(), first, first + shape.input_size);
        }
      }
      CHECK(same_bits(time_first, wanted));
    }
  }
  set_num_threads(available_cpus());
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
        REQUIRE(part_of_batch(batch, n, n + 1).infer() ==
                part_of_batch(whole, batch, n, n + 1));
      }
    }
  });
}

#if !defined(FASTLSTM_EMULATED)
TEST_CASE("a part of a batch gives its bits for any sizes and threads") {
  // Sizes that end in a half and in a whole panel, that are shared by rows and by
  // panels, with x narrow and wide.
  constexpr Index kBatch = 35;
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      for (const auto& [inputs, units] :
           {std::pair<Index, Index>{1, 24}, {40, 40}, {3, 130}, {64, 510}}) {
        CAPTURE(units);
        const Problem<float> batch(make_config(cell, inputs, units), 4, kBatch);
        set_num_threads(1);
        const Outcome<float> whole = batch.infer();
        Index begin = 0;
        int threads = 1;
        for (const Index size : {1, 2, 3, 4, 5, 7, 1, 12}) {
          CAPTURE(size);
          set_num_threads(threads);
          threads = threads % 4 + 1;
          REQUIRE(part_of_batch(batch, begin, begin + size).infer() ==
                  part_of_batch(whole, batch, begin, begin + size));
          begin += size;
        }
      }
    }
  });
  set_num_threads(available_cpus());
}
#endif

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
          REQUIRE(run_in_chunks(whole, chunk) == wanted);
        }
      }
    }
  });
}

// A row alone whose next steps are projected beside the step at hand, where the
// instruction set does so, against the same in a batch, in chunks and from a tape.
TEST_CASE_TEMPLATE("steps projected ahead give the same bits", T, float, double) {
  constexpr Index kSteps = 70;
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      RecurrentConfig config = make_config(cell, 9, 70);
      config.num_layers = 2;
      const bool ahead = kernels<T>().projected_steps > 0;
      REQUIRE(make_plan<T>(config, 0, false, {kSteps, 1}).projects_ahead == ahead);
      const Problem<T> batch(config, kSteps, 2);
      const Problem<T> row = part_of_batch(batch, 1, 2);
      const Outcome<T> wanted = part_of_batch(batch.infer(), batch, 1, 2);
      REQUIRE(row.infer() == wanted);
      REQUIRE(run_in_chunks(row, 50) == wanted);
      BufferPool pool;
      Outcome<T> outcome;
      Tape<T> tape;
      row.forward(outcome, pool, &tape);
      REQUIRE(outcome == wanted);

      Problem<T> checkpointed = row;
      checkpointed.checkpoint_every = 50;  // and then 20, which are not
      REQUIRE(same_bits(checkpointed.gradients().flat(), row.gradients().flat()));
    }
  });
}

#if !defined(FASTLSTM_EMULATED)
// Two and three rows, whose inputs are projected for 64 and 42 steps at once, and
// eight, for 16, against nine, which are not.
TEST_CASE("steps projected for a few rows give the same bits on any threads") {
  constexpr Index kBatch = 9;
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      RecurrentConfig config = make_config(cell, 510, 130);
      config.bidirectional = true;
      const Problem<float> batch(config, 45, kBatch);
      set_num_threads(1);
      const Outcome<float> whole = batch.infer();
      for (const Index size : {2, 3, 8}) {
        CAPTURE(size);
        const Problem<float> part = part_of_batch(batch, 1, 1 + size);
        const Outcome<float> wanted = part_of_batch(whole, batch, 1, 1 + size);
        for (const int threads : {1, 2, 3}) {
          CAPTURE(threads);
          set_num_threads(threads);
          REQUIRE(part.infer() == wanted);
          BufferPool pool;
          Outcome<float> kept;
          Tape<float> tape;
          part.forward(kept, pool, &tape);
          REQUIRE(kept == wanted);
        }
      }
    }
  });
  set_num_threads(available_cpus());
}

TEST_CASE("chunks of large layers give the bits of the whole on any threads") {
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      for (const Index batch_size : {1, 2, 17}) {
        const Index units = batch_size > 2 ? 130 : 510;
        const Problem<float> whole(make_config(cell, 70, units), 13, batch_size);
        set_num_threads(1);
        const Outcome<float> wanted = whole.infer();
        for (const Index chunk : {1, 3, 8}) {
          CAPTURE(chunk);
          REQUIRE(run_in_chunks(whole, chunk) == wanted);
        }
      }
    }
  });
}

// What else the threads may share differently: every shape, trained on every
// instruction set with several numbers of threads, and twice with the same.
TEST_CASE("training gives the same bits on any threads and in every run") {
  struct Work {
    Shape shape;
    Index layers;
    bool bidirectional;
  };
  constexpr Work kWork[] = {
      {{6, 1, 100, 300}, 1, false},  // a row alone whose weights are packed
      {{6, 1, 100, 500}, 1, false},  // or read as they lie
      {{5, 1, 3, 380}, 1, false},    // the same, narrow x
      {{66, 1, 8, 250}, 1, false},   // more steps than are projected at once or ahead
      {{40, 1, 3, 133}, 1, false},   // a row alone that goes back in two pieces
      {{40, 1, 3, 133}, 2, true},    // the same with dropout
      {{5, 64, 2, 120}, 1, false},   // narrow x, shared by rows
      {{3, 4, 2, 510}, 1, false},    // narrow x, shared by panels
      {{2, 600, 3, 40}, 1, false},   // a step of more rows than one product takes
      {{12, 80, 3, 120}, 1, false},  // rows that go back in blocks
      {{70, 16, 5, 24}, 1, false},   // many chunks, half a panel
      {{6, 48, 20, 72}, 2, true},    // layers and directions, with dropout
      {{3, 33, 40, 510}, 1, false},  // more rows than two tiles, shared by panels
      {{24, 64, 20, 72}, 1, false},  // two groups of rows
      {{2, 300, 20, 72}, 1, false},  // a chunk of more than 256 rows
  };
  for_each_isa([&] {
    for (const CellKind cell : kCells) {
      for (const Work& work : kWork) {
        const Shape& shape = work.shape;
        CAPTURE(shape.hidden_size);
        RecurrentConfig config = make_config(cell, shape.input_size, shape.hidden_size);
        config.num_layers = work.layers;
        config.bidirectional = work.bidirectional;
        config.dropout = work.layers > 1 ? 0.3 : 0.0;
        config.recurrent_dropout = config.dropout;
        const Problem<float> problem(config, shape.seq_len, shape.batch_size);
        set_num_threads(1);
        const std::vector<float> wanted = problem.gradients().flat();
        for (const int threads : {1, 2, 3, 4, 8}) {
          CAPTURE(threads);
          set_num_threads(threads);
          REQUIRE(same_bits(problem.gradients().flat(), wanted));
        }
      }
    }
  });
  set_num_threads(available_cpus());
}
#endif

// A batch whose tape L2 does not hold goes back in blocks of rows.
TEST_CASE_TEMPLATE("rows go back alike in a large batch and in a small one", T, float,
                   double) {
  constexpr Index kBatch = 80;
  constexpr Index kUnits = 120;
  for_each_isa([] {
    for (const CellKind cell : kCells) {
      const Problem<T> batch(make_config(cell, 3, kUnits), 12, kBatch);
      const Gradients<T> whole = batch.gradients();
      for (const Index begin : {0, 30, 40}) {
        const Index end = begin + 40;  // enough for products of triples, as the batch
        const auto part_of = [&](const std::vector<T>& all, Index inner) {
          return rows_of(all, kBatch, inner, begin, end);
        };
        Problem<T> part = part_of_batch(batch, begin, end);
        part.output_weight = part_of(batch.output_weight, kUnits);
        part.h_weight = part_of(batch.h_weight, kUnits);
        part.c_weight = part_of(batch.c_weight, kUnits);
        const Gradients<T> own = part.gradients();
        REQUIRE(same_bits(own.x, part_of(whole.x, 3)));
        REQUIRE(same_bits(own.h0, part_of(whole.h0, kUnits)));
        REQUIRE(same_bits(own.c0, part_of(whole.c0, kUnits)));
      }
    }
  });
}

TEST_CASE_TEMPLATE("keeping a tape of few rows does not change the output", T, float,
                   double) {
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
