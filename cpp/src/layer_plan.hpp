// The plan of one layer in one direction: its sizes, how units map to panels, how its
// work is shared by threads, and its packed weights. Used by the two time loops.
#pragma once

#include "arena.hpp"
#include "fastlstm/recurrent.hpp"
#include "kernels/table.hpp"
#include "parallel.hpp"
#include "rows.hpp"

namespace fastlstm {

template <class T>
struct LayerPlan {
  const Kernels<T>* kernels;
  CellKind cell;
  Activation cell_activation;
  Activation output_activation;
  bool reverse;
  SequenceRows rows;
  Index seq_len, batch_size, input_size, hidden_size;
  Index width;         // W
  Index panels;        // P
  Index panel_units;   // W, or 4 W for the RNN
  Index padded_units;  // P * panel_units
  Index record;        // values kept per row and panel: 4 W gates (+ W c for the LSTM)
  PanelMap map_x;      // rows of weight_ih
  PanelMap map_h;      // rows of weight_hh

  bool lstm() const { return cell == CellKind::lstm; }
  Index gate_line() const { return kSlots * width; }
  // The activations are the standard ones, so that the fused step applies.
  bool fused() const {
    return lstm() && cell_activation == Activation::tanh &&
           output_activation == Activation::tanh;
  }
  Index time_of(Index step) const { return reverse ? seq_len - 1 - step : step; }
  Index record_count() const {
    return checked_product(checked_product(seq_len, batch_size), panels * record);
  }
};

template <class T>
LayerPlan<T> make_plan(const RecurrentConfig& config, Index layer, bool reverse,
                       const SequenceRows& rows);

// How threads share a layer. By rows: each thread runs its batch rows through time on
// its own. By panels: all threads work on each step, with a barrier between steps.
// Neither changes the order of any sum.
struct Split {
  int threads;
  bool by_rows;
};

template <class T>
Split choose_split(const LayerPlan<T>& plan);

struct Part {
  Team::Range rows;
  Team::Range panels;
};

template <class T>
Part part_of(const LayerPlan<T>& plan, const Split& split, const Team& team);

// Where a value kept per step, row and panel lies.
template <class T>
struct StepView {
  T* data;
  Index step_stride, row_stride, panel_stride;
  T* at(Index step, Index row) const {
    return data + step * step_stride + row * row_stride;
  }
};

// Gates, and c behind them, in the records (T, P, N, record).
template <class T, class Value>
StepView<Value> record_view(const LayerPlan<T>& plan, Value* records, Index offset) {
  const Index panel = plan.batch_size * plan.record;
  return {records + offset, plan.panels * panel, plan.record, panel};
}

// (N, H) -> (P, N, W), padded with zeros; null reads as zeros.
template <class T>
void pack_state(const LayerPlan<T>& plan, const T* state, T* packed);

// The inverse, from rows of W at these strides.
template <class T>
void unpack_state(const LayerPlan<T>& plan, const T* packed, Index row_stride,
                  Index panel_stride, T* state);

inline Index slots_of(const PanelMap& map) { return map.slot_end - map.slot_begin; }

template <class T>
struct PackedWeights {
  T* x;     // (P, I, x slots * W)
  T* h;     // (P, H, h slots * W)
  T* bias;  // (P, 4 W)
};

template <class T>
PackedWeights<T> take_weights(const LayerPlan<T>& plan, Arena& arena);

// All threads of the team call this; ends with a barrier.
template <class T>
void pack_weights(const LayerPlan<T>& plan, const LayerArrays<const T>& params,
                  const Team& team, const PackedWeights<T>& packed);

// The map of the one slot that bias_hn feeds: n_h, whose rows in bias_hn start at 0.
inline PanelMap bias_hn_map(PanelMap map_h) {
  map_h.slot_begin = kSlots - 1;
  map_h.slot_row[kSlots - 1] = 0;
  return map_h;
}

}  // namespace fastlstm
