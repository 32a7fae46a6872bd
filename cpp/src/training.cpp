// The steps of training, and several models dealt out to threads.
#include "fastlstm/training.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <mutex>

#include "arena.hpp"
#include "denormals.hpp"
#include "fastlstm/linear.hpp"
#include "fastlstm/threads.hpp"
#include "parallel.hpp"

namespace fastlstm {
namespace {

using Clock = std::chrono::steady_clock;

// A thread keeps a model for this long before it looks for one that is behind: long
// beside the moment in which a model's arrays change caches.
constexpr std::chrono::microseconds kSlice{1000};
// Bytes that a thread copies in about 20 us.
constexpr Index kMinParallelCopy = 1 << 18;

// Adds the time since the last lap to a phase.
class Stopwatch {
 public:
  explicit Stopwatch(double* seconds) : seconds_(seconds) {}
  void lap(Phase phase) {
    const Clock::time_point now = Clock::now();
    seconds_[phase] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  double* seconds_;
  Clock::time_point last_ = Clock::now();
};

// One step of a run: the samples [begin, begin + rows) of the epoch's order.
template <class T>
class Step {
 public:
  explicit Step(TrainingRun<T>& run)
      : run_(run),
        model_(run.model),
        begin_(run.progress.step * run.epoch.batch_size),
        rows_(std::min(run.epoch.batch_size, run.data.count - begin_)),
        steps_(run.data.seq_len),
        answers_(model_.return_sequences ? steps_ : 1) {
    memory_ = acquire_pieces(*run.pool, [&](Arena& arena) { take_arrays(arena); });
  }

  void go() {
    Progress& progress = run_.progress;
    Stopwatch watch(progress.seconds);
    gather_samples();
    watch.lap(gather);
    const bool learns = run_.epoch.lr != nullptr;
    Tape<T> tape;
    run_forward(learns ? &tape : nullptr);
    watch.lap(forward);
    const LinearShape shape = {rows_ * answers_, model_.features, model_.outputs};
    const T* features = head_input();
    linear_forward(shape, features, model_.head_weight, model_.head_bias, prediction_);
    watch.lap(head);
    add_loss(learns ? d_prediction_ : nullptr);
    watch.lap(loss);
    if (learns) {
      linear_backward(shape, features, model_.head_weight, d_prediction_,
                      model_.d_head_weight, model_.d_head_bias, d_features_);
      watch.lap(head);
      run_backward(tape);
      watch.lap(backward);
      run_update();
      watch.lap(optimizer);
    }
    if (!run_.failed()) ++progress.step;
  }

 private:
  Index state_size() const { return rows_ * model_.config.hidden_size; }
  Index states() const { return model_.config.num_layers * directions(); }
  Index directions() const { return model_.config.directions(); }
  // Features of one direction: H, or fewer with a projection.
  Index units() const { return model_.features / directions(); }
  bool shuffled() const { return run_.epoch.order != nullptr; }

  void take_arrays(Arena& arena) {
    const Index count = checked_product(rows_, answers_);
    const Index all_steps = checked_product(rows_, steps_);
    const bool moved = shuffled() || answers_ > 1;
    const bool labelled = run_.loss.cross_entropy;
    x_ = arena.take<T>(shuffled() ? checked_product(all_steps, input_size()) : 0);
    labels_ = arena.take<std::int64_t>(moved && labelled ? count : 0);
    targets_ = arena.take<T>(moved && !labelled ? count * model_.outputs : 0);
    weight_ = arena.take<T>(moved && run_.data.weight != nullptr ? count : 0);
    output_ = arena.take<T>(checked_product(all_steps, model_.features));
    h_n_ = arena.take<T>(states() * rows_ * units());
    c_n_ = arena.take<T>(states() * state_size());
    d_h_n_ = arena.take<T>(states() * rows_ * units());
    both_ends_ = arena.take<T>(rows_ * model_.features);
    d_features_ = arena.take<T>(checked_product(count, model_.features));
    prediction_ = arena.take<T>(checked_product(count, model_.outputs));
    d_prediction_ = arena.take<T>(count * model_.outputs);
  }

  Index input_size() const { return model_.config.input_size; }

  Index sample(Index row) const {
    return shuffled() ? run_.epoch.order[begin_ + row] : begin_ + row;
  }

  // x in the order of the samples; answers and weights in the order of the head's rows.
  void gather_samples() {
    const TrainingData<T>& data = run_.data;
    const SequenceView<const T>& x = data.x;
    if (shuffled()) {
      const Index row = steps_ * input_size();
      const Index bytes = rows_ * row * Index{sizeof(T)};
      auto body = [&](const Team& team) {
        const Team::Range share = team.share(rows_);
        for (Index n = share.begin; n < share.end; ++n) copy_sample(n, x_ + n * row);
      };
      parallel(bytes < kMinParallelCopy ? 1 : useful_threads(), body);
      x_view_ = {x_, input_size(), row};
    } else {
      x_view_ = {x.data + begin_ * x.stride_n, x.stride_t, x.stride_n};
    }
    batch_.labels = gathered(data.labels, 1, labels_);
    batch_.targets = gathered(data.targets, model_.outputs, targets_);
    batch_.weight = gathered(data.weight, 1, weight_);
  }

  void copy_sample(Index row, T* out) const {
    const SequenceView<const T>& x = run_.data.x;
    const T* in = x.data + sample(row) * x.stride_n;
    if (x.stride_t == input_size()) {
      std::copy_n(in, steps_ * input_size(), out);
      return;
    }
    for (Index t = 0; t < steps_; ++t) {
      std::copy_n(in + t * x.stride_t, input_size(), out + t * input_size());
    }
  }

  // The lines (N, R, size) of the batch as (rows, R, size) or (R, rows, size); where
  // nothing has to move, as they lie.
  template <class Value>
  const Value* gathered(const Value* lines, Index size, Value* out) const {
    if (lines == nullptr) return nullptr;
    const bool by_sample = answers_ == 1 || model_.batch_first;
    if (!shuffled() && by_sample) return lines + begin_ * answers_ * size;
    const Index answer_stride = by_sample ? size : rows_ * size;
    const Index row_stride = by_sample ? answers_ * size : size;
    for (Index n = 0; n < rows_; ++n) {
      const Value* in = lines + sample(n) * answers_ * size;
      for (Index r = 0; r < answers_; ++r) {
        // Mostly of size 1: a call to copy would cost more than the copying.
        Value* line = out + r * answer_stride + n * row_stride;
        for (Index i = 0; i < size; ++i) line[i] = in[r * size + i];
      }
    }
    return out;
  }

  SequenceView<T> features_view(T* data) const {
    const Index f = model_.features;
    return model_.batch_first ? SequenceView<T>{data, f, steps_ * f}
                              : SequenceView<T>{data, rows_ * f, f};
  }

  void run_forward(Tape<T>* tape) {
    ForwardArgs<T> args{};
    args.seq_len = steps_;
    args.batch_size = rows_;
    args.x = x_view_;
    args.params = model_.params.data();
    args.output = features_view(output_);
    args.h_n = h_n_;
    args.c_n = model_.config.cell == CellKind::lstm ? c_n_ : nullptr;
    const std::uint64_t* seeds = run_.epoch.dropout_seed;
    args.dropout_seed = seeds == nullptr ? 0 : seeds[run_.progress.step];
    args.check_params = false;
    recurrent_forward(model_.config, args, *run_.pool, tape);
  }

  // The last layer's state after the last step, where directions come one after
  // another.
  T* last_state(T* all) const {
    return all + (states() - directions()) * rows_ * units();
  }

  const T* head_input() {
    if (model_.return_sequences) return output_;
    const T* last = last_state(h_n_);
    if (directions() == 1) return last;
    for (Index n = 0; n < rows_; ++n) {
      for (Index d = 0; d < directions(); ++d) {
        std::copy_n(last + (d * rows_ + n) * units(), units(),
                    both_ends_ + n * model_.features + d * units());
      }
    }
    return both_ends_;
  }

  void add_loss(T* d_prediction) {
    const LossShape shape = {rows_ * answers_, model_.outputs};
    const LossRows<T> which = {batch_.weight, nullptr};
    const double mean =
        run_.loss.cross_entropy
            ? cross_entropy(shape, prediction_, batch_.labels, which, d_prediction)
            : regression_loss(shape, run_.loss.penalty, run_.loss.delta, prediction_,
                              batch_.targets, which, d_prediction);
    run_.progress.loss += mean * static_cast<double>(shape.rows);
    run_.progress.score += run_.loss.cross_entropy ? right_answers() : squared_errors();
  }

  double right_answers() const {
    Index right = 0;
    for (Index row = 0; row < rows_ * answers_; ++row) {
      const T* line = prediction_ + row * model_.outputs;
      right +=
          std::max_element(line, line + model_.outputs) - line == batch_.labels[row];
    }
    return static_cast<double>(right);
  }

  double squared_errors() const {
    double sum = 0;
    for (Index i = 0; i < rows_ * answers_ * model_.outputs; ++i) {
      const double error = static_cast<double>(prediction_[i] - batch_.targets[i]);
      sum += error * error;
    }
    return sum;
  }

  void run_backward(Tape<T>& tape) {
    BackwardArgs<T> args{};
    args.params = model_.params.data();
    args.grads = model_.grads.data();
    if (model_.return_sequences) {
      const SequenceView<T> view = features_view(d_features_);
      args.d_output = {view.data, view.stride_t, view.stride_n};
    } else {
      args.d_h_n = d_last_state();
    }
    recurrent_backward(args, *run_.pool, tape);
  }

  // d_h_n: zeros but for the last layer, whose part is d_features.
  const T* d_last_state() {
    if (states() == 1) return d_features_;
    T* last = last_state(d_h_n_);
    std::fill(d_h_n_, last, T(0));
    for (Index n = 0; n < rows_; ++n) {
      for (Index d = 0; d < directions(); ++d) {
        std::copy_n(d_features_ + n * model_.features + d * units(), units(),
                    last + (d * rows_ + n) * units());
      }
    }
    return d_h_n_;
  }

  void run_update() {
    Progress& progress = run_.progress;
    const Index number = run_.epoch.updates_before + progress.step + 1;
    const UpdateStep update = {run_.epoch.lr[progress.step],
                               static_cast<double>(number), 1, true};
    const std::vector<Parameter<T>>& list = model_.parameters;
    progress.last_norm = clipped_update(run_.rule, update, run_.clip_norm, list.data(),
                                        static_cast<Index>(list.size()));
    progress.norm += progress.last_norm;
    if (!run_.failed()) return;
    for (const Parameter<T>& p : list) std::fill_n(p.grad, p.size, T(0));
  }

  TrainingRun<T>& run_;
  const TrainedModel<T>& model_;
  Index begin_, rows_, steps_, answers_;
  Buffer memory_;
  SequenceView<const T> x_view_{};
  TrainingData<T> batch_;
  T* x_ = nullptr;
  std::int64_t* labels_ = nullptr;
  T *targets_ = nullptr, *weight_ = nullptr;
  T *output_ = nullptr, *h_n_ = nullptr, *c_n_ = nullptr, *d_h_n_ = nullptr;
  T *both_ends_ = nullptr, *d_features_ = nullptr;
  T *prediction_ = nullptr, *d_prediction_ = nullptr;
};

// Steps of a run until it is finished or the time has come.
template <class T>
void go_on(TrainingRun<T>& run, Clock::time_point until) {
  while (!run.finished()) {
    Step<T>(run).go();
    if (Clock::now() >= until) return;
  }
}

// Runs shared by the threads of a team: whoever is free takes the run that is furthest
// behind, so that all end at about the same time.
template <class T>
class Queue {
 public:
  Queue(TrainingRun<T>* const* runs, Index count, Clock::time_point until)
      : until_(until) {
    for (Index i = 0; i < count; ++i) {
      if (!runs[i]->finished()) waiting_.push_back(runs[i]);
    }
  }

  // A thread stops where no run waits: the others have one each.
  void work() {
    while (TrainingRun<T>* run = take()) {
      try {
        go_on(*run, std::min(until_, Clock::now() + kSlice));
        give_back(run);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        error_ = std::current_exception();
      }
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  static double part_left(const TrainingRun<T>* run) {
    return 1 -
           static_cast<double>(run->progress.step) / static_cast<double>(run->steps());
  }

  TrainingRun<T>* take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (waiting_.empty() || Clock::now() >= until_) return nullptr;
    const auto last = std::max_element(
        waiting_.begin(), waiting_.end(),
        [](const auto* a, const auto* b) { return part_left(a) < part_left(b); });
    TrainingRun<T>* run = *last;
    waiting_.erase(last);
    return run;
  }

  void give_back(TrainingRun<T>* run) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!run->finished()) waiting_.push_back(run);
  }

  Clock::time_point until_;
  std::mutex mutex_;
  std::vector<TrainingRun<T>*> waiting_;
  std::exception_ptr error_;
};

}  // namespace

template <class T>
bool TrainingRun<T>::failed() const {
  return !std::isfinite(progress.last_norm);
}

template <class T>
void train(TrainingRun<T>* const* runs, Index count, double seconds) {
  const auto budget = std::chrono::duration<double>(seconds);
  const Clock::time_point until =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(budget);
  if (count == 1) {
    const DenormalGuard guard;  // as inside a region
    go_on(*runs[0], until);
    return;
  }
  Queue<T> queue(runs, count, until);
  auto body = [&](const Team&) { queue.work(); };
  parallel(static_cast<int>(std::min<Index>(useful_threads(), count)), body);
  queue.rethrow();
}

template struct TrainingRun<float>;
template struct TrainingRun<double>;
template void train<float>(TrainingRun<float>* const*, Index, double);
template void train<double>(TrainingRun<double>* const*, Index, double);

}  // namespace fastlstm
