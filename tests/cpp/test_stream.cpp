// Streams: bit-equal to the whole sequence, to the stream run alone and to any other
// grouping; masks, state, refresh, the head, bfloat16 weights, what is refused.
#include "fastlstm/bfloat16.hpp"
#include "variant_configs.hpp"

namespace fastlstm::testing {
namespace {

// Every cell and way of the core: fused, pointwise, several layers, sizes around whole
// vectors and panels.
std::vector<RecurrentConfig> stream_configs() {
  std::vector<RecurrentConfig> configs;
  for (const CellKind cell : kCells) {
    for (const Index units : {1, 7, 16, 20, 40, 65}) {
      configs.push_back(make_config(cell, units % 5 + 1, units));
    }
    configs.push_back(make_config(cell, 3, 24));
    configs.back().num_layers = 3;
  }
  configs.push_back(make_config(CellKind::lstm, 2, 33));
  configs.back().cell_activation = Activation::relu;
  configs.push_back(make_config(CellKind::rnn, 2, 33));
  configs.back().cell_activation = Activation::relu;
  for (const Index units : {1, 7, 16, 33}) {
    for (RecurrentConfig config : variants(units % 5 + 1, units)) {
      config.num_layers = units == 16 ? 3 : 1;
      configs.push_back(config);
    }
  }
  return configs;
}

// x (T, N, I) of the problem through a stream, one step after another.
template <class T>
Outcome<T> stepped(Stream<T>& stream, const Problem<T>& problem) {
  Outcome<T> got;
  const Index batch = problem.batch_size;
  const Index outputs = stream.output_size();
  got.output.resize(static_cast<std::size_t>(problem.seq_len * batch * outputs));
  got.h_n.resize(problem.h0.size());
  got.c_n.resize(problem.c0.size());
  for (Index t = 0; t < problem.seq_len; ++t) {
    stream.step(problem.x.data() + t * batch * problem.config.input_size,
                got.output.data() + t * batch * outputs);
  }
  stream.get_state(got.h_n.data(), got.c_n.empty() ? nullptr : got.c_n.data());
  return got;
}

template <class T>
Stream<T> make_stream(const Problem<T>& problem, StreamOptions<T> options = {}) {
  options.batch_size = problem.batch_size;
  Stream<T> stream(problem.config, problem.parameter_arrays().data(), options);
  stream.set_state(problem.h0.data(), problem.c0.empty() ? nullptr : problem.c0.data());
  return stream;
}

template <class T>
void check_equals_whole_sequence() {
  for_each_isa([] {
    for (const RecurrentConfig& config : stream_configs()) {
      for (const Index batch : {1, 2, 9}) {
        CAPTURE(config.hidden_size);
        CAPTURE(batch);
        const Problem<T> problem(config, 7, batch);
        Stream<T> stream = make_stream(problem);
        CHECK(stepped(stream, problem) == problem.infer());
      }
    }
  });
}

// One row of a problem, as a problem of its own.
template <class T>
Problem<T> row_of(const Problem<T>& all, Index row) {
  Problem<T> one = all;
  one.batch_size = 1;
  const auto take = [&](std::vector<T>& values, Index width) {
    std::vector<T> picked;
    for (std::size_t first = 0; first < values.size();
         first += static_cast<std::size_t>(all.batch_size * width)) {
      const auto begin = values.begin() + static_cast<Index>(first) + row * width;
      picked.insert(picked.end(), begin, begin + width);
    }
    values = picked;
  };
  take(one.x, all.config.input_size);
  take(one.h0, all.config.output_size());
  take(one.c0, all.config.hidden_size);
  return one;
}

template <class T>
std::vector<T> rows_of(const std::vector<T>& values, Index rows,
                       const std::vector<Index>& wanted) {
  const auto width = static_cast<Index>(values.size()) / rows;
  std::vector<T> picked;
  for (const Index row : wanted) {
    const auto begin = values.begin() + row * width;
    picked.insert(picked.end(), begin, begin + width);
  }
  return picked;
}

RecurrentConfig two_layers(CellKind cell) {
  RecurrentConfig config = make_config(cell, 3, 20);
  config.num_layers = 2;
  return config;
}

// The plain cells and the variants, two layers each.
std::vector<RecurrentConfig> all_of_two_layers() {
  std::vector<RecurrentConfig> configs;
  for (const CellKind cell : kCells) configs.push_back(two_layers(cell));
  for (RecurrentConfig config : variants(3, 20)) {
    config.num_layers = 2;
    configs.push_back(config);
  }
  return configs;
}

template <class T>
std::vector<LayerArrays<const T>> arrays_of(const Problem<T>& problem) {
  return problem.parameter_arrays();
}

}  // namespace

TEST_CASE("a stream gives the bits of the whole sequence") {
  check_equals_whole_sequence<float>();
  check_equals_whole_sequence<double>();
}

TEST_CASE("the block form gives the bits of the steps") {
  for_each_isa([] {
    for (const RecurrentConfig& config : all_of_two_layers()) {
      const Problem<float> problem(config, 11, 3);
      Stream<float> one = make_stream(problem);
      Stream<float> other = make_stream(problem);
      const Outcome<float> wanted = stepped(one, problem);
      std::vector<float> got(wanted.output.size());
      for (const auto& [begin, steps] :
           {std::pair<Index, Index>{0, 4}, {4, 0}, {4, 7}}) {
        other.process(problem.x.data() + begin * 3 * 3,
                      got.data() + begin * 3 * problem.units(), steps);
      }
      CHECK(same_bits(got, wanted.output));
    }
  });
}

TEST_CASE("threads that share a step change no bit") {
  for_each_isa([] {
    std::vector<RecurrentConfig> configs;
    for (const CellKind cell : kCells) configs.push_back(make_config(cell, 3, 130));
    configs.push_back(make_config(CellKind::lstm, 3, 136));  // ends in half a panel
    configs.push_back(make_config(CellKind::lstm, 3, 130));
    configs.back().cell_activation = Activation::relu;
    configs.push_back(make_config(CellKind::lstm, 3, 130));
    configs.back().options.peepholes = true;
    for (RecurrentConfig& config : configs) {
      config.num_layers = 2;
      for (const Index batch : {1, 3}) {
        const Problem<float> problem(config, 5, batch);
        for (const Precision precision : {Precision::full, Precision::bfloat16}) {
          StreamOptions<float> options;
          options.precision = precision;
          Stream<float> alone = make_stream(problem, options);
          const Outcome<float> wanted = stepped(alone, problem);
          for (const int threads : {2, 3, 8}) {
            CAPTURE(threads);
            set_num_threads(threads);
            options.threads = threads;
            Stream<float> shared = make_stream(problem, options);
            REQUIRE(stepped(shared, problem) == wanted);
          }
          set_num_threads(available_cpus());
        }
      }
    }
  });
}

TEST_CASE("a masked step holds state and answer; the others run as if alone") {
  constexpr Index kSteps = 12, kBatch = 5;
  for_each_isa([] {
    for (const RecurrentConfig& config : all_of_two_layers()) {
      const Problem<float> problem(config, kSteps, kBatch);
      const Index units = config.output_size();
      Stream<float> together = make_stream(problem);
      std::vector<Stream<float>> alone;
      for (Index n = 0; n < kBatch; ++n) {
        alone.push_back(make_stream(row_of(problem, n)));
      }
      Random<double> random(5);
      std::vector<float> y(kBatch * units, 9.0f), wanted = y;
      for (Index t = 0; t < kSteps; ++t) {
        bool active[kBatch], reset[kBatch];
        for (Index n = 0; n < kBatch; ++n) {
          active[n] = random.next() > 0;
          reset[n] = random.next() > 0.6;
        }
        const float* x = problem.x.data() + t * kBatch * 3;
        together.step(x, y.data(), t % 3 == 0 ? nullptr : active, reset);
        for (Index n = 0; n < kBatch; ++n) {
          Stream<float>& stream = alone[static_cast<std::size_t>(n)];
          if (reset[n]) stream.reset();
          if (active[n] || t % 3 == 0) {
            stream.step(x + n * 3, wanted.data() + n * units);
          }
        }
        REQUIRE(same_bits(y, wanted));
      }
      std::vector<float> h(problem.h0.size()), c(problem.c0.size());
      together.get_state(h.data(), c.empty() ? nullptr : c.data());
      for (Index n = 0; n < kBatch; ++n) {
        const Problem<float> one = row_of(problem, n);
        std::vector<float> h1(one.h0.size()), c1(one.c0.size());
        alone[static_cast<std::size_t>(n)].get_state(h1.data(),
                                                     c1.empty() ? nullptr : c1.data());
        CHECK(same_bits(rows_of(h, 2 * kBatch, {n, kBatch + n}), h1));
        if (!c.empty()) CHECK(same_bits(rows_of(c, 2 * kBatch, {n, kBatch + n}), c1));
      }
    }
  });
}

TEST_CASE("a NaN stays in its row") {
  Problem<float> problem(two_layers(CellKind::lstm), 1, 4);
  problem.x[3] = std::numeric_limits<float>::quiet_NaN();  // row 1
  Stream<float> stream = make_stream(problem);
  const Outcome<float> got = stepped(stream, problem);
  for (Index n = 0; n < 4; ++n) {
    for (const float y : rows_of(got.output, 4, {n})) CHECK(std::isnan(y) == (n == 1));
  }
}

TEST_CASE("x and y may be the same array") {
  const Problem<float> problem(make_config(CellKind::lstm, 40, 40), 1, 2);
  Stream<float> stream = make_stream(problem);
  std::vector<float> y = problem.x;
  stream.step(y.data(), y.data());
  CHECK(same_bits(y, problem.infer().output));
}

TEST_CASE("the head answers from the new state") {
  for_each_isa([] {
    const Index outputs = 3;
    for (const RecurrentConfig& config : all_of_two_layers()) {
      for (const bool bias : {false, true}) {
        const Problem<float> problem(config, 5, 2);
        Random<float> random(3);
        const std::vector<float> weight = random.array(outputs * problem.units());
        const std::vector<float> b = random.array(outputs);
        StreamOptions<float> options;
        options.head = {weight.data(), bias ? b.data() : nullptr, outputs};
        Stream<float> stream = make_stream(problem, options);
        CHECK(stream.output_size() == outputs);
        const Outcome<float> whole = problem.infer();
        std::vector<float> wanted(5 * 2 * outputs);
        linear_forward<float>({5 * 2, problem.units(), outputs}, whole.output.data(),
                              weight.data(), options.head.bias, wanted.data());
        CHECK(same_bits(stepped(stream, problem).output, wanted));
      }
    }
  });
}

TEST_CASE("a stream is a snapshot until it is refreshed") {
  for (const RecurrentConfig& config : all_of_two_layers()) {
    Problem<float> problem(config, 3, 2);
    const Outcome<float> before = problem.infer();
    Stream<float> stream = make_stream(problem);
    for (auto& part : problem.params[1]) {
      for (float& value : part) value *= 0.5f;
    }
    CHECK(stepped(stream, problem) == before);
    stream.refresh(arrays_of(problem).data());
    stream.set_state(problem.h0.data(),
                     problem.c0.empty() ? nullptr : problem.c0.data());
    CHECK(stepped(stream, problem) == problem.infer());
  }
}

TEST_CASE("state goes in and out; null is zeros") {
  for (const RecurrentConfig& config : all_of_two_layers()) {
    const Problem<double> problem(config, 1, 3);
    Stream<double> stream = make_stream(problem);
    std::vector<double> h(problem.h0.size()), c(problem.c0.size());
    double* c_out = c.empty() ? nullptr : c.data();
    stream.get_state(h.data(), c_out);
    CHECK(same_bits(h, problem.h0));
    CHECK(same_bits(c, problem.c0));
    stream.set_state(nullptr, nullptr);
    stream.get_state(h.data(), c_out);
    CHECK(max_difference(h, std::vector<double>(h.size())) == 0);
    CHECK(max_difference(c, std::vector<double>(c.size())) == 0);
  }
}

TEST_CASE("bfloat16 rounds to nearest, ties to even") {
  const auto rounded = [](float value) {
    round_to_bfloat16(1, &value);
    return value;
  };
  CHECK(rounded(1.0f) == 1.0f);
  CHECK(rounded(1.0f + 0x1p-8f) == 1.0f);                // tie, down to even
  CHECK(rounded(1.0f + 3 * 0x1p-8f) == 1.0f + 0x1p-6f);  // tie, up to even
  CHECK(rounded(1.0f + 0x1.02p-8f) == 1.0f + 0x1p-7f);
  CHECK(rounded(-0.1f) == -0.10009765625f);
  CHECK(rounded(0x1.ffp127f) == std::numeric_limits<float>::infinity());
  CHECK(std::signbit(rounded(-0.0f)));
  CHECK(rounded(0x1p-133f) == 0x1p-133f);  // smallest denormal of bfloat16
  CHECK(std::isnan(rounded(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("bfloat16 weights give the bits of float weights rounded before") {
  for_each_isa([] {
    for (const RecurrentConfig& config : stream_configs()) {
      for (const Index batch : {1, 9}) {
        CAPTURE(config.hidden_size);
        const Problem<float> problem(config, 6, batch);
        StreamOptions<float> options;
        options.precision = Precision::bfloat16;
        Stream<float> stream = make_stream(problem, options);
        Problem<float> rounded = problem;
        for (LayerValues<float>& layer : rounded.params) {
          for (const std::size_t part : {0, 1, 4}) {  // W_ih, W_hh, W_hr
            round_to_bfloat16(static_cast<Index>(layer[part].size()),
                              layer[part].data());
          }
        }
        CHECK(stepped(stream, problem) == rounded.infer());
      }
    }
  });
}

TEST_CASE("instruction sets with FMA agree to the bit") {
  const Problem<float> problem(two_layers(CellKind::lstm), 9, 2);
  std::vector<std::vector<float>> results;
  for_each_isa([&] {
    if (isa() == "scalar") return;
    StreamOptions<float> options;
    options.precision = Precision::bfloat16;
    Stream<float> stream = make_stream(problem, options);
    results.push_back(stepped(stream, problem).output);
  });
  for (const auto& result : results) CHECK(same_bits(result, results[0]));
}

TEST_CASE("an object keeps the instruction set that it was made with") {
  const Problem<float> problem(two_layers(CellKind::lstm), 2, 2);
  Stream<float> stream = make_stream(problem);
  const Outcome<float> wanted = problem.infer();
  set_isa("scalar");
  Stream<float> moved = std::move(stream);
  const Outcome<float> got = stepped(moved, problem);
  set_isa("auto");
  CHECK(got == wanted);
}

TEST_CASE("streams that are refused") {
  const Problem<float> problem(two_layers(CellKind::lstm), 1, 1);
  const auto error_with = [&](const auto& change) {
    RecurrentConfig config = problem.config;
    StreamOptions<float> options;
    auto params = arrays_of(problem);
    change(config, options, params);
    return error_of([&] { Stream<float>(config, params.data(), options); });
  };
  using Config = RecurrentConfig;
  using Options = StreamOptions<float>;
  using Params = std::vector<LayerArrays<const float>>;
  CHECK(error_with([](Config&, Options&, Params&) {}) == "");
  CHECK(error_with([](Config& c, Options&, Params&) { c.bidirectional = true; }) ==
        "a stream runs in one direction, got bidirectional = true");
  CHECK(error_with([](Config& c, Options&, Params&) { c.hidden_size = 0; }) ==
        "hidden_size must be an integer from 1 to 16777216, got 0");
  CHECK(error_with([](Config&, Options& o, Params&) { o.batch_size = 0; }) ==
        "batch_size must be an integer from 1 to 16777216, got 0");
  CHECK(error_with([](Config&, Options&, Params& p) { p[1].weight_hh = nullptr; }) ==
        "params of layer 1 must have weight_ih and weight_hh, got null");
  CHECK(error_with([](Config&, Options& o, Params&) { o.threads = 0; }) ==
        "threads must be at least 1, got 0");
  const float weight[20] = {};
  CHECK(error_with([&](Config&, Options& o, Params&) { o.head.weight = weight; }) ==
        "head.out_features must be at least 1, got 0");
  RecurrentConfig variant = problem.config;
  variant.options.peepholes = true;
  CHECK(error_of([&] { Stream<float>(variant, arrays_of(problem).data()); }) ==
        "params of layer 0 must have the arrays of the cell's options");
  const Problem<double> twice(two_layers(CellKind::lstm), 1, 1);
  StreamOptions<double> options;
  options.precision = Precision::bfloat16;
  CHECK(error_of([&] { make_stream(twice, options); }) ==
        "precision bfloat16 needs weights of float32");
  Stream<float> stream = make_stream(problem);
  CHECK(error_of([&] {
          stream.refresh(arrays_of(problem).data(), {weight, nullptr, 1});
        }) == "refresh must be given a head where the stream has one");
}

}  // namespace fastlstm::testing
