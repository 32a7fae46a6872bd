// Trainer: a model that goes on learning where it runs, one time step at a time, in
// memory given once. Whole data sets are the business of training.hpp.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>

#include "fastlstm/export.h"
#include "fastlstm/model.hpp"
#include "fastlstm/optim.hpp"
#include "fastlstm/recurrent.hpp"
#include "fastlstm/stream.hpp"
#include "fastlstm/types.hpp"

namespace fastlstm {

struct TrainerOptions {
  Task task = Task::regression;  // squared error; or cross-entropy of a label
  Index tbptt = 32;              // k: steps that an update looks back
  UpdateRule rule = Adam{};
  double lr = 1e-3;
  double clip_norm = std::numeric_limits<double>::infinity();
  int max_threads = 1;  // learn() may share its work among so many; 0: as many as help
};

// Learns by truncated back-propagation through time: after every step, the mean loss of
// the latest k steps is differentiated from the state before them on, and the weights
// make one update. Each step thus takes part in k updates. One thread at a time.
template <class T>
class FASTLSTM_API Trainer {
 public:
  // Copies the weights of params (L*D) and of the head, which must be there. Throws
  // std::invalid_argument naming what is wrong (two directions and zoneout among it),
  // std::bad_alloc, std::length_error. Dropout is not done.
  Trainer(const RecurrentConfig& config, const LayerArrays<const T>* params,
          const Head<T>& head, const TrainerOptions& options);
  // The weights and the task of a model without embedding or learned initial state.
  Trainer(const Model<T>& model, TrainerOptions options);
  ~Trainer();
  Trainer(Trainer&& other) noexcept;
  Trainer& operator=(Trainer&& other) noexcept;

  Index input_size() const noexcept;   // I
  Index output_size() const noexcept;  // O

  // The answer to x, as learn() of the same x would start from; nothing changes.
  // x: (I); read   y: (O); written, logits for classification
  void predict(const T* x, T* y) noexcept;

  // One step of the sequence: learns from it and moves on. Returns the loss of the
  // answer to x before this update. The first k - 1 steps after the beginning or
  // reset() only fill the window. A gradient that is not finite changes no weight.
  // Nor does a label that there is not, or the kind of target of the other task: the
  // step is left out, and NaN returned.
  // learn() and predict() allocate nothing, take no lock and make no system call: as
  // long as the instruction set stays that which the constructor met, for another one
  // needs other memory, and with max_threads = 1; more threads wait for each other.
  // x: (I), target: (O); read
  double learn(const T* x, const T* target) noexcept;
  double learn(const T* x, std::int64_t label) noexcept;

  // Forgets the sequence, not what was learned.
  void reset() noexcept;

  // The weights as they are now: for a Stream, or to be kept. Valid until the next
  // learn() changes their values; the arrays stay where they are.
  const RecurrentConfig& config() const noexcept;
  const LayerArrays<const T>* params() const noexcept;
  Head<T> head() const noexcept;

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

}  // namespace fastlstm
