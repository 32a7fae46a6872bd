// The general path: one layer in one direction whose cell is a variant (CellOptions).
// Threads share the batch rows and each takes its rows through time alone. A step is
// the product into the records, then row-wise kernels. Called by recurrent.cpp only.
#pragma once

#include <algorithm>

#include "dropout.hpp"
#include "layer.hpp"

namespace fastlstm {

template <class T>
void general_forward(const LayerPlan<T>& plan, const LayerForward<T>& args,
                     BufferPool& pool);

template <class T>
void general_backward(const LayerPlan<T>& plan, const LayerBackward<T>& args,
                      BufferPool& pool);

template <class T>
PieceBackward<T> general_backward_pieces(const LayerPlan<T>& whole,
                                         const LayerBackward<T>& args,
                                         BufferPool& pool);

// Units in their natural order, 4 W to a panel: for products with row-major operands.
template <class T>
PanelMap natural_map(const LayerPlan<T>& plan, Index units) {
  const Index w = plan.width;
  return {units, kSlots * w, {}, {0, w, 2 * w, 3 * w}, 0, kSlots};
}

// `units` up to whole panels of 4 W, the row stride of arrays over units.
template <class T>
Index padded(const LayerPlan<T>& plan, Index units) {
  const Index panel = kSlots * plan.width;
  return (units + panel - 1) / panel * panel;
}

// Column blocks of 4 W.
template <class T>
Index column_blocks(const LayerPlan<T>& plan, Index cols) {
  return padded(plan, cols) / (kSlots * plan.width);
}

template <class T>
using GateProduct = void (*)(const GateArgs<T>&);

// That of the kernel table, or of one of its kernels for streams.
template <class T, class Table>
GateProduct<T> gate_product(const LayerPlan<T>& plan, const Table& table) {
  return plan.cell == CellKind::gru ? table.gates_gru : table.gates_lstm;
}

// The GRU that resets before the product: h feeds r and z, r * h feeds n_h alone.
template <class T>
bool resets_before(const LayerPlan<T>& plan) {
  return plan.cell == CellKind::gru && !plan.options.reset_after;
}

template <class T>
bool projects(const LayerPlan<T>& plan) {
  return plan.options.proj_size > 0;
}

// The step has a product inside: W_hr h, or W_hn (r * h).
template <class T>
bool inner_product(const LayerPlan<T>& plan) {
  return projects(plan) || resets_before(plan);
}

// W_hn of a GRU as slot 3 alone.
inline PanelMap candidate_map(PanelMap map_h) {
  map_h.slot_begin = kSlots - 1;
  return map_h;
}

// Where parameters that are vectors lie when packed: slots i, f, o of the peepholes,
// slot 0 for gain_c and slot 1 for bias_c. The map of `count` slots from `slot` on, the
// rows of the parameter starting at `row`.
template <class T>
PanelMap vector_map(const LayerPlan<T>& plan, int slot, int count, Index row = 0) {
  PanelMap map = plan.map_x;
  map.slot_begin = slot;
  map.slot_end = slot + count;
  for (int s = 0; s < count; ++s) {
    map.slot_row[slot + s] = row + s * plan.hidden_size;
  }
  return map;
}

// The vectors of a cell's options, packed (P, 4 W) each.
template <class T>
struct CellVectors {
  T* peephole;
  T* gain_ih;
  T* gain_hh;
  T* norm_c;  // gain_c and bias_c
  T* zeros;
};

template <class T>
CellVectors<T> take_vectors(const LayerPlan<T>& plan, Arena& arena);

template <class T>
void pack_vectors(const LayerPlan<T>& plan, const LayerArrays<const T>& params,
                  const CellVectors<T>& vectors);

// What the kernels take; `bias` packed by pack_weights.
template <class T>
GeneralCell<T> make_cell(const LayerPlan<T>& plan, const CellVectors<T>& vectors,
                         const T* bias);

// What make_cell takes, in memory of its own, for a tape.
template <class T>
Buffer keep_vectors(const LayerPlan<T>& plan, const LayerArrays<const T>& params,
                    BufferPool& pool);

// The cell that a tape has kept.
template <class T>
GeneralCell<T> kept_cell(const LayerPlan<T>& plan, const Buffer& vectors);

// The bias that layer normalisation adds: (P, 4 W).
template <class T>
void pack_norm_bias(const LayerPlan<T>& plan, const LayerArrays<const T>& params,
                    T* bias);

// Sums of a row (t, n) in the records: rows of (P, record), packed time by time.
template <class T, class Value>
Value* record_at(const LayerPlan<T>& plan, Value* records, Index row) {
  return records + row * plan.panels * plan.record;
}

template <class T>
int general_threads(const LayerPlan<T>& plan);

// The share of each unit that zoneout keeps in `count` rows at time t from `row` on:
// drawn in training, the probability itself in inference. `of_c` tells c from h.
template <class T, class LayerArgs>
void fill_zones(const LayerPlan<T>& plan, const LayerArgs& args, bool training, Index t,
                Index row, Index count, bool of_c, T* out) {
  const double p = of_c ? plan.options.zoneout_c : plan.options.zoneout_h;
  const Index units = of_c ? plan.hidden_size : plan.output_size;
  for (Index place = row; place < row + count; ++place, out += padded(plan, units)) {
    if (!training) {
      for (Index u = 0; u < units; ++u) out[u] = static_cast<T>(p);
      continue;
    }
    const Index n = args.source != nullptr ? args.source[place] : place;
    draw_zoneout(p, args.zoneout_seed, 2 * args.index + (of_c ? 1 : 0),
                 (plan.rows.start + t) * plan.batch_size + n, units, out);
  }
}

// What recurrent dropout leaves of the values of `count` rows, at one stride with their
// factors: 0 or value * factor, so that NaN does not pass a zero.
template <class T>
void drop_rows(const T* factors, Index count, Index stride, const T* values, T* out) {
  for (Index i = 0; i < count * stride; ++i) {
    out[i] = factors[i] != 0 ? values[i] * factors[i] : T(0);
  }
}

// Calls run(begin, end) for each run of rows in [begin, end) that are not held at time
// t.
template <class Run>
void for_live_rows(const SequenceRows& rows, Index t, Index begin, Index end,
                   const Run& run) {
  if ((rows.flags_at(t) & kRowHeld) == 0) {
    if (begin < end) run(begin, end);
    return;
  }
  const std::uint8_t* flags = rows.flags_of(t);
  for (Index row = begin; row < end;) {
    Index stop = row;
    while (stop < end && (flags[stop] & kRowHeld) == 0) ++stop;
    if (stop > row) run(row, stop);
    row = stop + 1;
  }
}

// Calls visit(row) for the rows of [begin, end) that have a flag at time t.
template <class Visit>
void for_flagged_rows(const SequenceRows& rows, Index t, RowFlag flag, Index begin,
                      Index end, const Visit& visit) {
  if ((rows.flags_at(t) & flag) == 0) return;
  const std::uint8_t* flags = rows.flags_of(t);
  for (Index row = begin; row < end; ++row) {
    if ((flags[row] & flag) != 0) visit(row);
  }
}

// (rows, units) -> (rows, stride), padded with zeros; null reads as zeros.
template <class T>
void pad_rows(const T* from, Index rows, Index units, Index stride, T* to) {
  std::fill_n(to, rows * stride, T(0));
  if (from == nullptr) return;
  for (Index n = 0; n < rows; ++n) {
    std::copy_n(from + n * units, units, to + n * stride);
  }
}

}  // namespace fastlstm
