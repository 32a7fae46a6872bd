// Proof of what stream.hpp, fastlstm.h and static_lstm.hpp promise: no path of a step
// allocates, locks, touches the thread pool or makes a system call. A program of its
// own, because its interposer replaces functions of the C library.
#include <sys/syscall.h>
#include <unistd.h>

#include <functional>
#include <mutex>

#include "fastlstm/fastlstm.h"
#include "interposer.hpp"
#include "model_files.hpp"
#include "variant_configs.hpp"

namespace fastlstm::testing {
namespace {

using Work = std::function<void()>;

// A stream, with all that its calls need, and every call that may be made in real time.
template <class T>
class Player {
 public:
  Player(const RecurrentConfig& config, Index batch, StreamOptions<T> options)
      : problem_(config, kSteps, batch),
        stream_(problem_.config, problem_.parameter_arrays().data(),
                with_batch(options, batch)),
        y_(static_cast<std::size_t>(kSteps * batch * stream_.output_size())),
        active_(std::make_unique<bool[]>(static_cast<std::size_t>(batch))) {
    for (Index n = 0; n < batch; n += 2) active_[static_cast<std::size_t>(n)] = true;
  }

  void play() {
    const T* x = problem_.x.data();
    T* c = stream_.has_cell() ? problem_.c0.data() : nullptr;
    stream_.set_state(problem_.h0.data(), c);
    stream_.step(x, y_.data());
    stream_.step(x, y_.data());  // the other buffer of h
    stream_.step(x, y_.data(), active_.get(), nullptr);
    stream_.step(x, y_.data(), active_.get(), active_.get());
    stream_.step(x, y_.data(), nullptr, active_.get());
    stream_.process(x, y_.data(), kSteps);
    stream_.get_state(problem_.h0.data(), c);
    stream_.reset(active_.get());
    stream_.reset();
  }

 private:
  static constexpr Index kSteps = 3;
  static StreamOptions<T> with_batch(StreamOptions<T> options, Index batch) {
    options.batch_size = batch;
    return options;
  }
  Problem<T> problem_;
  Stream<T> stream_;
  std::vector<T> y_;
  std::unique_ptr<bool[]> active_;
};

template <class T>
void add(std::vector<Work>& all, const RecurrentConfig& config, Index batch,
         const StreamOptions<T>& options) {
  const auto player = std::make_shared<Player<T>>(config, batch, options);
  all.emplace_back([player] { player->play(); });
}

template <class T>
void add_all(std::vector<Work>& all, const RecurrentConfig& config) {
  static const std::vector<T> weight(static_cast<std::size_t>(2 * 640), T(0.1));
  for (const Index batch : {1, 5, 9}) {
    add<T>(all, config, batch, {});
    StreamOptions<T> options;
    options.head = {weight.data(), nullptr, 2};
    add<T>(all, config, batch, options);
    if (sizeof(T) != sizeof(float)) continue;
    options.precision = Precision::bfloat16;
    add<T>(all, config, batch, options);
  }
}

// A stream of the C interface: a model of one layer, I = 3, H = O = 2.
class CPlayer {
 public:
  explicit CPlayer(Index batch) : x_(3 * 3 * batch), y_(3 * 2 * batch) {
    ModelFile<float> file = lstm_file<float>();
    replace(file.config, "\"num_layers\":2", "\"num_layers\":1");
    replace(file.config, "\"bidirectional\":true", "\"bidirectional\":false");
    replace(file.config, "\"in_features\":4", "\"in_features\":2");
    for (const char* name : {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}) {
      for (const char* end : {"_l0_reverse", "_l1", "_l1_reverse"}) {
        file.tensors.erase(std::string("recurrent.") + name + end);
      }
    }
    file.add("head.weight", {2, 2}, {1, 2, 3, 4});
    const std::vector<char> bytes = file.bytes();
    fastlstm_model* model = nullptr;
    REQUIRE(fastlstm_model_from_bytes(bytes.data(), bytes.size(), &model) ==
            FASTLSTM_OK);
    REQUIRE(fastlstm_stream_create(model, batch, &stream_) == FASTLSTM_OK);
    fastlstm_model_free(model);
  }
  ~CPlayer() { fastlstm_stream_free(stream_); }
  CPlayer(const CPlayer&) = delete;
  CPlayer& operator=(const CPlayer&) = delete;

  void play() {
    fastlstm_stream_step(stream_, x_.data(), y_.data());
    fastlstm_stream_process(stream_, x_.data(), y_.data(), 3);
    fastlstm_stream_step_rows(stream_, x_.data(), y_.data(), nullptr, nullptr);
    fastlstm_stream_step_rows(stream_, x_.data(), y_.data(), active_, active_);
    fastlstm_stream_reset(stream_, active_);
    fastlstm_stream_reset(stream_, nullptr);
  }

 private:
  std::vector<float> x_, y_;
  bool active_[9] = {true, false, true};
  fastlstm_stream* stream_ = nullptr;
};

// Every kernel of the instruction set in force. Sizes with and without tails.
std::vector<Work> every_path() {
  std::vector<Work> all;
  for (const CellKind cell : kCells) {
    for (const Index units : {5, 16, 40}) {
      RecurrentConfig config = make_config(cell, 3, units);
      config.num_layers = units == 16 ? 2 : 1;
      add_all<float>(all, config);
      add_all<double>(all, config);
    }
  }
  RecurrentConfig config = make_config(CellKind::lstm, 3, 8);
  config.output_activation = Activation::relu;
  add_all<float>(all, config);
  for (RecurrentConfig variant : variants(3, 17)) {
    variant.num_layers = 2;
    add_all<float>(all, variant);
    add_all<double>(all, variant);
  }
  for (const Index batch : {1, 9}) {
    const auto player = std::make_shared<CPlayer>(batch);
    all.emplace_back([player] { player->play(); });
  }
  const auto fixed = std::make_shared<StaticLstm<2, 40>>();
  all.emplace_back([fixed] {
    const float x[4] = {};
    float y[80];
    fixed->step(x);
    fixed->process(x, y, 2);
    fixed->set_state(y, y);
    fixed->reset();
  });
  // So much work that a call of the whole-sequence functions would be shared.
  add<float>(all, make_config(CellKind::lstm, 512, 512), 4, {});
  add<float>(all, lstm_variant(512, 512), 4, {});
  return all;
}

}  // namespace

static_assert(noexcept(std::declval<Stream<float>&>().step(nullptr, nullptr)));
static_assert(noexcept(std::declval<Stream<float>&>().process(nullptr, nullptr, 1)));

TEST_CASE("the interposer sees allocations, locks and system calls") {
  std::mutex mutex;
  auto nothing = [] {};
  const void* volatile kept = nullptr;  // so that the compiler leaves no call out
  auto allocate = [&] {
    const int* const number = new int(1);
    kept = number;
    delete number;
  };
  auto grow = [&] {
    std::vector<double> values(1000);
    kept = values.data();
    values.resize(3000);
  };
  auto lock = [&] { const std::lock_guard<std::mutex> guard(mutex); };
  auto call = [] { syscall(SYS_getpid); };
  lock();  // looks the functions up
  CHECK(std::string(forbidden_call(nothing)) == "");
  CHECK(std::string(forbidden_call(allocate)) == "malloc");
  CHECK(std::string(forbidden_call(grow)) == "malloc");
  CHECK(std::string(forbidden_call(lock)) == "pthread_mutex_lock");
#ifdef FASTLSTM_REALTIME_SANITIZER
  CHECK(std::string(forbidden_call(call)) == "syscall");
#endif
  if (!can_filter_system_calls()) return;
  CHECK(system_call(nothing) == -1);
  CHECK(system_call(call) == SYS_getpid);
}

TEST_CASE("a stream allocates nothing, locks nothing, makes no system call") {
  set_num_threads(4);
  for_each_isa([] {
    const std::vector<Work> all = every_path();
    auto play = [&] {
      for (const Work& work : all) work();
    };
    CHECK(std::string(forbidden_call(play)) == "");
    if (can_filter_system_calls()) CHECK(system_call(play) == -1);
  });
  set_num_threads(1);
}

}  // namespace fastlstm::testing
