// See stream.hpp: all layers of a stream in a row, and the head; stream_layer.hpp has
// one.
#include "fastlstm/stream.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "denormals.hpp"
#include "layer_arrays.hpp"
#include "parallel.hpp"
#include "stream_layer.hpp"

namespace fastlstm {
namespace {

// A step is shared where that saves the time of so many barriers; to start and to end
// it takes four.
constexpr double kSavedBarriers = 6;
constexpr double kLeastSaved = 500;        // ns: nowhere are barriers that fast
constexpr double kWorkPerNanosecond = 25;  // multiply-adds of one thread

// A step has just left h, maybe in two stores: a load of both at once, as memmove has
// it, would wait for them, half as long as a step of 16 units takes.
template <class T>
void copy_units(const T* h, Index count, T* y) noexcept {
  constexpr Index kFew = 16;
  if (count > kFew) {
    std::copy_n(h, count, y);
    return;
  }
  for (Index i = 0; i < count; ++i) {
    y[i] = h[i];
    __asm__ volatile("" ::: "memory");  // not one memmove
  }
}

template <class T>
void check(const RecurrentConfig& config, const LayerArrays<const T>* params,
           const StreamOptions<T>& options) {
  check_config(config);
  if (config.bidirectional) {
    throw std::invalid_argument(
        "a stream runs in one direction, got bidirectional = true");
  }
  const Index rows = options.batch_size;
  if (rows < 1 || rows > Index{1} << 24) {
    throw std::invalid_argument(
        "batch_size must be an integer from 1 to 16777216, got " +
        std::to_string(rows));
  }
  if (options.precision == Precision::bfloat16 && sizeof(T) != sizeof(float)) {
    throw std::invalid_argument("precision bfloat16 needs weights of float32");
  }
  check_arrays(config, params);
  if (options.head.weight != nullptr && options.head.out_features < 1) {
    throw std::invalid_argument("head.out_features must be at least 1, got " +
                                std::to_string(options.head.out_features));
  }
  if (options.threads < 1) {
    throw std::invalid_argument("threads must be at least 1, got " +
                                std::to_string(options.threads));
  }
}

}  // namespace

template <class T>
struct Stream<T>::Body {
  RecurrentConfig config;
  Index batch_size;
  Index outputs;  // O
  BufferPool pool;
  Buffer memory;
  std::vector<StreamLayer<T>> layers;
  T* head_weight = nullptr;
  T* head_bias = nullptr;
  T* initial_h = nullptr;  // (L, S); null: zeros
  T* initial_c = nullptr;  // (L, H)
  void (*head)(const DenseArgs<T>&);
  int turn = 0;
  int threads = 1;  // of a step

  Body(const RecurrentConfig& of, const StreamOptions<T>& with)
      : config(of),
        batch_size(with.batch_size),
        outputs(with.head.weight != nullptr ? with.head.out_features
                                            : of.output_size()),
        head(kernels<T>().dense_forward) {
    for (Index i = 0; i < config.num_layers; ++i) {
      layers.emplace_back(make_plan<T>(config, i, false, {1, batch_size}),
                          with.precision);
    }
    memory = acquire_pieces(pool, [&](Arena& arena) {
      for (StreamLayer<T>& layer : layers) layer.take(arena);
      if (with.head.weight != nullptr) {
        head_weight = arena.take<T>(checked_product(outputs, features()));
        head_bias = arena.take<T>(outputs);
      }
      const auto take_initial = [&](const T* given, Index units) {
        return given == nullptr ? nullptr : arena.take<T>(config.num_layers * units);
      };
      initial_h = take_initial(with.initial.h, features());
      initial_c = take_initial(with.initial.c, config.hidden_size);
    });
    std::fill_n(memory.template as<char>(), memory.capacity(), char{0});
    for (std::size_t i = 0; i < layers.size(); ++i) {
      layers[i].prepare(i > 0 ? &layers[i - 1] : nullptr);
    }
    if (layers[0].shareable()) threads = useful_steppers(with.threads);
    const auto nothing = [](const Team&) {};
    parallel(threads, nothing);  // starts them: a step does not
  }

  // Threads that share a step.
  int useful_steppers(int most) const {
    const int wanted = useful_threads(most);
    const double saved = static_cast<double>(work()) / kWorkPerNanosecond *
                         (1.0 - 1.0 / static_cast<double>(wanted));
    if (saved < kLeastSaved) return 1;
    const double barrier = barrier_nanoseconds(wanted);
    const bool known = barrier < std::numeric_limits<double>::infinity();
    return known && saved < kSavedBarriers * barrier ? 1 : wanted;
  }

  Index features() const { return config.output_size(); }
  bool lstm() const { return config.cell == CellKind::lstm; }

  void pack(const LayerArrays<const T>* params, const Head<T>& given,
            const InitialState<T>& initial) {
    for (StreamLayer<T>& layer : layers) layer.pack(*params++, pool);
    if (initial_h != nullptr) {
      std::copy_n(initial.h, config.num_layers * features(), initial_h);
    }
    if (initial_c != nullptr) {
      std::copy_n(initial.c, config.num_layers * config.hidden_size, initial_c);
    }
    if (head_weight == nullptr) return;
    std::copy_n(given.weight, outputs * features(), head_weight);
    if (given.bias != nullptr) {
      std::copy_n(given.bias, outputs, head_bias);
    } else {
      std::fill_n(head_bias, outputs, T(0));
    }
  }

  // Multiply-adds of a step of all layers and rows.
  Index work() const noexcept {
    Index work = 0;
    for (const StreamLayer<T>& layer : layers) work += layer.work();
    return work * batch_size;
  }

  void advance(const T* x) noexcept {
    if (threads > 1 && !cpus_crowded()) {
      share_step(x);
    } else {
      layers[0].set_x(turn, x);
      for (StreamLayer<T>& layer : layers) layer.step(turn);
    }
    turn = 1 - turn;
  }

  // What the threads read of it is in few cache lines, each of which takes 100 ns.
  void share_step(const T* x) noexcept {
    auto share = [first = layers.data(), count = layers.size(), now = turn,
                  x](const Team& team) {
      first->share_step(now, x, team);
      for (std::size_t i = 1; i < count; ++i) {
        team.barrier();
        first[i].share_step(now, nullptr, team);
      }
    };
    parallel(threads, share);
  }

  // The same where active: neighbouring active rows are one call.
  void advance_active(const T* x, const bool* active) noexcept {
    layers[0].set_x(turn, x);
    for (StreamLayer<T>& layer : layers) {
      for (Index row = 0; row < batch_size;) {
        const Index begin = row;
        while (row < batch_size && active[row] == active[begin]) ++row;
        if (active[begin]) {
          layer.step_rows(turn, begin, row - begin);
        } else {
          layer.hold_rows(turn, begin, row - begin);
        }
      }
    }
    turn = 1 - turn;
  }

  // y of rows [begin, end)
  void answer(Index begin, Index end, T* y) const noexcept {
    for (Index n = begin; n < end; ++n) {
      const T* h = layers.back().h(turn, n);
      if (head_weight != nullptr) {
        head({1, features(), outputs, h, head_weight, head_bias, y + n * outputs});
      } else {
        copy_units(h, outputs, y + n * outputs);
      }
    }
  }

  void zero_row(Index row) noexcept {
    for (StreamLayer<T>& layer : layers) layer.set_state(turn, row, nullptr, nullptr);
  }

  void restart_row(Index row) noexcept {
    const T* h = initial_h;
    const T* c = initial_c;
    for (StreamLayer<T>& layer : layers) {
      layer.set_state(turn, row, h, c);
      if (h != nullptr) h += features();
      if (c != nullptr) c += config.hidden_size;
    }
  }
};

template <class T>
Stream<T>::Stream(const RecurrentConfig& config, const LayerArrays<const T>* params,
                  const StreamOptions<T>& options) {
  check(config, params, options);
  body_ = std::make_unique<Body>(config, options);
  body_->pack(params, options.head, options.initial);
  reset();
}

template <class T>
Stream<T>::~Stream() = default;
template <class T>
Stream<T>::Stream(Stream&& other) noexcept = default;
template <class T>
Stream<T>& Stream<T>::operator=(Stream&& other) noexcept = default;

template <class T>
Index Stream<T>::batch_size() const noexcept {
  return body_->batch_size;
}

template <class T>
Index Stream<T>::input_size() const noexcept {
  return body_->config.input_size;
}

template <class T>
Index Stream<T>::output_size() const noexcept {
  return body_->outputs;
}

template <class T>
Index Stream<T>::hidden_size() const noexcept {
  return body_->config.hidden_size;
}

template <class T>
Index Stream<T>::state_size() const noexcept {
  return body_->features();
}

template <class T>
Index Stream<T>::num_layers() const noexcept {
  return body_->config.num_layers;
}

template <class T>
bool Stream<T>::has_cell() const noexcept {
  return body_->lstm();
}

template <class T>
Index Stream<T>::work() const noexcept {
  const Index head = body_->head_weight != nullptr ? state_size() * output_size() : 0;
  return body_->work() + head * batch_size();
}

template <class T>
void Stream<T>::step(const T* x, T* y) noexcept {
  const DenormalGuard guard;
  body_->advance(x);
  body_->answer(0, body_->batch_size, y);
}

template <class T>
void Stream<T>::step(const T* x, T* y, const bool* active, const bool* reset) noexcept {
  for (Index n = 0; reset != nullptr && n < body_->batch_size; ++n) {
    if (reset[n]) body_->zero_row(n);
  }
  if (active == nullptr) return step(x, y);
  const DenormalGuard guard;
  body_->advance_active(x, active);
  for (Index n = 0; n < body_->batch_size; ++n) {
    if (active[n]) body_->answer(n, n + 1, y);
  }
}

template <class T>
void Stream<T>::process(const T* x, T* y, Index steps) noexcept {
  const Index x_step = body_->batch_size * body_->config.input_size;
  const Index y_step = body_->batch_size * body_->outputs;
  for (Index t = 0; t < steps; ++t) step(x + t * x_step, y + t * y_step);
}

template <class T>
void Stream<T>::reset(const bool* rows) noexcept {
  for (Index n = 0; n < body_->batch_size; ++n) {
    if (rows == nullptr || rows[n]) body_->restart_row(n);
  }
}

template <class T>
void Stream<T>::get_state(T* h, T* c) const noexcept {
  for (const StreamLayer<T>& layer : body_->layers) {
    for (Index n = 0; n < batch_size(); ++n, h += state_size()) {
      layer.get_state(body_->turn, n, h, c);
      if (c != nullptr) c += hidden_size();
    }
  }
}

template <class T>
void Stream<T>::set_state(const T* h, const T* c) noexcept {
  for (StreamLayer<T>& layer : body_->layers) {
    for (Index n = 0; n < batch_size(); ++n) {
      layer.set_state(body_->turn, n, h, c);
      if (h != nullptr) h += state_size();
      if (c != nullptr) c += hidden_size();
    }
  }
}

template <class T>
void Stream<T>::refresh(const LayerArrays<const T>* params, const Head<T>& head,
                        const InitialState<T>& initial) {
  check_arrays(body_->config, params);
  if ((head.weight == nullptr) != (body_->head_weight == nullptr)) {
    throw std::invalid_argument(
        "refresh must be given a head where the stream has one");
  }
  if ((initial.h == nullptr) != (body_->initial_h == nullptr) ||
      (initial.c == nullptr) != (body_->initial_c == nullptr)) {
    throw std::invalid_argument(
        "refresh must be given an initial state where the stream has one");
  }
  body_->pack(params, head, initial);
}

template class Stream<float>;
template class Stream<double>;

}  // namespace fastlstm
