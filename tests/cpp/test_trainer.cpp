// Trainer: its update against differences of the window's loss, its answers against a
// Stream's, and that it follows a signal that changes.
#include "fastlstm/trainer.hpp"

#include "variant_configs.hpp"

using namespace fastlstm;
using namespace fastlstm::testing;

namespace {

constexpr Index kInputs = 2, kUnits = 3, kOutputs = 2, kWindow = 4;

// A problem's layers with a head.
template <class T>
struct Learner {
  Problem<T> problem;
  std::vector<T> head_weight, head_bias;

  explicit Learner(CellKind cell, Index layers = 2)
      : Learner(config_of(cell, layers)) {}
  explicit Learner(const RecurrentConfig& config)
      : problem(config, 1, 1),
        head_weight(Random<T>(7).array(kOutputs * config.output_size())),
        head_bias(Random<T>(8).array(kOutputs)) {}

  static RecurrentConfig config_of(CellKind cell, Index layers) {
    RecurrentConfig config = make_config(cell, kInputs, kUnits);
    config.num_layers = layers;
    return config;
  }
  Head<T> head() const { return {head_weight.data(), head_bias.data(), kOutputs}; }
  Trainer<T> trainer(const TrainerOptions& options) const {
    return Trainer<T>(problem.config, problem.parameter_arrays().data(), head(),
                      options);
  }
};

TrainerOptions plain_sgd(double lr) {
  TrainerOptions options;
  options.tbptt = kWindow;
  options.rule = Sgd{};
  options.lr = lr;
  return options;
}

// Two layers each. No zoneout: a trainer draws no random numbers.
std::vector<RecurrentConfig> learning_configs() {
  std::vector<RecurrentConfig> configs;
  for (const CellKind cell : kCells)
    configs.push_back(make_config(cell, kInputs, kUnits));
  for (RecurrentConfig config : variants(kInputs, kUnits)) {
    config.options.zoneout_h = config.options.zoneout_c = 0;
    configs.push_back(config);
  }
  for (RecurrentConfig& config : configs) config.num_layers = 2;
  return configs;
}

// Mean squared error of the first steps of x, from a zero state.
double window_loss(const Learner<double>& learner, const std::vector<double>& x,
                   const std::vector<double>& y) {
  StreamOptions<double> options;
  options.head = learner.head();
  Stream<double> stream(learner.problem.config,
                        learner.problem.parameter_arrays().data(), options);
  double sum = 0;
  std::vector<double> answer(kOutputs);
  for (std::size_t t = 0; t < kWindow; ++t) {
    stream.step(x.data() + t * kInputs, answer.data());
    for (std::size_t o = 0; o < kOutputs; ++o) {
      sum += std::pow(answer[o] - y[t * kOutputs + o], 2);
    }
  }
  return sum / (kWindow * kOutputs);
}

// -lr d(loss)/d(value), by central differences.
double expected_change(Learner<double>& learner, double& value,
                       const std::vector<double>& x, const std::vector<double>& y,
                       double lr) {
  constexpr double kStep = 1e-5;
  const double kept = value;
  value = kept + kStep;
  const double above = window_loss(learner, x, y);
  value = kept - kStep;
  const double below = window_loss(learner, x, y);
  value = kept;
  return -lr * (above - below) / (2 * kStep);
}

}  // namespace

TEST_CASE("trainer: an update follows the gradient of the window's mean loss") {
  constexpr double kRate = 0.1;
  for (const RecurrentConfig& config : learning_configs()) {
    Learner<double> learner(config);
    const std::vector<double> x = Random<double>(3).array(kWindow * kInputs);
    const std::vector<double> y = Random<double>(4).array(kWindow * kOutputs);
    Trainer<double> trainer = learner.trainer(plain_sgd(kRate));
    for (std::size_t t = 0; t < kWindow; ++t) {
      trainer.learn(x.data() + t * kInputs, y.data() + t * kOutputs);
    }
    double worst = 0;
    const auto compare = [&](std::vector<double>& before, const double* after) {
      for (std::size_t i = 0; i < before.size(); ++i) {
        const double change = expected_change(learner, before[i], x, y, kRate);
        worst = std::max(worst, std::abs(after[i] - before[i] - change));
      }
    };
    for (std::size_t layer = 0; layer < 2; ++layer) {
      const LayerArrays<const double>& now = trainer.params()[layer];
      LayerValues<double>& params = learner.problem.params[layer];
      const double* const arrays[] = {
          now.weight_ih,       now.weight_hh, now.bias,    now.bias_hn, now.weight_hr,
          now.weight_peephole, now.gain_ih,   now.gain_hh, now.gain_c,  now.bias_c};
      for (std::size_t i = 0; i < params.size(); ++i) compare(params[i], arrays[i]);
    }
    compare(learner.head_weight, trainer.head().weight);
    compare(learner.head_bias, trainer.head().bias);
    CHECK(worst < 1e-9);
  }
}

TEST_CASE(
    "trainer: without learning it answers as a stream, on every instruction set") {
  for_each_isa([] {
    for (const CellKind cell : kCells) {
      const Learner<float> learner(cell);
      Trainer<float> trainer = learner.trainer(plain_sgd(0));
      StreamOptions<float> options;
      options.head = learner.head();
      Stream<float> stream(learner.problem.config,
                           learner.problem.parameter_arrays().data(), options);
      Random<float> random(5);
      for (int t = 0; t < 3 * kWindow; ++t) {
        const std::vector<float> x = random.array(kInputs);
        const std::vector<float> target = random.array(kOutputs);
        std::vector<float> streamed(kOutputs), predicted(kOutputs);
        stream.step(x.data(), streamed.data());
        trainer.predict(x.data(), predicted.data());
        CHECK(max_difference(streamed, predicted) < 1e-6);
        double error = 0;
        for (std::size_t o = 0; o < kOutputs; ++o) {
          error += std::pow(static_cast<double>(predicted[o] - target[o]), 2);
        }
        const double loss = trainer.learn(x.data(), target.data());
        CHECK(std::abs(loss - error / kOutputs) < 1e-5);
      }
      trainer.reset();
      stream.reset();
      const std::vector<float> x = random.array(kInputs);
      std::vector<float> streamed(kOutputs), predicted(kOutputs);
      stream.step(x.data(), streamed.data());
      trainer.predict(x.data(), predicted.data());
      CHECK(max_difference(streamed, predicted) < 1e-6);
    }
  });
}

TEST_CASE("trainer: learns to say what came before, and that it changed") {
  for (const UpdateRule& rule : {UpdateRule{Adam{}}, UpdateRule{Sgd{0.9, 0, false}}}) {
    const Learner<float> learner(CellKind::lstm, 1);
    TrainerOptions options = plain_sgd(0.02);
    options.rule = rule;
    options.clip_norm = 1;
    Trainer<float> trainer = learner.trainer(options);
    Random<float> random(6);
    std::vector<float> x(kInputs), before(kInputs);
    // The mean loss of the last steps of `count`; sign: what is to be said.
    const auto mean_loss = [&](int count, float sign) {
      double sum = 0;
      for (int t = 0; t < count; ++t) {
        x = random.array(kInputs);
        const float target[kOutputs] = {sign * before[0], sign * before[1]};
        const double loss = trainer.learn(x.data(), target);
        if (t >= count - 100) sum += loss / 100;
        before = x;
      }
      return sum;
    };
    CHECK(mean_loss(4000, 1.0f) < 0.15);  // at first 0.33
    CHECK(mean_loss(100, -1.0f) > 0.2);
    CHECK(mean_loss(4000, -1.0f) < 0.15);
  }
}

TEST_CASE("trainer: learns labels") {
  const Learner<float> learner(CellKind::gru, 1);
  TrainerOptions options = plain_sgd(0.02);
  options.rule = Adam{};
  options.task = Task::classification;
  Trainer<float> trainer = learner.trainer(options);
  Random<float> random(9);
  double late = 0;
  for (int t = 0; t < 2000; ++t) {
    const std::vector<float> x = random.array(kInputs);
    const double loss = trainer.learn(x.data(), std::int64_t{x[0] > x[1]});
    if (t >= 1800) late += loss / 200;
  }
  CHECK(late < 0.3);  // chance is 0.69
  const float x[kInputs] = {1, -1};
  float y[kOutputs];
  trainer.predict(x, y);
  CHECK(y[1] > y[0]);
  float again[kOutputs];
  for (const std::int64_t label : {-1, 2}) CHECK(std::isnan(trainer.learn(x, label)));
  CHECK(std::isnan(trainer.learn(x, x)));
  trainer.predict(x, again);
  CHECK(std::equal(y, y + kOutputs, again));  // neither weights nor state have changed
}

TEST_CASE("trainer: what is not finite changes no weight") {
  const Learner<float> learner(CellKind::lstm);
  Trainer<float> trainer = learner.trainer(plain_sgd(0.1));
  const std::vector<float> x(kInputs, 0.5f), target(kOutputs, 0.5f);
  for (int t = 0; t < 5; ++t) trainer.learn(x.data(), target.data());
  const auto weights = [&] {
    const float* w = trainer.params()[0].weight_hh;
    return std::vector<float>(w, w + 4 * kUnits * kUnits);
  };
  const std::vector<float> before = weights();
  const std::vector<float> bad(kOutputs, std::numeric_limits<float>::quiet_NaN());
  CHECK(std::isnan(trainer.learn(x.data(), bad.data())));
  CHECK(same_bits(weights(), before));
  for (int t = 0; t < kWindow; ++t) trainer.learn(x.data(), target.data());
  CHECK(!same_bits(weights(), before));
}

TEST_CASE("trainer: refusals") {
  const Learner<float> learner(CellKind::lstm);
  const auto refusal = [&](const TrainerOptions& options) {
    return error_of([&] { learner.trainer(options); });
  };
  TrainerOptions options;
  options.tbptt = 0;
  CHECK(refusal(options) == "tbptt must be an integer from 1 to 65536, got 0");
  RecurrentConfig zoned = learner.problem.config;
  zoned.options.zoneout_c = 0.1;
  CHECK(error_of([&] { Learner<float>(zoned).trainer({}); }) ==
        "a trainer draws no random numbers, got a cell with zoneout");
  options = {};
  options.lr = -1;
  CHECK(refusal(options) == "lr must be a finite number >= 0, got -1.000000");
  options = {};
  options.clip_norm = 0;
  CHECK(refusal(options) == "clip_norm must be above 0, got 0.000000");
  options = {};
  options.max_threads = -1;
  CHECK(refusal(options) == "max_threads must be at least 1, or 0 for any, got -1");
  const float x[kInputs] = {};
  Trainer<float> trainer = learner.trainer({});
  CHECK(std::isnan(trainer.learn(x, std::int64_t{0})));
}
