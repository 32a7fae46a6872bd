// Reads what a tape has kept, for analysis: c and the gates of every step.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "layer_plan.hpp"
#include "ragged.hpp"

namespace fastlstm {
namespace {

// Where a gate lies in the records. LSTM: slots i, f, g, o. GRU: r, z, n are in the
// slots 1, 2, 0. RNN: the one gate fills all four.
struct GateSlots {
  int begin, end;
};
GateSlots slots_of_gate(CellKind cell, Index gate) {
  const auto g = static_cast<int>(gate);
  switch (cell) {
    case CellKind::lstm:
      return {g, g + 1};
    case CellKind::gru:
      return {(g + 1) % 3, (g + 1) % 3 + 1};
    default:
      return {0, kSlots};
  }
}

// Copies lanes of the records of one layer and direction to their units. `offset` of
// slot s is s * W; c is the slot behind the gates.
template <class T>
void copy_records(const Tape<T>& tape, const LayerPlan<T>& plan, const T* records,
                  GateSlots slots, bool clean, SequenceView<T> out) {
  for (Index t = 0; t < plan.seq_len; ++t) {
    const PanelRows<const T> from =
        record_rows(plan, records, t, 0, 0, plan.batch_size);
    const bool any_held = clean && (plan.rows.flags_at(t) & kRowHeld) != 0;
    for (Index place = 0; place < plan.rows.count(t); ++place) {
      if (any_held && (plan.rows.flags_of(t)[place] & kRowHeld) != 0) continue;
      const Index n = tape.order.packed
                          ? tape.order.source[static_cast<std::size_t>(place)]
                          : place;
      T* row = out.data + t * out.stride_t + n * out.stride_n;
      for (Index p = 0; p < plan.panels; ++p) {
        for (int s = slots.begin; s < slots.end; ++s) {
          const Index unit =
              p * plan.panel_units + (s < kSlots ? plan.map_h.slot_unit[s] : 0);
          const Index lanes = std::min(plan.width, plan.hidden_size - unit);
          if (lanes > 0)
            std::copy_n(from.at(place, p) + s * plan.width, lanes, row + unit);
        }
      }
    }
  }
}

template <class T>
void read_tape(const Tape<T>& tape, Index layer, GateSlots slots, bool clean,
               SequenceView<T> out) {
  const RecurrentConfig& config = tape.config;
  if (tape.checkpoint_every > 0) {
    throw std::logic_error("a tape with checkpoints keeps neither gates nor cell");
  }
  if (!config.options.plain()) {
    throw std::logic_error("a tape of a variant keeps neither gates nor cell");
  }
  if (tape.width != kernels<T>().width) {
    throw std::logic_error("the instruction set changed since forward");
  }
  if (layer < 0 || layer >= config.num_layers) {
    throw std::invalid_argument("layer must be from 0 to " +
                                std::to_string(config.num_layers - 1) + ", got " +
                                std::to_string(layer));
  }
  const Index directions = config.directions();
  for (Index t = 0; t < tape.seq_len; ++t) {
    for (Index n = 0; n < tape.batch_size; ++n) {
      std::fill_n(out.data + t * out.stride_t + n * out.stride_n,
                  directions * config.hidden_size, T(0));
    }
  }
  for (Index d = 0; d < directions; ++d) {
    const LayerPlan<T> plan =
        make_plan<T>(config, layer, d == 1, rows_of(tape.order, tape.batch_size));
    const auto i = static_cast<std::size_t>(layer * directions + d);
    copy_records(tape, plan, tape.records[i].template as<T>(), slots, clean,
                 {out.data + d * config.hidden_size, out.stride_t, out.stride_n});
  }
}

}  // namespace

template <class T>
void tape_cell(const Tape<T>& tape, Index layer, SequenceView<T> out) {
  if (tape.config.cell != CellKind::lstm) {
    throw std::logic_error("only an LSTM has a cell state");
  }
  read_tape(tape, layer, {kSlots, kSlots + 1}, false, out);
}

template <class T>
void tape_gate(const Tape<T>& tape, Index layer, Index gate, SequenceView<T> out) {
  const Index gates = tape.config.gate_rows() / tape.config.hidden_size;
  if (gate < 0 || gate >= gates) {
    throw std::invalid_argument("gate must be from 0 to " + std::to_string(gates - 1) +
                                ", got " + std::to_string(gate));
  }
  read_tape(tape, layer, slots_of_gate(tape.config.cell, gate), true, out);
}

template void tape_cell<float>(const Tape<float>&, Index, SequenceView<float>);
template void tape_cell<double>(const Tape<double>&, Index, SequenceView<double>);
template void tape_gate<float>(const Tape<float>&, Index, Index, SequenceView<float>);
template void tape_gate<double>(const Tape<double>&, Index, Index,
                                SequenceView<double>);

}  // namespace fastlstm
