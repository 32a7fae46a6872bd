// Several runs dealt out to threads: each to the bits it has alone, also where runs are
// of different length; a run that fails stops by itself.
#include <memory>

#include "support.hpp"

namespace fastlstm::testing {
namespace {

constexpr Index kInput = 2, kHidden = 5, kOutputs = 3, kSteps = 4;

// A model, its data and everything a run points to.
struct Problem {
  std::vector<std::vector<float>> params, grads, means, squares;
  std::vector<float> x;
  std::vector<std::int64_t> labels;
  std::vector<Index> order;
  std::vector<double> lr;
  BufferPool pool;
  TrainingRun<float> run;

  Problem(Index count, std::uint64_t seed) {
    Random<float> random(seed);
    for (const Index size : {4 * kHidden * kInput, 4 * kHidden * kHidden, 4 * kHidden,
                             kOutputs * kHidden, kOutputs}) {
      params.push_back(random.array(size));
      grads.emplace_back(params.back().size());
      means.emplace_back(params.back().size());
      squares.emplace_back(params.back().size());
    }
    x = random.array(count * kSteps * kInput);
    for (Index n = 0; n < count; ++n) {
      labels.push_back(n % kOutputs);
      order.push_back(count - 1 - n);
    }
    TrainedModel<float>& model = run.model;
    model.config.input_size = kInput;
    model.config.hidden_size = kHidden;
    for (std::size_t i = 0; i < params.size(); ++i) {
      model.parameters.push_back({static_cast<Index>(params[i].size()),
                                  params[i].data(), grads[i].data(), means[i].data(),
                                  squares[i].data()});
    }
    model.params = {{params[0].data(), params[1].data(), params[2].data(), nullptr}};
    model.grads = {{grads[0].data(), grads[1].data(), grads[2].data(), nullptr}};
    model.features = kHidden;
    model.outputs = kOutputs;
    model.head_weight = params[3].data();
    model.head_bias = params[4].data();
    model.d_head_weight = grads[3].data();
    model.d_head_bias = grads[4].data();
    run.rule = Adam{};
    run.clip_norm = 1;
    run.data.count = count;
    run.data.seq_len = kSteps;
    run.data.x = {x.data(), kInput, kSteps * kInput};
    run.data.labels = labels.data();
    run.pool = &pool;
    run.epoch.batch_size = 7;
    run.epoch.order = order.data();
    lr.assign(static_cast<std::size_t>(run.steps()), 0.01);
    run.epoch.lr = lr.data();
  }
};

void finish(const std::vector<TrainingRun<float>*>& runs) {
  for (bool left = true; left;) {
    train(runs.data(), static_cast<Index>(runs.size()), 0.01);
    left = false;
    for (const auto* run : runs) left = left || !run->finished();
  }
}

constexpr Index kCounts[] = {300, 20, 611, 7, 100};

TEST_CASE("runs side by side have the bits of runs alone") {
  for (const int threads : {1, 2, 3, 8}) {
    set_num_threads(threads);
    std::vector<std::unique_ptr<Problem>> together, alone;
    std::vector<TrainingRun<float>*> runs;
    for (const Index count : kCounts) {
      const auto seed = static_cast<std::uint64_t>(count);
      together.push_back(std::make_unique<Problem>(count, seed));
      alone.push_back(std::make_unique<Problem>(count, seed));
      runs.push_back(&together.back()->run);
    }
    finish(runs);
    for (std::size_t i = 0; i < runs.size(); ++i) {
      finish({&alone[i]->run});
      for (std::size_t p = 0; p < alone[i]->params.size(); ++p) {
        CHECK(same_bits(together[i]->params[p], alone[i]->params[p]));
      }
      CHECK(together[i]->run.progress.loss == alone[i]->run.progress.loss);
      CHECK(together[i]->run.progress.norm == alone[i]->run.progress.norm);
      CHECK(together[i]->run.progress.step == together[i]->run.steps());
    }
  }
  set_num_threads(available_cpus());
}

TEST_CASE("a run without learning rates changes nothing") {
  Problem problem(50, 1);
  const auto before = problem.params;
  problem.run.epoch.lr = nullptr;
  finish({&problem.run});
  CHECK(problem.run.progress.loss > 0);
  for (std::size_t p = 0; p < before.size(); ++p) {
    CHECK(same_bits(problem.params[p], before[p]));
  }
}

TEST_CASE("a run that fails stops before the update and leaves no gradient") {
  Problem bad(50, 1), good(50, 2);
  bad.x[3] = std::numeric_limits<float>::quiet_NaN();  // of sample 0, the last batch
  finish({&bad.run, &good.run});
  CHECK(bad.run.failed());
  CHECK(bad.run.progress.step == bad.run.steps() - 1);
  CHECK(good.run.progress.step == good.run.steps());
  for (const auto& grad : bad.grads) {
    CHECK(same_bits(grad, std::vector<float>(grad.size())));
  }
  for (const auto& param : bad.params) {
    for (const float value : param) CHECK(std::isfinite(value));
  }
}

}  // namespace
}  // namespace fastlstm::testing
