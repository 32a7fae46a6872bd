// Reads what a tape has kept, for analysis: c and the gates of every step, and how
// much.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "general.hpp"
#include "stack.hpp"

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

// The records of one layer and direction as those of a plain cell.
template <class T>
class PlainRecords {
 public:
  PlainRecords(const Tape<T>& tape, const LayerPlan<T>& plan, Index i)
      : tape_(tape),
        plan_(plan),
        index_(i),
        records_(tape.records[static_cast<std::size_t>(i)].template as<T>()) {
    if (plan.options.plain()) return;
    cell_ = kept_cell(plan, tape.vectors[static_cast<std::size_t>(i)]);
    gates_.resize(static_cast<std::size_t>(plan.batch_size * plan.panels * line()));
    if (plan.options.zoneout_c > 0) {
      zones_.resize(static_cast<std::size_t>(plan.batch_size * cell_.stride));
    }
  }

  // Goes to time t.
  void seek(Index t) {
    time_ = t;
    if (plan_.options.plain()) return;
    const Index rows = plan_.rows.count(t);
    GeneralGatesArgs<T> a{};
    a.rows = rows;
    a.records = record_at(plan_, records_, plan_.rows.first(t));
    a.row_stride = plan_.panels * plan_.record;
    a.out = gates_.data();
    a.out_stride = line();
    if (!zones_.empty()) {
      LayerForward<T> pass{};
      set_randomness(tape_, index_, pass);
      fill_zones(plan_, pass, true, t, 0, rows, true, zones_.data());
      a.zone_c = zones_.data();
    }
    const GeneralKernels<T>& k = plan_.kernels->general;
    (plan_.lstm()                  ? k.lstm_gates
     : plan_.cell == CellKind::gru ? k.gru_gates
                                   : k.rnn_gates)(cell_, a);
    gate_rows_ = {gates_.data(), line(), rows * line()};
  }
  const T* at(Index row, Index panel) const {
    if (!plan_.options.plain()) return gate_rows_.at(row, panel);
    const T* record = nullptr;
    for_record_pieces(
        plan_, tape_.record_cuts[static_cast<std::size_t>(index_)],
        {{row, row + 1}, {panel, panel + 1}}, [&](const Part&, const Part& piece) {
          record = record_rows(plan_, piece, records_, time_, 0).at(row, panel);
        });
    return record;
  }

 private:
  Index line() const { return (plan_.lstm() ? kSlots + 1 : kSlots) * plan_.width; }

  const Tape<T>& tape_;
  const LayerPlan<T>& plan_;
  Index index_;
  const T* records_;
  Index time_ = 0;
  GeneralCell<T> cell_{};
  PanelRows<const T> gate_rows_{};
  std::vector<T> gates_, zones_;
};

// c of a held step of a variant, which has no record: that of the step before.
template <class T>
void copy_held_cell(const Tape<T>& tape, const LayerPlan<T>& plan, Index i, Index t,
                    Index place, const SequenceView<T>& out, T* row) {
  const bool reset = (plan.rows.flags_of(t)[place] & kRowReset) != 0;
  const T* c = nullptr;
  if (!reset && place < plan.rows.carried(t, plan.reverse)) {
    c = row + (plan.reverse ? out.stride_t : -out.stride_t);
  } else if (!reset && c_before(tape, 0, i) != nullptr) {
    c = c_before(tape, 0, i) + place * plan.hidden_size;
  }
  if (c != nullptr) std::copy_n(c, plan.hidden_size, row);
}

// Copies lanes of the records of one layer and direction to their units, step by step.
// `offset` of slot s is s * W; c is the slot behind the gates. A held step has c, but
// no gates.
template <class T>
void copy_records(const Tape<T>& tape, const LayerPlan<T>& plan, Index i,
                  GateSlots slots, SequenceView<T> out) {
  const bool of_cell = slots.begin == kSlots;
  PlainRecords<T> records(tape, plan, i);
  for (Index step = 0; step < plan.seq_len; ++step) {
    const Index t = plan.time_of(step);
    records.seek(t);
    const bool any_held = (plan.rows.flags_at(t) & kRowHeld) != 0;
    for (Index place = 0; place < plan.rows.count(t); ++place) {
      const Index n = tape.order.packed
                          ? tape.order.source[static_cast<std::size_t>(place)]
                          : place;
      T* row = out.data + t * out.stride_t + n * out.stride_n;
      const bool held = any_held && (plan.rows.flags_of(t)[place] & kRowHeld) != 0;
      if (held && of_cell && !plan.options.plain()) {
        copy_held_cell(tape, plan, i, t, place, out, row);
      }
      if (held && !(of_cell && plan.options.plain())) continue;
      for (Index p = 0; p < plan.panels; ++p) {
        for (int s = slots.begin; s < slots.end; ++s) {
          const Index unit =
              p * plan.panel_units + (s < kSlots ? plan.map_h.slot_unit[s] : 0);
          const Index lanes = std::min(plan.width, plan.hidden_size - unit);
          if (lanes > 0)
            std::copy_n(records.at(place, p) + s * plan.width, lanes, row + unit);
        }
      }
    }
  }
}

template <class T>
void read_tape(const Tape<T>& tape, Index layer, GateSlots slots, SequenceView<T> out) {
  const RecurrentConfig& config = tape.config;
  if (tape.checkpoint_every > 0) {
    throw std::logic_error("a tape with checkpoints keeps neither gates nor cell");
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
    copy_records(tape, plan, layer * directions + d, slots,
                 {out.data + d * config.hidden_size, out.stride_t, out.stride_n});
  }
}

}  // namespace

template <class T>
Index tape_bytes(const Tape<T>& tape) {
  std::size_t bytes =
      tape.packed_x.capacity() + tape.packed_output.capacity() + tape.state.capacity() +
      tape.checkpoints.capacity() +
      (tape.order.source.size() + tape.order.offsets.size()) * sizeof(Index) +
      tape.order.flags.size() + tape.order.any.size();
  for (const auto* buffers : {&tape.records, &tape.vectors, &tape.weights,
                              &tape.layer_outputs, &tape.dropped_outputs}) {
    for (const Buffer& buffer : *buffers) bytes += buffer.capacity();
  }
  return static_cast<Index>(bytes);
}

template <class T>
void tape_cell(const Tape<T>& tape, Index layer, SequenceView<T> out) {
  if (tape.config.cell != CellKind::lstm) {
    throw std::logic_error("only an LSTM has a cell state");
  }
  read_tape(tape, layer, {kSlots, kSlots + 1}, out);
}

template <class T>
void tape_gate(const Tape<T>& tape, Index layer, Index gate, SequenceView<T> out) {
  const Index gates = tape.config.gate_rows() / tape.config.hidden_size;
  if (gate < 0 || gate >= gates) {
    throw std::invalid_argument("gate must be from 0 to " + std::to_string(gates - 1) +
                                ", got " + std::to_string(gate));
  }
  read_tape(tape, layer, slots_of_gate(tape.config.cell, gate), out);
}

template Index tape_bytes<float>(const Tape<float>&);
template Index tape_bytes<double>(const Tape<double>&);
template void tape_cell<float>(const Tape<float>&, Index, SequenceView<float>);
template void tape_cell<double>(const Tape<double>&, Index, SequenceView<double>);
template void tape_gate<float>(const Tape<float>&, Index, Index, SequenceView<float>);
template void tape_gate<double>(const Tape<double>&, Index, Index,
                                SequenceView<double>);

}  // namespace fastlstm
