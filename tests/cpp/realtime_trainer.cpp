// Proof of what trainer.hpp promises: after the constructor, learning allocates
// nothing, and on one thread it neither locks nor makes a system call.
#include "fastlstm/trainer.hpp"
#include "interposer.hpp"
#include "variant_configs.hpp"

namespace fastlstm::testing {
namespace {

static_assert(noexcept(std::declval<Trainer<float>&>().learn(nullptr, nullptr)));
static_assert(noexcept(std::declval<Trainer<float>&>().learn(nullptr, std::int64_t{})));
static_assert(noexcept(std::declval<Trainer<float>&>().predict(nullptr, nullptr)));

// A trainer and the calls that may be made in real time.
template <class T>
class Pupil {
 public:
  Pupil(const RecurrentConfig& config, const TrainerOptions& options)
      : Pupil(Problem<T>(config, 1, 1), options) {}

  void play() {
    const T x[3] = {1, 2, 3};
    const T target[2] = {1, 0};
    T y[2];
    for (Index t = 0; t < options_.tbptt + 3; ++t) {
      trainer_.predict(x, y);
      learn(x, target);
    }
    trainer_.reset();
    for (Index t = 0; t < options_.tbptt + 1; ++t) learn(x, target);
    trainer_.learn(x, std::int64_t{2});  // there is no such label
  }

 private:
  Pupil(const Problem<T>& problem, const TrainerOptions& options)
      : options_(options),
        weight_(static_cast<std::size_t>(2 * problem.config.hidden_size), T(0.1)),
        trainer_(problem.config, problem.parameter_arrays().data(),
                 {weight_.data(), nullptr, 2}, options) {}

  void learn(const T* x, const T* target) {
    if (options_.task == Task::classification) {
      trainer_.learn(x, std::int64_t{1});
    } else {
      trainer_.learn(x, target);
    }
  }

  TrainerOptions options_;
  std::vector<T> weight_;
  Trainer<T> trainer_;
};

// float learns values by Adam, double labels by SGD.
template <class T>
void add_pupils(std::vector<Pupil<T>>& all, const RecurrentConfig& config,
                int max_threads) {
  const bool single = sizeof(T) == sizeof(float);
  TrainerOptions options;
  options.max_threads = max_threads;
  options.task = single ? Task::regression : Task::classification;
  options.rule = single ? UpdateRule{Adam{}} : UpdateRule{Sgd{0.9, 0, false}};
  for (const Index tbptt : {1, 6}) {
    options.tbptt = tbptt;
    all.emplace_back(config, options);
  }
}

// Trainers of every cell and variant, with so many parameters too that threads may
// share an update of them.
template <class T>
std::vector<Pupil<T>> every_pupil() {
  std::vector<Pupil<T>> all;
  for (const CellKind cell : kCells) {
    for (const Index units : {5, 150}) {
      RecurrentConfig config = make_config(cell, 3, units);
      for (const Index layers : {1, 2, units == 5 ? 40 : 3}) {
        config.num_layers = layers;
        add_pupils(all, config, 1);
      }
    }
  }
  for (RecurrentConfig config : variants(3, 5)) {
    config.options.zoneout_h = config.options.zoneout_c = 0;
    config.num_layers = 2;
    add_pupils(all, config, 1);
  }
  return all;
}

template <class T>
std::vector<Pupil<T>> sharing_pupils() {
  std::vector<Pupil<T>> all;
  for (const CellKind cell : kCells) add_pupils(all, make_config(cell, 3, 200), 0);
  return all;
}

template <class T, class Check>
void check_pupils(std::vector<Pupil<T>> all, Check check) {
  auto play = [&] {
    for (Pupil<T>& pupil : all) pupil.play();
  };
  check(play);
}

}  // namespace

TEST_CASE("a trainer allocates nothing, locks nothing, makes no system call") {
  set_num_threads(2);
  for_each_isa([] {
    const auto check = [](auto& play) {
      CHECK(std::string(forbidden_call(play)) == "");
      if (can_filter_system_calls()) CHECK(system_call(play) == -1);
    };
    check_pupils(every_pupil<float>(), check);
    check_pupils(every_pupil<double>(), check);
  });
  set_num_threads(1);
}

#ifndef FASTLSTM_REALTIME_SANITIZER  // which cannot tell allocations from locks
TEST_CASE("a trainer that shares its work among threads allocates nothing") {
  set_num_threads(2);
  for_each_isa([] {
    const auto check = [](auto& play) { CHECK(std::string(allocation(play)) == ""); };
    check_pupils(sharing_pupils<float>(), check);
    check_pupils(sharing_pupils<double>(), check);
  });
  set_num_threads(1);
}
#endif

}  // namespace fastlstm::testing
