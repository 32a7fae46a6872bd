// One layer in one direction over all time steps, or a piece of them, forward and
// backward. Called by recurrent.cpp and checkpoints.cpp only.
#pragma once

#include <array>
#include <functional>

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
  T* records;  // for all steps, rows and panels, see record_rows(); null: nothing kept
  RecordCut* record_cut;           // set where records are kept
  const PackedWeights<T>* packed;  // null: of the call alone
  bool packs;                      // the call is to fill `packed`
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
  bool accumulate_grads;
  SequenceView<const T> x;
  SequenceView<const T> output;
  SequenceView<const T> d_output;  // data may be null
  const T* h0;
  const T* c0;
  const T* d_h_n;  // (N, H) or null
  const T* d_c_n;
  const T* records;
  RecordCut record_cut;
  const T* packed_h;  // W_hh as forward has packed it, or null; see reads_panels()
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

// Both directions of a layer, side by side where threads cannot share the rows: then
// they need fewer barriers, or none.
template <class T>
void directions_forward(std::array<LayerPlan<T>, 2> plans,
                        const std::array<LayerForward<T>, 2>& args, BufferPool& pool);

template <class T>
void layer_backward(const LayerPlan<T>& plan, const LayerBackward<T>& args,
                    BufferPool& pool);

// Goes back through the steps [begin, end), whose arrays start with them: h0 and c0 are
// the states before the first. The gradients by states are those of the whole sequence.
template <class T>
using PieceBackward =
    std::function<void(Index begin, Index end, const LayerBackward<T>& args)>;

// For a sequence that comes back in pieces, the last one first, to the bits of the
// whole. args: what all pieces share.
template <class T>
PieceBackward<T> layer_backward_pieces(const LayerPlan<T>& whole,
                                       const LayerBackward<T>& args, BufferPool& pool);

}  // namespace fastlstm
