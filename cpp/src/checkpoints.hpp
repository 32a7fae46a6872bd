// Training passes whose tape keeps the states before every k-th step instead of all
// gates: backward runs each segment of k steps forward again when it comes to it. A
// stack in one direction takes a segment through all its layers, so nothing else is
// kept. With two directions a layer needs all of the one below, so the outputs between
// layers are kept whole. Called by recurrent.cpp only.
#pragma once

#include "fastlstm/recurrent.hpp"

namespace fastlstm {

// The arguments' x, output, d_output and d_x are the caller's own, in the caller's
// order of rows, where this is true and the rows are packed; all else is packed by the
// order.
inline bool packs_segments(const RecurrentConfig& config) {
  return !config.bidirectional;
}

// Fills the tape, whose sizes, states and seed are set.
template <class T>
void checkpointed_forward(const ForwardArgs<T>& args, BufferPool& pool, Tape<T>& tape);

template <class T>
void checkpointed_backward(const BackwardArgs<T>& args, BufferPool& pool,
                           const Tape<T>& tape);

}  // namespace fastlstm
