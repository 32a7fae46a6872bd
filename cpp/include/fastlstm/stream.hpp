// Stream: a stack of layers that advances one time step at a time, for real-time use.
// Everything is allocated and packed when it is made; after that a step allocates
// nothing, takes no lock, makes no system call, starts no thread and never throws.
#pragma once

#include <memory>

#include "fastlstm/export.h"
#include "fastlstm/recurrent.hpp"
#include "fastlstm/types.hpp"

namespace fastlstm {

// How weight_ih and weight_hh are stored. bfloat16: rounded to nearest even, half the
// bytes; sums, states, biases and the head stay float. A projection's weight_hr, and
// W_hn of the GRU that resets before the product, are rounded too but stored as float.
enum class Precision { full, bfloat16 };

// A dense layer after the last recurrent one, as in linear.hpp; weight null: none.
template <class T>
struct Head {
  const T* weight = nullptr;  // (out_features, S), row-major; read
  const T* bias = nullptr;    // (out_features,); read; null counts as zeros
  Index out_features = 0;
};

// The state that streams begin in and that reset() returns to, one row for all of them:
// h (L, S), and c (L, H) of an LSTM. Null counts as zeros.
template <class T>
struct InitialState {
  const T* h = nullptr;
  const T* c = nullptr;
};

template <class T>
struct StreamOptions {
  Index batch_size = 1;                   // N independent streams that advance together
  Precision precision = Precision::full;  // bfloat16: with T = float
  Head<T> head = {};
  InitialState<T> initial = {};
  // Threads that share each step of a plain cell by its units: no more than
  // num_threads() and CPUs, and one for steps of a us and less, or masked ones.
  int threads = 1;
};

// N independent streams of one model. A result depends on nothing but its own stream's
// inputs and is bit-equal to recurrent_forward's on the same instruction set, which is
// the one in force when the object was made. One thread at a time may use an object.
//
// With more threads than one the bits are the same, but a step may make system calls:
// a thread sleeps where no step follows within 50 us, and to wake it takes as long.
template <class T>
class FASTLSTM_API Stream {
 public:
  // Copies what it needs of params (num_layers entries), head and initial state:
  // changes of theirs show after refresh(). Throws std::invalid_argument naming what is
  // wrong (two directions among it), std::bad_alloc, std::length_error.
  Stream(const RecurrentConfig& config, const LayerArrays<const T>* params,
         const StreamOptions<T>& options = {});
  ~Stream();
  Stream(Stream&& other) noexcept;
  Stream& operator=(Stream&& other) noexcept;

  Index batch_size() const noexcept;
  Index input_size() const noexcept;   // I
  Index output_size() const noexcept;  // O: S, or the head's out_features
  Index hidden_size() const noexcept;  // H
  Index state_size() const noexcept;   // S: features of h, H or fewer with a projection
  Index num_layers() const noexcept;   // L
  bool has_cell() const noexcept;      // the state has a c: the LSTM
  // Multiply-adds of a step of all streams.
  Index work() const noexcept;

  // One step.
  // x:      (N, I); read before y is written, so that they may overlap
  // y:      (N, O); written
  // active: (N,) or null: all; where false the row's state and its y stay as they are
  // reset:  (N,) or null: none; where true the row's state is zero before the step,
  //         active or not; as StepMarks::reset, whatever the initial state is
  void step(const T* x, T* y) noexcept;
  void step(const T* x, T* y, const bool* active, const bool* reset) noexcept;

  // `steps` steps: x (steps, N, I), y (steps, N, O), which must not overlap.
  void process(const T* x, T* y, Index steps) noexcept;

  // Sets rows back to the initial state where rows (N,) is true; null: all rows.
  void reset(const bool* rows = nullptr) noexcept;

  // h: (L, N, S), c: (L, N, H). c is for the LSTM, else null. As sources, null counts
  // as zeros.
  void get_state(T* h, T* c) const noexcept;
  void set_state(const T* h, const T* c) noexcept;

  // Takes params, head and initial state anew, of the same shapes; the state stays.
  void refresh(const LayerArrays<const T>* params, const Head<T>& head = {},
               const InitialState<T>& initial = {});

 private:
  struct Body;
  std::unique_ptr<Body> body_;
};

}  // namespace fastlstm
