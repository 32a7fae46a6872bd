// One layer in one direction over all time steps, forward and backward. Called by
// recurrent.cpp only.
#pragma once

#include "dropout.hpp"
#include "layer_plan.hpp"

namespace fastlstm {

template <class T>
struct LayerForward {
  LayerArrays<const T> params;
  SequenceView<const T> x;  // (T, N, I)
  SequenceView<T> output;   // (T, N, H): this direction's columns
  const T* h0;              // (N, H) or null
  const T* c0;
  T* h_n;  // (N, H)
  T* c_n;
  T* records;      // (T, P, N, record) or null: nothing is kept
  T* checkpoints;  // LSTM: c after every k-th step but the last, each (P, N, W); or
                   // null
  Index checkpoint_every;  // k
  RecurrentDropout dropout;
  // For zoneout; index: of the layer and direction, in the order of the parameters;
  // source (N): the n that each row stands for, null: its place.
  std::uint64_t zoneout_seed;
  Index index;
  const Index* source;
};

template <class T>
struct LayerBackward {
  LayerArrays<const T> params;
  LayerArrays<T> grads;
  SequenceView<const T> x;
  SequenceView<const T> output;
  SequenceView<const T> d_output;  // data may be null
  const T* h0;
  const T* c0;
  const T* d_h_n;  // (N, H) or null
  const T* d_c_n;
  const T* records;      // null: they are computed anew from the checkpoints
  const T* checkpoints;  // as in forward
  Index checkpoint_every;
  RecurrentDropout dropout;
  SequenceView<T> d_x;  // data may be null
  bool accumulate_d_x;  // the other direction has written d_x before
  T* d_h0;              // (N, H) or null
  T* d_c0;
  std::uint64_t zoneout_seed;  // these three as in forward
  Index index;
  const Index* source;
};

template <class T>
void layer_forward(const LayerPlan<T>& plan, const LayerForward<T>& args,
                   BufferPool& pool);

template <class T>
void layer_backward(const LayerPlan<T>& plan, const LayerBackward<T>& args,
                    BufferPool& pool);

}  // namespace fastlstm
