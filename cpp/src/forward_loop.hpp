// The time loop of a forward pass. For every step t:
//   gates_t = bias + x_t W_ih^T + h_{t-1} W_hh^T;  (h_t, c_t) = cell(gates_t, c_{t-1})
// For a few rows, bias + x W_ih^T is summed first for a block of steps, so that W_ih is
// read once for a tile of steps instead of once a step; the bits are the same. Not
// where the inputs are few. A plan that projects ahead sums the block that comes next
// beside the steps of this one. Used by layer_forward.cpp.
#pragma once

#include <algorithm>

#include "layer.hpp"
#include "previous_state.hpp"

namespace fastlstm {

// Steps and rows (t, n) projected at once, whose sums should stay in cache.
constexpr Index kProjectedSteps = 64;
constexpr Index kProjectedRows = 128;
// So many rows of the batch always are; so many where W_ih has as many bytes: there the
// tiles of a step are low, and steps make higher ones. Measured.
constexpr Index kFewRows = 3;
constexpr Index kMostProjectedRows = 8;
constexpr Index kLargeInputBytes = 1 << 20;
// Cut terms and weights of a panel that come in pieces have more bytes than this.
// Measured.
constexpr Index kPieceBytes = 1600 << 10;
// Where rows end at different times, threads share them anew after this many rows
// (t, n): often enough to stay even, far apart enough for the barrier not to show.
constexpr Index kSpanRows = 512;

template <class T>
struct ForwardLoop {
  const LayerPlan<T>& plan;
  SequenceView<const T> x;
  SequenceView<T> output;
  const PreviousState<T>& previous;
  T* records = nullptr;  // of all steps; null: nothing is kept
  T* state = nullptr;    // LSTM: (P, N, W): the initial c; in inference the current
  PackedWeights<T> packed{};
  const T* weight_hh = nullptr;  // read by an unpacked plan
  // Scratch:
  T* gates = nullptr;  // inference: (P, N, 4 W) of one step, if they are stored at all
  T* sums = nullptr;  // inference: bias + x W_ih^T of the latest steps, (steps, P, 4 W)
  T* ahead_x = nullptr;              // for each thread: of a block, (I, steps)
  Index projected_steps = 0;         // of a block; 0: not projected
  Index kept_steps = 0;              // that sums are kept for
  BFloat16Pair* cut_rows = nullptr;  // for each thread, see TripleGates
  float* piece_sums = nullptr;       // the same

  void take(Arena& arena, const Split& split) {
    const Index threads = split.threads;
    const Index row_panels = checked_product(plan.panels, plan.batch_size);
    projected_steps = kept_steps = steps_at_once();
    if (plan.projects_ahead) {
      projected_steps = plan.kernels->projected_steps;
      kept_steps = 2 * projected_steps;
      ahead_x =
          arena.take<T>(checked_product(threads * projected_steps, plan.input_size));
    }
    gates =
        keep() || plan.fused() ? nullptr : arena.take<T>(row_panels * plan.gate_line());
    if (plan.triple_gates()) {
      cut_rows = arena.take<BFloat16Pair>(checked_product(threads, cut_words()));
      const Index rows = split.by_rows ? plan.batch_size / threads : plan.batch_size;
      if (gates_in_pieces(rows)) piece_sums = arena.take<float>(threads * kPieceSums);
    }
    sums = arena.take<T>(keep() ? 0 : kept_steps * row_panels * plan.gate_line());
  }

  // Of one thread, which may be alone with all rows.
  Index cut_words() const { return cut_words(plan.batch_size); }
  Index cut_words(Index rows) const {
    return checked_product(tile_pairs(std::min(rows, kTripleRows)),
                           plan.gate_steps() * kStepWords);
  }
  static constexpr Index kPieceSums = kPiecePanels * kTripleRows * kSlots * kTileRows;
  // rows: that a thread usually has.
  bool gates_in_pieces(Index rows) const {
    const Index words = cut_words(rows) + plan.gate_steps() * kGateStepWords;
    return words * Index{sizeof(BFloat16Pair)} > kPieceBytes;
  }

  // Steps of a block to project; 0: nothing is.
  Index steps_at_once() const {
    const Index rows = plan.batch_size;
    if (rows == 0 || plan.seq_len == 1) return 0;
    if (rows == 1) {
      if (plan.input_size < kLeastProjected) return 0;
      return keep() ? plan.seq_len : std::min(plan.seq_len, kProjectedSteps);
    }
    const Index bytes = kSlots * plan.hidden_size * plan.input_size * Index{sizeof(T)};
    const bool few =
        rows <= kFewRows || (rows <= kMostProjectedRows && bytes >= kLargeInputBytes);
    const bool wide = plan.input_size >= 2 * kLeastProjected;
    if (!few || !wide || plan.rows.offsets != nullptr) return 0;
    return std::min({plan.seq_len, kProjectedSteps, kProjectedRows / rows});
  }

  void run(const Split& split, const Team& team) const {
    const Index end = plan.seq_len;
    ProjectionArgs<T> ahead{};
    for (Index first = 0; first < end;) {
      const Index last = span_end(first);
      const Part part = part_of(plan, split, team, plan.widest(first, last));
      for (Index step = first; step < last;) {
        if (projected_steps > 0 && step % projected_steps == 0) {
          project(step, part, team, ahead);
        }
        const Index count = alike(split) ? steps_from(step, last) : 1;
        share_ahead(step, count, part, ahead);
        run_steps(step, count, part.first(plan.rows.count(plan.time_of(step))), split,
                  team, ahead);
        step += count;
      }
      first = last;
      if (split.by_rows && first < end) team.barrier();
    }
  }

  // Whether nothing but pointers differs from one step to the next.
  bool alike(const Split& split) const {
    return plan.fused() && split.by_rows && plan.rows.offsets == nullptr &&
           plan.rows.flags == nullptr && previous.factors == nullptr;
  }
  // Of these, as many as there are sums for.
  Index steps_from(Index step, Index end) const {
    if (projected_steps == 0) return end - step;
    return std::min(end - step, projected_steps - step % projected_steps);
  }

  Index span_end(Index first) const {
    if (plan.rows.offsets == nullptr) return plan.seq_len;
    Index last = first + 1;
    while (last < plan.seq_len && plan.rows_between(first, last + 1) <= kSpanRows) {
      ++last;
    }
    return last;
  }

  // More steps than one only where they are alike.
  void run_steps(Index step, Index count, const Part& part, const Split& split,
                 const Team& team, ProjectionArgs<T>& ahead) const {
    const Index t = plan.time_of(step);
    const bool staged = previous.staged(t);
    if (staged) {
      previous.stage_h(t, part);
      if (plan.lstm()) previous.stage_c(t, part, c_before(step, part), first_c());
    }
    const bool dropped = previous.factors != nullptr;
    if (dropped) previous.drop_h(t, part);
    if ((staged || dropped) && !split.by_rows) team.barrier();
    const StateRows h_prev = h_before(t, staged, part.rows.begin);
    LstmStepArgs<T> args;  // not cleared: that and copies showed in small steps
    gate_args(step, h_prev, part, args.gate);
    args.gate.ahead = plan.projects_ahead ? &ahead : nullptr;
    const PanelRows<const T> c_prev =
        staged ? state_rows<T, const T>(plan, previous.staged_c) : c_before(step, part);
    if (plan.fused()) {
      fused_steps(t, count, part, c_prev, team.rank(), args);
    } else {
      pointwise_step(t, part, args.gate, h_prev, c_prev);
    }
    if ((plan.rows.flags_at(t) & kRowHeld) != 0) hold(t, part);
    if (!split.by_rows) team.barrier();
  }

  struct StateRows {
    const T* data;
    Index stride;
  };
  StateRows h_before(Index t, bool staged, Index row) const {
    if (staged) {
      return {previous.staged_h + row * plan.padded_units, plan.padded_units};
    }
    Index stride = 0;
    const T* h = previous.h_rows(t, row, stride);
    return {h, stride};
  }

  bool keep() const { return records != nullptr; }
  // A thread's part of the records is a piece of its own.
  PanelRows<T> records_at(Index t, const Part& piece, Index offset) const {
    return record_rows(plan, piece, records, t, offset);
  }
  PanelRows<T> first_c() const { return state_rows(plan, state); }
  PanelRows<T> c_at(Index t, const Part& piece) const {
    return keep() ? records_at(t, piece, plan.gate_line()) : first_c();
  }
  PanelRows<const T> c_before(Index step, const Part& piece) const {
    const Index t = plan.time_of(step);
    if (previous.carried(t) == 0) return first_c();
    return c_at(previous.time_before(t), piece);
  }
  T* h_at(Index t, Index row) const { return plan.rows.at(output, t, row); }
  PanelRows<T> gates_at(Index t, const Part& piece) const {
    const Index line = plan.gate_line();
    return keep() ? records_at(t, piece, 0)
                  : PanelRows<T>{gates, line, plan.batch_size * line};
  }
  // Projected sums. Where gates are kept, their place takes the sums meanwhile.
  PanelRows<T> sums_at(Index step, const Part& piece) const {
    const Index line = plan.gate_line();
    if (keep()) return gates_at(plan.time_of(step), piece);
    return {sums + step % kept_steps * kept_step(), line, plan.batch_size * line};
  }
  // From one step to the next, in the records and in these sums.
  Index record_step(const Part& piece) const {
    const bool one_piece = plan.rows.offsets != nullptr;
    const Index cells = one_piece ? plan.stored_rows * plan.panels : piece.cells();
    return plan.time_per_step() * cells * plan.record;
  }
  Index sums_step(const Part& piece) const {
    return keep() ? record_step(piece) : kept_step();
  }
  Index kept_step() const { return plan.panels * plan.batch_size * plan.gate_line(); }

  // The block that begins with step `first`; or what is to be done ahead meanwhile.
  void project(Index first, const Part& part, const Team& team,
               ProjectionArgs<T>& ahead) const {
    if (!plan.projects_ahead) return project_at_once(first, part);
    if (first == 0) {
      begin_block(0, part, team, ahead);
      plan.kernels->project(ahead);
    }
    begin_block(first + projected_steps, part, team, ahead);
  }

  void begin_block(Index first, const Part& part, const Team& team,
                   ProjectionArgs<T>& p) const {
    p.steps = std::clamp<Index>(plan.seq_len - first, 0, projected_steps);
    p.next = part.panels.begin * kSlots;
    p.end = p.steps > 0 ? part.panels.end * kSlots : p.next;
    if (p.steps == 0) return;
    T* const columns = ahead_x + team.rank() * projected_steps * plan.input_size;
    for (Index k = 0; k < projected_steps; ++k) {
      const T* row =
          k < p.steps ? plan.rows.at(x, plan.time_of(first + k), 0) : nullptr;
      for (Index i = 0; i < plan.input_size; ++i) {
        columns[i * projected_steps + k] = row != nullptr ? row[i] : T(0);
      }
    }
    p.x = columns;
    p.x_size = plan.input_size;
    p.packed = packed.x_slots;
    p.slot_begin = plan.map_x.slot_begin;
    p.slot_end = plan.map_x.slot_end;
    p.bias = packed.bias;
    const PanelRows<T> to = sums_at(first, part);
    p.sums = to.data;
    p.step_stride = sums_step(part);
    p.panel_stride = to.panel_stride;
  }

  // Each step of a block takes as much of the next one.
  void share_ahead(Index step, Index count, const Part& part,
                   ProjectionArgs<T>& ahead) const {
    if (ahead.steps == 0) return;
    const Index begin = part.panels.begin * kSlots;
    const Index units = part.panels.end * kSlots - begin;
    const Index done = step % projected_steps + count;
    ahead.end = begin + units * done / projected_steps;
  }

  // The steps take the place of the batch rows. A panel for all of these, while its
  // weights are in cache.
  void project_at_once(Index first, const Part& part) const {
    GateArgs<T> gate{};
    gate.rows = std::min(projected_steps, plan.seq_len - first);
    gate.x_stride = plan.time_per_step() * x.stride_t;
    gate.x_size = plan.input_size;
    gate.packed_x = packed.x;
    gate.h = previous.zeros;
    gate.init = packed.bias;
    gate.init_panel_stride = plan.gate_line();
    const PanelRows<T> to = sums_at(first, part);
    gate.gate_row_stride = sums_step(part);
    gate.gate_panel_stride = to.panel_stride;
    const auto gates_of = gate_kernel();
    const Index each = part.row_count() == 1 ? part.panels.end - part.panels.begin : 1;
    for (Index p = part.panels.begin; p < part.panels.end; p += each) {
      gate.panel_begin = p;
      gate.panel_end = p + each;
      for (Index n = part.rows.begin; n < part.rows.end; ++n) {
        gate.x = plan.rows.at(x, plan.time_of(first), n);
        gate.gates = to.at(n, 0);
        gates_of(gate);
      }
    }
  }

  auto gate_kernel() const {
    return plan.cell == CellKind::gru ? plan.kernels->gates_gru
                                      : plan.kernels->gates_lstm;
  }

  void add_gates(GateArgs<T> gate) const {
    if (!plan.unpacked) return gate_kernel()(gate);
    const Index h_size = gate.h_steps;
    gate.h_size = gate.h_steps = 0;
    gate_kernel()(gate);
    if (h_size == 0) return;
    plan.kernels->row_gates({&plan.map_h, gate.panel_begin, gate.panel_end,
                             gate.descending, gate.h, h_size, weight_hh, gate.gates,
                             gate.gate_panel_stride});
  }

  // Sets every field.
  void gate_args(Index step, const StateRows& h_prev, const Part& part,
                 GateArgs<T>& gate) const {
    const Index row = part.rows.begin;
    const Index t = plan.time_of(step);
    gate.rows = part.row_count();
    gate.panel_begin = part.panels.begin;
    gate.panel_end = part.panels.end;
    gate.descending = step % 2 != 0;
    const bool projected = projected_steps > 0;
    gate.x = projected ? nullptr : plan.rows.at(x, t, row);
    gate.x_stride = x.stride_n;
    gate.x_size = plan.input_size;
    const PanelRows<T> from = projected
                                  ? sums_at(step, part)
                                  : PanelRows<T>{packed.bias, 0, plan.gate_line()};
    gate.init = from.at(row, 0);
    gate.init_row_stride = from.row_stride;
    gate.init_panel_stride = from.panel_stride;
    gate.h_size = gate.h_steps = plan.hidden_size;
    if (previous.factors != nullptr) {
      gate.h = previous.dropped_h + row * plan.padded_units;
      gate.h_stride = plan.padded_units;
    } else {
      gate.h = h_prev.data;
      gate.h_stride = h_prev.stride;
      if (gate.h == previous.zeros) gate.h_steps = 0;
    }
    gate.packed_x = packed.x;
    gate.packed_h = packed.h;
    const PanelRows<T> to = gates_at(t, part);
    gate.gates = to.data != nullptr ? to.at(row, 0) : nullptr;
    gate.gate_row_stride = to.row_stride;
    gate.gate_panel_stride = to.panel_stride;
  }

  // The other fields than `gate`, and the steps.
  void fused_steps(Index t, Index count, const Part& part,
                   const PanelRows<const T>& c_prev, int rank,
                   LstmStepArgs<T>& s) const {
    const Index row = part.rows.begin;
    s.c_prev = c_prev.at(row, 0);
    s.c_prev_row_stride = c_prev.row_stride;
    s.c_prev_panel_stride = c_prev.panel_stride;
    const PanelRows<T> c = c_at(t, part);
    s.c = c.at(row, 0);
    s.c_row_stride = c.row_stride;
    s.c_panel_stride = c.panel_stride;
    s.h_out = h_at(t, row);
    s.h_out_stride = output.stride_n;
    s.hidden_size = plan.hidden_size;
    const Index record = keep() ? record_step(part) : 0;
    const Index time = plan.time_per_step();
    const StepStrides strides{time * x.stride_t,
                              projected_steps > 0 ? sums_step(part) : 0, record, record,
                              time * output.stride_t};
    if (packed.triples == nullptr) return plan.kernels->lstm_steps(s, count, strides);
    plan.kernels->triples.lstm_steps(
        s, count, strides,
        {packed.triples, plan.gate_steps(), cut_rows + rank * cut_words(),
         piece_sums != nullptr ? piece_sums + rank * kPieceSums : nullptr});
  }

  void pointwise_step(Index t, const Part& part, const GateArgs<T>& gate,
                      const StateRows& h_prev, const PanelRows<const T>& c_prev) const {
    const Index row = part.rows.begin;
    const Kernels<T>& k = *plan.kernels;
    PointwiseForwardArgs<T> point{};
    point.rows = gate.rows;
    point.panel_begin = gate.panel_begin;
    point.panel_end = gate.panel_end;
    point.hidden_size = plan.hidden_size;
    point.gates = gate.gates;
    point.gate_row_stride = gate.gate_row_stride;
    point.gate_panel_stride = gate.gate_panel_stride;
    point.h_prev = h_prev.data;
    point.h_prev_stride = h_prev.stride;
    point.h_out = h_at(t, row);
    point.h_out_stride = output.stride_n;
    point.cell_activation = static_cast<int>(plan.cell_activation);
    point.output_activation = static_cast<int>(plan.output_activation);
    switch (plan.cell) {
      case CellKind::lstm: {
        const PanelRows<T> c = c_at(t, part);
        point.c_prev = c_prev.at(row, 0);
        point.c_prev_row_stride = c_prev.row_stride;
        point.c_prev_panel_stride = c_prev.panel_stride;
        point.c = c.at(row, 0);
        point.c_row_stride = c.row_stride;
        point.c_panel_stride = c.panel_stride;
        add_gates(gate);
        k.lstm_forward(point);
        break;
      }
      case CellKind::gru:
        add_gates(gate);
        k.gru_forward(point);
        break;
      case CellKind::rnn:
        add_gates(gate);
        k.rnn_forward(point);
        break;
    }
  }

  // Puts the staged state back where the step was masked.
  void hold(Index t, const Part& part) const {
    const Team::Range units = units_of(plan, part);
    for (Index n = part.rows.begin; n < part.rows.end; ++n) {
      if (!previous.held(t, n)) continue;
      const T* h = previous.staged_h + n * plan.padded_units;
      std::copy(h + units.begin, h + units.end, h_at(t, n) + units.begin);
      if (!plan.lstm()) continue;
      for (Index p = part.panels.begin; p < part.panels.end; ++p) {
        std::copy_n(state_rows(plan, previous.staged_c).at(n, p), plan.width,
                    c_at(t, part).at(n, p));
      }
    }
  }
};

}  // namespace fastlstm
