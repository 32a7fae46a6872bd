// The contract of the recurrent functions: empty sizes, arrays that may be null, any
// strides, misuse of a tape, kept weights, configurations that are refused.
#include <atomic>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fastlstm/threads.hpp"
#include "recurrent_problem.hpp"

namespace fastlstm::testing {
namespace {

bool all_zero(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return v == 0; });
}

// A forward pass that kept a tape, ready for backward.
struct Taped {
  Problem<double> problem;
  BufferPool pool;
  Outcome<double> outcome;
  Tape<double> tape;
  explicit Taped(const RecurrentConfig& config) : problem(config, 3, 2) {
    problem.forward(outcome, pool, &tape);
  }
  std::string backward_error() {
    return error_of([&] { problem.backward(pool, tape); });
  }
};

}  // namespace

TEST_CASE("no steps: the state passes through") {
  for (const CellKind cell : kCells) {
    RecurrentConfig config = make_config(cell, 3, 5);
    config.num_layers = 2;
    const Problem<double> problem(config, 0, 4);
    const Outcome<double> outcome = problem.infer();
    CHECK(outcome.h_n == problem.h0);
    CHECK(outcome.c_n == problem.c0);
    const Gradients<double> d = problem.gradients();
    CHECK(d.h0 == problem.h_weight);
    CHECK(d.c0 == problem.c_weight);
    for (const auto& layer : d.layers) {
      for (const auto& part : layer) CHECK(all_zero(part));
    }
  }
}

TEST_CASE("no rows: nothing to do") {
  for (const CellKind cell : kCells) {
    const Problem<double> problem(make_config(cell, 3, 5), 6, 0);
    CHECK(problem.infer().output.empty());
    const Gradients<double> d = problem.gradients();
    for (const auto& part : d.layers[0]) CHECK(all_zero(part));
  }
}

TEST_CASE("an array that is null counts as zeros") {
  for (const CellKind cell : kCells) {
    Problem<double> problem(make_config(cell, 3, 5), 4, 2);
    for (auto* part :
         {&problem.h0, &problem.c0, &problem.params[0][2], &problem.params[0][3],
          &problem.h_weight, &problem.c_weight, &problem.output_weight}) {
      std::fill(part->begin(), part->end(), 0.0);
    }
    const Outcome<double> wanted = problem.infer();

    auto params = problem.parameter_arrays();
    params[0].bias = params[0].bias_hn = nullptr;
    Outcome<double> got = wanted;
    ForwardArgs<double> args{};
    args.seq_len = 4;
    args.batch_size = 2;
    args.x = {problem.x.data(), 2 * 3, 3};
    args.params = params.data();
    args.output = {got.output.data(), 2 * 5, 5};
    args.h_n = got.h_n.data();
    args.c_n = got.c_n.empty() ? nullptr : got.c_n.data();
    BufferPool pool;
    Tape<double> tape;
    recurrent_forward(problem.config, args, pool, &tape);
    CHECK(got == wanted);

    LayerValues<double> d = problem.params[0];
    for (auto& part : d) std::fill(part.begin(), part.end(), 0.0);
    const LayerArrays<double> grads = {d[0].data(), d[1].data(), nullptr, nullptr};
    BackwardArgs<double> back{};
    back.params = params.data();
    back.grads = &grads;
    recurrent_backward(back, pool, tape);
    CHECK(all_zero(d[0]));
    CHECK(all_zero(d[1]));
  }
}

TEST_CASE("batch-first strides") {
  constexpr Index kSteps = 5, kBatch = 3, kInputs = 2, kUnits = 4;
  for (const CellKind cell : kCells) {
    const Problem<double> problem(make_config(cell, kInputs, kUnits), kSteps, kBatch);
    const auto swapped = [](const std::vector<double>& values, Index units) {
      std::vector<double> out;
      for (Index n = 0; n < kBatch; ++n) {
        for (Index t = 0; t < kSteps; ++t) {
          const auto first = values.begin() + (t * kBatch + n) * units;
          out.insert(out.end(), first, first + units);
        }
      }
      return out;
    };
    const Outcome<double> wanted = problem.infer();
    const std::vector<double> x = swapped(problem.x, kInputs);
    const auto params = problem.parameter_arrays();
    Outcome<double> got = wanted;
    ForwardArgs<double> args{};
    args.seq_len = kSteps;
    args.batch_size = kBatch;
    args.x = {x.data(), kInputs, kSteps * kInputs};
    args.h0 = problem.h0.data();
    args.c0 = problem.c0.empty() ? nullptr : problem.c0.data();
    args.params = params.data();
    args.output = {got.output.data(), kUnits, kSteps * kUnits};
    args.h_n = got.h_n.data();
    args.c_n = got.c_n.empty() ? nullptr : got.c_n.data();
    BufferPool pool;
    recurrent_forward(problem.config, args, pool, static_cast<Tape<double>*>(nullptr));
    CHECK(same_bits(got.output, swapped(wanted.output, kUnits)));
    CHECK(same_bits(got.h_n, wanted.h_n));
  }
}

TEST_CASE("dropout depends on its seed and needs a tape") {
  RecurrentConfig config = make_config(CellKind::lstm, 3, 8);
  config.num_layers = 2;
  const Problem<double> plain(config, 4, 5);
  config.dropout = 0.5;
  Problem<double> problem(config, 4, 5);
  CHECK(problem.infer() == plain.infer());
  const double loss = problem.loss();
  CHECK(problem.loss() == loss);
  problem.dropout_seed += 1;
  CHECK(problem.loss() != loss);
}

TEST_CASE("a tape serves one backward pass") {
  Taped taped(make_config(CellKind::lstm, 3, 5));
  CHECK(taped.backward_error() == "");
  CHECK(taped.backward_error() ==
        "tape was used by backward before; run forward again");
}

TEST_CASE("a tape notices that a parameter changed") {
  for (const std::size_t part : {0, 1, 2, 3}) {
    Taped taped(make_config(CellKind::gru, 3, 5));
    taped.problem.params[0][part].back() += 1e-12;
    CHECK(taped.backward_error() ==
          "params changed between forward and backward of this tape");
  }
}

TEST_CASE("a row alone goes back on the large weights that forward has read") {
  for (const CellKind cell : kCells) {
    Problem<double> problem(make_config(cell, 3, 130), 6, 1);  // W_hh: 528 KB
    const std::vector<double> wanted = problem.gradients().flat();
    const auto gradients_after_change = [&](std::size_t part) {
      BufferPool pool;
      Outcome<double> outcome;
      Tape<double> tape;
      Problem<double> changed = problem;
      changed.forward(outcome, pool, &tape);
      changed.params[0][part].back() += 1;
      std::vector<double> gradients;
      const std::string error =
          error_of([&] { gradients = changed.backward(pool, tape).flat(); });
      return std::pair(error, gradients);
    };
    const auto [error, gradients] = gradients_after_change(1);  // weight_hh
    CHECK(error == "");
    CHECK(same_bits(gradients, wanted));
    CHECK(gradients_after_change(0).first ==
          "params changed between forward and backward of this tape");
  }
}

TEST_CASE("a tape that is not to check parameters gives the same gradients") {
  Problem<double> problem(make_config(CellKind::gru, 3, 5), 3, 2);
  const std::vector<double> wanted = problem.gradients().flat();
  problem.check_params = false;
  CHECK(same_bits(problem.gradients().flat(), wanted));
  BufferPool pool;
  Outcome<double> outcome;
  Tape<double> tape;
  problem.forward(outcome, pool, &tape);
  problem.params[0][0].back() += 1;
  CHECK(error_of([&] { problem.backward(pool, tape); }) == "");
}

TEST_CASE("a tape notices that the instruction set changed") {
  if (available_isas().size() == 1) return;
  Taped taped(make_config(CellKind::lstm, 3, 5));
  set_isa("scalar");
  const std::string error = taped.backward_error();
  set_isa("auto");
  CHECK(error == "the instruction set changed between forward and backward");
  CHECK(taped.backward_error() == "");
}

TEST_CASE("kept weights give the same bits until a parameter changes") {
  RecurrentConfig variant = make_config(CellKind::lstm, 3, 9);
  variant.options.proj_size = 4;
  variant.options.layer_norm = true;
  std::vector<RecurrentConfig> configs = {variant};
  for (const CellKind cell : kCells) {
    configs.push_back(make_config(cell, 3, 9));
    configs.back().num_layers = 2;
    configs.back().bidirectional = true;
  }
  for (const RecurrentConfig& config : configs) {
    Problem<float> problem(config, 4, 2);
    Problem<float> keeping = problem;
    WeightCache<float> cache;
    keeping.cache = &cache;
    CHECK(keeping.infer() == problem.infer());
    const auto kept = cache.latest();
    REQUIRE((kept != nullptr));
    CHECK(keeping.infer() == problem.infer());
    CHECK((cache.latest() == kept));
    for (std::size_t part = 0; part < problem.params.back().size(); ++part) {
      if (problem.params.back()[part].empty()) continue;
      problem.params.back()[part].back() += 0.25f;
      keeping.params = problem.params;
      CHECK(keeping.infer() == problem.infer());
    }
    for (const std::string& isa : available_isas()) {
      set_isa(isa);
      CHECK(keeping.infer() == problem.infer());
    }
    set_isa("auto");
    cache.clear();
    CHECK((cache.latest() == nullptr));
  }
}

TEST_CASE("kept weights serve calls that read them in different layouts") {
  RecurrentConfig config = make_config(CellKind::lstm, 9, 70);
  config.num_layers = 2;
  WeightCache<float> cache;
  // The one in the middle projects ahead where the instruction set does.
  const Problem<float> problems[] = {{config, 3, 4}, {config, 60, 1}, {config, 2, 1}};
  std::shared_ptr<const PackedStack<float>> kept;
  for (int round = 0; round < 3; ++round) {
    for (const Problem<float>& problem : problems) {
      Problem<float> own = problem;
      own.params = problems[0].params;
      const Outcome<float> wanted = own.infer();
      own.cache = &cache;
      CHECK(own.infer() == wanted);
      if (round > 0) CHECK((cache.latest() == kept));
      kept = cache.latest();
    }
  }
}

TEST_CASE("a change of large parameters is noticed by any number of threads") {
  Problem<float> problem(make_config(CellKind::lstm, 3, 300), 1, 1);
  Problem<float> keeping = problem;
  WeightCache<float> cache;
  keeping.cache = &cache;
  CHECK(keeping.infer() == problem.infer());
  const auto kept = cache.latest();
  std::vector<float>& weights = problem.params[0][1];
  const std::size_t steps = 13;
  for (std::size_t i = 0; i <= steps; ++i) {
    for (const int threads : {1, 2, 3, 8}) {
      set_num_threads(threads);
      keeping.infer();
      CHECK((cache.latest() == kept));
    }
    float& weight = weights[i * (weights.size() - 1) / steps];
    const float before = weight;
    weight += 0.25f;
    keeping.params = problem.params;
    CHECK(keeping.infer() == problem.infer());
    weight = before;
    keeping.params = problem.params;
    keeping.infer();
    cache.replace(kept);
  }
  set_num_threads(available_cpus());
}

TEST_CASE("a cache of constant parameters never looks at them again") {
  Problem<float> problem(make_config(CellKind::lstm, 3, 9), 4, 2);
  WeightCache<float> cache(true);
  problem.cache = &cache;
  const Outcome<float> before = problem.infer();
  problem.params[0][1][0] += 1;
  CHECK(problem.infer() == before);
  cache.clear();
  CHECK_FALSE(problem.infer() == before);
}

TEST_CASE("threads that share kept weights") {
  const Problem<float> problem(make_config(CellKind::lstm, 3, 9), 4, 2);
  Problem<float> other = problem;
  other.params[0][0][0] += 1;
  const Outcome<float> wanted[2] = {problem.infer(), other.infer()};
  WeightCache<float> cache;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      Problem<float> own = i % 2 == 0 ? problem : other;
      own.cache = &cache;
      for (int round = 0; round < 50; ++round) {
        if (!(own.infer() == wanted[i % 2])) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("configurations that are refused") {
  const auto error_with = [](const auto& change) {
    RecurrentConfig config;
    change(config);
    return error_of([&] { check_config(config); });
  };
  CHECK(error_with([](RecurrentConfig&) {}) == "");
  CHECK(error_with([](RecurrentConfig& c) { c.input_size = 0; }) ==
        "input_size must be an integer from 1 to 16777216, got 0");
  CHECK(error_with([](RecurrentConfig& c) { c.hidden_size = -3; }) ==
        "hidden_size must be an integer from 1 to 16777216, got -3");
  CHECK(error_with([](RecurrentConfig& c) { c.num_layers = 0; }) ==
        "num_layers must be an integer from 1 to 16777216, got 0");
  CHECK(error_with([](RecurrentConfig& c) { c.dropout = 1.5; }) ==
        "dropout must be a probability from 0 to 1, got 1.500000");
  CHECK(error_with([](RecurrentConfig& c) { c.dropout = std::nan(""); }) != "");
}

TEST_CASE("sizes beyond any memory are an error, not a crash") {
  RecurrentConfig config = make_config(CellKind::lstm, 1 << 24, 1 << 24);
  ForwardArgs<float> args{};
  args.seq_len = Index{1} << 40;
  args.batch_size = Index{1} << 20;
  BufferPool pool;
  CHECK(error_of([&] {
          recurrent_forward(config, args, pool, static_cast<Tape<float>*>(nullptr));
        }) == "array too large for this machine");
}

}  // namespace fastlstm::testing
