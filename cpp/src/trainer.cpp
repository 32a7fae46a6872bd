// Trainer: the window of the latest steps, and one update over it; see trainer.hpp.
#include "fastlstm/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "arena.hpp"
#include "fastlstm/linear.hpp"
#include "fastlstm/losses.hpp"
#include "layer_arrays.hpp"

namespace fastlstm {
namespace {

constexpr Index kMaxWindow = Index{1} << 16;
// Blocks of memory that a pass over one layer takes from the pool, and a few more: all
// must stay on its free list. The tape takes two a layer.
constexpr Index kPassBlocks = 16;
constexpr double kNothingLearned = std::numeric_limits<double>::quiet_NaN();

template <class T>
void check(const RecurrentConfig& config, const LayerArrays<const T>* params,
           const Head<T>& head, const TrainerOptions& options) {
  check_config(config);
  if (config.bidirectional) {
    throw std::invalid_argument(
        "a trainer runs in one direction, got bidirectional = true");
  }
  if (config.options.zoneout_h > 0 || config.options.zoneout_c > 0) {
    throw std::invalid_argument(
        "a trainer draws no random numbers, got a cell with zoneout");
  }
  if (options.tbptt < 1 || options.tbptt > kMaxWindow) {
    throw std::invalid_argument("tbptt must be an integer from 1 to " +
                                std::to_string(kMaxWindow) + ", got " +
                                std::to_string(options.tbptt));
  }
  if (!(options.lr >= 0) || std::isinf(options.lr)) {
    throw std::invalid_argument("lr must be a finite number >= 0, got " +
                                std::to_string(options.lr));
  }
  if (!(options.clip_norm > 0)) {
    throw std::invalid_argument("clip_norm must be above 0, got " +
                                std::to_string(options.clip_norm));
  }
  if (options.max_threads < 0) {
    throw std::invalid_argument("max_threads must be at least 1, or 0 for any, got " +
                                std::to_string(options.max_threads));
  }
  if (head.weight == nullptr || head.out_features < 1) {
    throw std::invalid_argument("a trainer needs a head with weights");
  }
  check_arrays(config, params);
}

}  // namespace

template <class T>
struct Trainer<T>::Body {
  RecurrentConfig config;
  TrainerOptions options;
  Index outputs;
  BufferPool pool;
  Buffer memory;  // all that is below
  Tape<T> tape;

  // Masters, gradients and the optimizer's two states, as `parameters` lists them.
  std::vector<LayerArrays<const T>> params;
  std::vector<LayerArrays<T>> grads;
  Head<T> head;
  T* d_head_weight = nullptr;
  T* d_head_bias = nullptr;
  std::vector<Parameter<T>> parameters;

  // The window: k steps, oldest first, and the states before each and after the last.
  Index filled = 0;
  double updates = 0;
  T* x = nullptr;                  // (k, I)
  T* targets = nullptr;            // (k, O)
  std::int64_t* labels = nullptr;  // (k)
  T* states = nullptr;             // (k + 1) times h (L, S), then c (L, H)

  T* output = nullptr;      // (k, S)
  T* d_output = nullptr;    // (k, S)
  T* answers = nullptr;     // (k, O)
  T* d_answers = nullptr;   // (k, O)
  T* next_state = nullptr;  // of predict

  Body(const RecurrentConfig& of, const LayerArrays<const T>* given,
       const Head<T>& given_head, const TrainerOptions& with)
      : config(of),
        options(with),
        outputs(given_head.out_features),
        pool(static_cast<std::size_t>(kPassBlocks + 2 * of.num_layers), false) {
    config.dropout = config.recurrent_dropout = 0;
    for (Arena arena;;) {
      parameters.clear();
      params.clear();
      grads.clear();
      take_memory(arena, given, given_head);
      if (memory.data() != nullptr) break;
      memory = pool.acquire(arena.used());
      std::fill_n(memory.template as<char>(), memory.capacity(), char{0});
      arena = Arena(memory.data());
    }
    warm_up();
  }

  bool has_label(std::int64_t label) const {
    return classifies() && label >= 0 && label < outputs;
  }
  Index window() const { return options.tbptt; }
  Index units() const { return config.output_size(); }
  Index state_size() const {
    return config.num_layers * (units() + config.hidden_size);
  }
  T* state_before(Index step) const { return states + step * state_size(); }
  T* c_of(T* state) const { return state + config.num_layers * units(); }
  bool classifies() const { return options.task == Task::classification; }

  void take_memory(Arena& arena, const LayerArrays<const T>* given,
                   const Head<T>& given_head) {
    for (Index layer = 0; layer < config.num_layers; ++layer) {
      const Index inputs = layer == 0 ? config.input_size : units();
      const Index rows = config.gate_rows();
      LayerArrays<const T> master{};
      LayerArrays<T> grad{};
      const LayerArrays<const T>& from = given[layer];
      add(arena, from.weight_ih, rows * inputs, master.weight_ih, grad.weight_ih);
      add(arena, from.weight_hh, rows * units(), master.weight_hh, grad.weight_hh);
      add(arena, from.bias, rows, master.bias, grad.bias);
      const Index hidden = config.hidden_size;
      add(arena, from.bias_hn, hidden, master.bias_hn, grad.bias_hn);
      add(arena, from.weight_hr, units() * hidden, master.weight_hr, grad.weight_hr);
      add(arena, from.weight_peephole, 3 * hidden, master.weight_peephole,
          grad.weight_peephole);
      add(arena, from.gain_ih, rows, master.gain_ih, grad.gain_ih);
      add(arena, from.gain_hh, rows, master.gain_hh, grad.gain_hh);
      add(arena, from.gain_c, hidden, master.gain_c, grad.gain_c);
      add(arena, from.bias_c, hidden, master.bias_c, grad.bias_c);
      params.push_back(master);
      grads.push_back(grad);
    }
    head.out_features = outputs;
    add(arena, given_head.weight, checked_product(outputs, units()), head.weight,
        d_head_weight);
    add(arena, given_head.bias, outputs, head.bias, d_head_bias);
    const Index k = window();
    x = arena.take<T>(checked_product(k, config.input_size));
    targets = arena.take<T>(checked_product(k, outputs));
    labels = arena.take<std::int64_t>(k);
    states = arena.take<T>(checked_product(k + 1, state_size()));
    output = arena.take<T>(checked_product(k, units()));
    d_output = arena.take<T>(k * units());
    answers = arena.take<T>(k * outputs);
    d_answers = arena.take<T>(k * outputs);
    next_state = arena.take<T>(state_size());
  }

  // A master that starts as `from`, its gradient and its states; nothing where from is
  // null.
  void add(Arena& arena, const T* from, Index size, const T*& master, T*& grad) {
    if (from == nullptr) return;
    Parameter<T> p{};
    p.size = size;
    p.param = arena.take<T>(size);
    p.grad = arena.take<T>(size);
    p.first = arena.take<T>(size);
    p.second = arena.take<T>(size);
    if (p.param != nullptr) std::copy_n(from, size, p.param);
    master = p.param;
    grad = p.grad;
    parameters.push_back(p);
  }

  // Every shape of call twice, so that afterwards the pool and the tape have all that
  // later calls need.
  void warm_up() {
    for (int round = 0; round < 2; ++round) {
      forward(1, x, nullptr, next_state);
      forward(window(), x, &tape, next_state);
      differentiate();
    }
    // An update by nothing: it starts the threads that updates will use.
    for (const Parameter<T>& p : parameters) std::fill_n(p.grad, p.size, T(0));
    clipped_update(UpdateRule{Sgd{}}, {0, 1, 1, false, options.max_threads}, 1.0,
                   parameters.data(), static_cast<Index>(parameters.size()));
    std::fill_n(next_state, state_size(), T(0));
  }

  LinearShape head_shape(Index rows) const {
    return {rows, units(), outputs, options.max_threads};
  }

  // Runs `steps` steps from the state before the window, or for one step from the
  // latest state, over `input` into output, answers and `state`.
  void forward(Index steps, const T* input, Tape<T>* kept, T* state) {
    T* before = state_before(kept == nullptr ? filled : 0);
    const bool lstm = config.cell == CellKind::lstm;
    ForwardArgs<T> args{};
    args.seq_len = steps;
    args.batch_size = 1;
    args.x = {input, config.input_size, config.input_size};
    args.h0 = before;
    args.c0 = lstm ? c_of(before) : nullptr;
    args.params = params.data();
    args.output = {output, units(), units()};
    args.h_n = state;
    args.c_n = lstm ? c_of(state) : nullptr;
    args.max_threads = options.max_threads;
    args.check_params = false;
    recurrent_forward<T>(config, args, pool, kept);
    linear_forward<T>(head_shape(steps), output, head.weight, head.bias, answers);
  }

  // Mean loss of the rows from `first` to `end` of the window.
  double loss(Index first, Index end, const T* predicted, T* d) const {
    const LossShape shape = {end - first, outputs};
    if (classifies()) {
      return cross_entropy<T>(shape, predicted, labels + first, {}, d);
    }
    return regression_loss<T>(shape, ErrorPenalty::squared, 1, predicted,
                              targets + first * outputs, {}, d);
  }

  // Sets the gradients of the window that forward() has just run over.
  void differentiate() {
    loss(0, window(), answers, d_answers);
    std::fill_n(d_head_weight, outputs * units(), T(0));
    if (d_head_bias != nullptr) std::fill_n(d_head_bias, outputs, T(0));
    linear_backward<T>(head_shape(window()), output, head.weight, d_answers,
                       d_head_weight, d_head_bias, d_output);
    BackwardArgs<T> args{};
    args.d_output = {d_output, units(), units()};
    args.params = params.data();
    args.grads = grads.data();
    args.accumulate = false;
    args.max_threads = options.max_threads;
    recurrent_backward<T>(args, pool, tape);
    // The buffers go home, the vectors keep their memory.
    tape.records.clear();
    tape.weights.clear();
    tape.layer_outputs.clear();
    tape.vectors.clear();
    tape.state.reset();
  }

  double learn() {
    const Index k = window();
    const Index newest = filled;
    if (newest + 1 < k) {
      forward(1, x + newest * config.input_size, nullptr, state_before(newest + 1));
      ++filled;
      return loss(newest, newest + 1, answers, nullptr);
    }
    forward(k, x, &tape, state_before(k));
    ++filled;
    const double result = loss(newest, k, answers + newest * outputs, nullptr);
    differentiate();
    const UpdateStep step = {options.lr, updates + 1, 1, false, options.max_threads};
    const double norm =
        clipped_update(options.rule, step, options.clip_norm, parameters.data(),
                       static_cast<Index>(parameters.size()));
    if (std::isfinite(norm)) ++updates;
    return result;
  }

  // Makes room for a step at the end of the window; returns its place.
  Index take_place() {
    if (filled < window()) return filled;
    --filled;
    std::copy_n(x + config.input_size, filled * config.input_size, x);
    std::copy_n(targets + outputs, filled * outputs, targets);
    std::copy_n(labels + 1, filled, labels);
    std::copy_n(state_before(1), window() * state_size(), states);
    return filled;
  }
};

template <class T>
Trainer<T>::Trainer(const RecurrentConfig& config, const LayerArrays<const T>* params,
                    const Head<T>& head, const TrainerOptions& options) {
  check(config, params, head, options);
  body_ = std::make_unique<Body>(config, params, head, options);
}

namespace {

template <class T>
TrainerOptions with_task_of(const Model<T>& model, TrainerOptions options) {
  if (model.num_embeddings() > 0) {
    throw std::invalid_argument(
        "a trainer takes vectors, and this model begins with an embedding");
  }
  if (model.initial_state().h != nullptr || model.initial_state().c != nullptr) {
    throw std::invalid_argument(
        "a trainer starts from zeros, and this model has a learned initial state");
  }
  options.task = model.task();
  return options;
}

}  // namespace

template <class T>
Trainer<T>::Trainer(const Model<T>& model, TrainerOptions options)
    : Trainer(model.config(), model.params(), model.head(),
              with_task_of(model, options)) {}

template <class T>
Trainer<T>::~Trainer() = default;
template <class T>
Trainer<T>::Trainer(Trainer&& other) noexcept = default;
template <class T>
Trainer<T>& Trainer<T>::operator=(Trainer&& other) noexcept = default;

template <class T>
Index Trainer<T>::input_size() const noexcept {
  return body_->config.input_size;
}

template <class T>
Index Trainer<T>::output_size() const noexcept {
  return body_->outputs;
}

template <class T>
void Trainer<T>::predict(const T* x, T* y) noexcept {
  body_->forward(1, x, nullptr, body_->next_state);
  std::copy_n(body_->answers, body_->outputs, y);
}

template <class T>
double Trainer<T>::learn(const T* x, const T* target) noexcept {
  if (body_->classifies()) return kNothingLearned;
  const Index at = body_->take_place();
  std::copy_n(x, input_size(), body_->x + at * input_size());
  std::copy_n(target, output_size(), body_->targets + at * output_size());
  return body_->learn();
}

template <class T>
double Trainer<T>::learn(const T* x, std::int64_t label) noexcept {
  if (!body_->has_label(label)) return kNothingLearned;
  const Index at = body_->take_place();
  std::copy_n(x, input_size(), body_->x + at * input_size());
  body_->labels[at] = label;
  return body_->learn();
}

template <class T>
void Trainer<T>::reset() noexcept {
  body_->filled = 0;
  std::fill_n(body_->states, body_->state_size(), T(0));
}

template <class T>
const RecurrentConfig& Trainer<T>::config() const noexcept {
  return body_->config;
}

template <class T>
const LayerArrays<const T>* Trainer<T>::params() const noexcept {
  return body_->params.data();
}

template <class T>
Head<T> Trainer<T>::head() const noexcept {
  return body_->head;
}

template class Trainer<float>;
template class Trainer<double>;

}  // namespace fastlstm
