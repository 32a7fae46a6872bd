// Times one step of Stream from C++ and prints a line of JSON for each model: the best
// of many short runs, in nanoseconds. benchmarks/step.py runs it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "fastlstm/fastlstm.hpp"

namespace {

using fastlstm::Index;
using Clock = std::chrono::steady_clock;

struct Model {
  const char* name;
  Index input_size, hidden_size, num_layers;
};

// Small values without a generator: the time does not depend on them.
std::vector<float> weights(Index count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = 0.1f * static_cast<float>(static_cast<int>(i * 7919 % 200) - 100) / 100;
  }
  return values;
}

// Nanoseconds of a call, the best of runs of at least a millisecond.
template <class Call>
double best_time(const Call& call) {
  double best = 1e30;
  Index calls = 1;
  for (int run = 0; run < 60;) {
    const auto begin = Clock::now();
    for (Index i = 0; i < calls; ++i) call();
    const double ns =
        std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
    if (ns < 1e6) {
      calls *= 2;
      continue;
    }
    best = std::min(best, ns / static_cast<double>(calls));
    ++run;
  }
  return best;
}

void time_stream(const Model& model, const char* way, fastlstm::Precision precision,
                 int threads) {
  fastlstm::RecurrentConfig config;
  config.input_size = model.input_size;
  config.hidden_size = model.hidden_size;
  config.num_layers = model.num_layers;
  std::vector<std::vector<float>> arrays;
  std::vector<fastlstm::LayerArrays<const float>> params;
  for (Index layer = 0; layer < model.num_layers; ++layer) {
    const Index inputs = layer == 0 ? model.input_size : model.hidden_size;
    arrays.push_back(weights(config.gate_rows() * inputs));
    arrays.push_back(weights(config.gate_rows() * model.hidden_size));
    arrays.push_back(weights(config.gate_rows()));
    const std::size_t first = arrays.size() - 3;
    params.push_back({arrays[first].data(), arrays[first + 1].data(),
                      arrays[first + 2].data(), nullptr});
  }
  fastlstm::StreamOptions<float> options;
  options.precision = precision;
  options.threads = threads;
  fastlstm::Stream<float> stream(config, params.data(), options);
  const std::vector<float> x = weights(model.input_size);
  std::vector<float> y(static_cast<std::size_t>(model.hidden_size));
  std::printf("{\"model\": \"%s\", \"way\": \"Stream %s\", \"ns\": %.1f}\n", model.name,
              way, best_time([&] { stream.step(x.data(), y.data()); }));
}

template <int H>
void time_static(const char* name) {
  static fastlstm::StaticLstm<1, H> lstm;
  lstm.set_weights(weights(4 * H).data(), weights(4 * H * H).data(),
                   weights(4 * H).data());
  const float x = 0.1f;
  std::printf("{\"model\": \"%s\", \"way\": \"StaticLstm\", \"ns\": %.1f}\n", name,
              best_time([&] { lstm.step(&x); }));
}

}  // namespace

int main() {
  const Model models[] = {{"1/16", 1, 16, 1},
                          {"1/40", 1, 40, 1},
                          {"128/128", 128, 128, 1},
                          {"2x640", 640, 640, 2}};
  for (const Model& model : models) {
    time_stream(model, "float32", fastlstm::Precision::full, 1);
    time_stream(model, "bfloat16", fastlstm::Precision::bfloat16, 1);
    time_stream(model, "float32, 2 threads", fastlstm::Precision::full, 2);
    time_stream(model, "bfloat16, 2 threads", fastlstm::Precision::bfloat16, 2);
  }
  time_static<16>("1/16");
  time_static<40>("1/40");
}
