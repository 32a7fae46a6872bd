// Training of a recurrent stack with a dense head: whole epochs of steps in one call,
// of one model or of several side by side. A step gathers its samples, runs forward,
// loss and back-propagation, clips and updates. What an epoch is made of (order,
// learning rates) is the caller's. Called by the bindings and by C++ users.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "fastlstm/buffer.hpp"
#include "fastlstm/export.h"
#include "fastlstm/losses.hpp"
#include "fastlstm/optim.hpp"
#include "fastlstm/recurrent.hpp"
#include "fastlstm/types.hpp"

namespace fastlstm {

// A stack and its head. All arrays are the caller's. O: outputs of the head, F: its
// inputs, the features of a step of both directions.
template <class T>
struct TrainedModel {
  RecurrentConfig config;
  std::vector<LayerArrays<const T>> params;  // L*D
  std::vector<LayerArrays<T>> grads;         // L*D
  Index features = 0;
  Index outputs = 0;
  const T* head_weight = nullptr;  // (O, F)
  const T* head_bias = nullptr;    // (O) or null
  T* d_head_weight = nullptr;      // as the weight
  T* d_head_bias = nullptr;
  std::vector<Parameter<T>> parameters;  // all of the above, for the optimizer
  bool return_sequences = false;  // the head answers at every step, else once, from the
                                  // last state of the last layer
  bool batch_first = false;  // sums over steps run in the order (n, t), else (t, n)
};

// What a step aims at: labels, or values with a penalty of the error.
struct TrainedLoss {
  bool cross_entropy = true;
  ErrorPenalty penalty = ErrorPenalty::squared;
  double delta = 1;  // of Huber's penalty
};

// Samples to learn from; R is T where the head answers at every step, else 1.
template <class T>
struct TrainingData {
  Index count = 0;                       // N
  Index seq_len = 0;                     // T
  SequenceView<const T> x{};             // (T, N, I) at these strides
  const std::int64_t* labels = nullptr;  // cross-entropy: (N, R), checked by the caller
  const T* targets = nullptr;            // else: (N, R, O)
  const T* weight = nullptr;             // (N, R) or null: ones
};

// One run through the data. Null lr: nothing is learned, loss and score are measured.
struct Epoch {
  Index batch_size = 1;
  const Index* order = nullptr;                 // (N) samples, or null: as they lie
  const double* lr = nullptr;                   // (steps)
  const std::uint64_t* dropout_seed = nullptr;  // (steps), or null without dropout
  Index updates_before = 0;                     // of the optimizer
};

// Where the time of a step goes.
enum Phase : int { gather, forward, head, loss, backward, optimizer, phase_count };

struct Progress {
  Index step = 0;        // steps done
  double loss = 0;       // sum over the answers
  double score = 0;      // right answers; or sum of squared errors
  double norm = 0;       // sum over the steps of the gradients' norms, before clipping
  double last_norm = 0;  // not finite: the run ended before this update
  double seconds[phase_count] = {};
};

template <class T>
struct TrainingRun {
  TrainedModel<T> model;
  TrainedLoss loss;
  UpdateRule rule;
  double clip_norm = std::numeric_limits<double>::infinity();
  TrainingData<T> data;
  Epoch epoch;
  BufferPool* pool = nullptr;  // of scratch memory, one for each run
  Progress progress;

  Index steps() const { return (data.count + epoch.batch_size - 1) / epoch.batch_size; }
  bool failed() const;  // by a gradient that is not finite
  bool finished() const { return failed() || progress.step == steps(); }
};

// Goes on with the runs until all are finished or `seconds` have passed; one step more
// may run over. Gradients must be zero before the first step and are zero after
// every step. A single run shares every step among threads; several runs are dealt out
// to threads whole, each to the same bits as alone. Throws std::bad_alloc or
// std::length_error; then the runs cannot go on.
template <class T>
FASTLSTM_API void train(TrainingRun<T>* const* runs, Index count, double seconds);

}  // namespace fastlstm
