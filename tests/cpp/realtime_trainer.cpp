// Proof of what trainer.hpp promises: after the constructor, learning allocates
// nothing.
#include "fastlstm/trainer.hpp"
#include "interposer.hpp"
#include "variant_configs.hpp"

namespace fastlstm::testing {
namespace {

template <class T>
std::string allocation_of_learning(const RecurrentConfig& config, Index tbptt,
                                   const UpdateRule& rule) {
  const Problem<T> problem(config, 1, 1);
  const std::vector<T> weight(static_cast<std::size_t>(2 * config.hidden_size), T(0.1));
  TrainerOptions options;
  options.tbptt = tbptt;
  options.rule = rule;
  Trainer<T> trainer(problem.config, problem.parameter_arrays().data(),
                     {weight.data(), nullptr, 2}, options);
  const T x[3] = {1, 2, 3};
  const T target[2] = {1, 0};
  T y[2];
  auto learn = [&] {
    for (Index t = 0; t < tbptt + 3; ++t) {
      trainer.predict(x, y);
      trainer.learn(x, target);
    }
    trainer.reset();
    for (Index t = 0; t < tbptt + 1; ++t) trainer.learn(x, target);
  };
  return allocation(learn);
}

}  // namespace

TEST_CASE("a trainer allocates nothing after its constructor") {
  set_num_threads(2);
  for_each_isa([] {
    for (const CellKind cell : kCells) {
      for (const Index units : {5, 150}) {  // 150: an update shared by threads
        RecurrentConfig config = make_config(cell, 3, units);
        for (const Index layers : {1, 2, units == 5 ? 40 : 3}) {
          config.num_layers = layers;
          for (const Index tbptt : {1, 6}) {
            CAPTURE(units);
            CAPTURE(layers);
            CAPTURE(tbptt);
            CHECK(allocation_of_learning<float>(config, tbptt, Adam{}) == "");
            CHECK(allocation_of_learning<double>(config, tbptt, Sgd{0.9, 0, false}) ==
                  "");
          }
        }
      }
    }
    for (RecurrentConfig config : variants(3, 5)) {
      config.options.zoneout_h = config.options.zoneout_c = 0;
      config.num_layers = 2;
      CHECK(allocation_of_learning<float>(config, 6, Adam{}) == "");
    }
  });
  set_num_threads(1);
}

}  // namespace fastlstm::testing
