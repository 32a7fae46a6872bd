// The forward time loop of one layer. For every step t:
//   gates_t = bias + x_t W_ih^T + h_{t-1} W_hh^T;  (h_t, c_t) = cell(gates_t, c_{t-1})
// For a batch of one, bias + x W_ih^T is summed first for many steps at once, so that
// W_ih is read once for a tile of steps instead of once a step; the bits are the same.
#include <algorithm>

#include "layer.hpp"
#include "previous_state.hpp"

namespace fastlstm {
namespace {

// Steps projected at once in inference, whose sums should stay in cache.
constexpr Index kProjectedSteps = 64;
// Where rows end at different times, threads share them anew after this many rows
// (t, n): often enough to stay even, far apart enough for the barrier not to show.
constexpr Index kSpanRows = 512;

template <class T>
struct ForwardLoop {
  const LayerPlan<T>& plan;
  const LayerForward<T>& args;
  PackedWeights<T> packed;
  PreviousState<T> previous;
  T* state;  // LSTM: (P, N, W): the initial c, in inference the current one
  T* gates;  // inference: (P, N, 4 W) of one step; null where they are not wanted
  T* sums;   // inference: bias + x W_ih^T of the latest steps, (steps, P, 4 W)
  Index projected_steps;  // 0: not projected

  void run(const Split& split, const Team& team) const {
    pack_weights(plan, args.params, team, packed);
    for (Index begin = 0; begin < plan.seq_len;) {
      const Index end = span_end(begin);
      const Part part = part_of(plan, split, team, plan.widest(begin, end));
      for (Index step = begin; step < end; ++step) {
        if (projected_steps > 0 && step % projected_steps == 0) project(step, part);
        run_step(step, part.first(plan.rows.count(plan.time_of(step))), split, team);
      }
      begin = end;
      if (split.by_rows && begin < plan.seq_len) team.barrier();
    }
  }

  Index span_end(Index begin) const {
    if (plan.rows.offsets == nullptr) return plan.seq_len;
    Index end = begin + 1;
    while (end < plan.seq_len && plan.rows_between(begin, end + 1) <= kSpanRows) ++end;
    return end;
  }

  void run_step(Index step, const Part& part, const Split& split,
                const Team& team) const {
    const Index t = plan.time_of(step);
    const bool staged = previous.staged(t);
    if (staged) {
      previous.stage_h(t, part);
      if (plan.lstm()) previous.stage_c(t, part, c_before(t), first_c());
      if (!split.by_rows) team.barrier();
    }
    const GateArgs<T> gate = gate_args(step, staged, part);
    const PanelRows<const T> c_prev =
        staged ? state_rows(plan, previous.staged_c) : c_before(t);
    if (plan.fused()) {
      fused_step(t, part.rows.begin, gate, c_prev);
    } else {
      pointwise_step(t, part.rows.begin, gate, c_prev);
    }
    if ((plan.rows.flags_at(t) & kRowHeld) != 0) hold(t, part);
    if (!split.by_rows) team.barrier();
  }

  bool keep() const { return args.records != nullptr; }
  PanelRows<T> first_c() const { return state_rows(plan, state); }
  PanelRows<T> c_at(Index t) const {
    return keep() ? record_rows(plan, args.records, t, plan.gate_line()) : first_c();
  }
  PanelRows<T> c_before(Index t) const {
    return previous.carried(t) > 0 ? c_at(previous.time_before(t)) : first_c();
  }
  PanelRows<T> gates_at(Index t) const {
    const Index line = plan.gate_line();
    return keep() ? record_rows(plan, args.records, t, 0)
                  : PanelRows<T>{gates, line, plan.batch_size * line};
  }
  // Sums of a batch of one. Where gates are kept, their place takes the sums meanwhile.
  PanelRows<T> sums_at(Index step) const {
    const Index line = plan.gate_line();
    if (keep()) return gates_at(plan.time_of(step));
    return {sums + step % projected_steps * plan.panels * line, 0, line};
  }

  // The steps take the place of the batch rows.
  void project(Index begin, const Part& part) const {
    const Index sign = plan.reverse ? -1 : 1;
    GateArgs<T> gate{};
    gate.rows = std::min(projected_steps, plan.seq_len - begin);
    gate.panel_begin = part.panels.begin;
    gate.panel_end = part.panels.end;
    gate.x = plan.rows.at(args.x, plan.time_of(begin), 0);
    gate.x_stride = sign * args.x.stride_t;
    gate.x_size = plan.input_size;
    gate.packed_x = packed.x;
    gate.h = previous.zeros;
    gate.init = packed.bias;
    gate.init_panel_stride = plan.gate_line();
    gate.gates = sums_at(begin).data;
    gate.gate_row_stride =
        keep() ? sign * plan.panels * plan.record : plan.panels * plan.gate_line();
    gate.gate_panel_stride = sums_at(begin).panel_stride;
    (plan.cell == CellKind::gru ? plan.kernels->gates_gru
                                : plan.kernels->gates_lstm)(gate);
  }

  GateArgs<T> gate_args(Index step, bool staged, const Part& part) const {
    const Index row = part.rows.begin;
    const Index t = plan.time_of(step);
    GateArgs<T> gate{};
    gate.rows = part.row_count();
    gate.panel_begin = part.panels.begin;
    gate.panel_end = part.panels.end;
    gate.descending = step % 2 != 0;
    if (projected_steps > 0) {
      const PanelRows<T> from = sums_at(step);
      gate.init = from.data;
      gate.init_panel_stride = from.panel_stride;
    } else {
      gate.x = plan.rows.at(args.x, t, row);
      gate.x_stride = args.x.stride_n;
      gate.x_size = plan.input_size;
      gate.init = packed.bias;
      gate.init_panel_stride = plan.gate_line();
    }
    gate.h_size = gate.h_steps = plan.hidden_size;
    if (staged) {
      gate.h = previous.staged_h + row * plan.padded_units;
      gate.h_stride = plan.padded_units;
    } else {
      gate.h = previous.h_rows(t, row, gate.h_stride);
      if (gate.h == previous.zeros) gate.h_steps = 0;
    }
    gate.packed_x = packed.x;
    gate.packed_h = packed.h;
    const PanelRows<T> to = gates_at(t);
    if (to.data != nullptr) gate.gates = to.at(row, 0);
    gate.gate_row_stride = to.row_stride;
    gate.gate_panel_stride = to.panel_stride;
    return gate;
  }

  void fused_step(Index t, Index row, const GateArgs<T>& gate,
                  const PanelRows<const T>& c_prev) const {
    const PanelRows<T> c = c_at(t);
    plan.kernels->lstm_step({gate, c_prev.at(row, 0), c_prev.row_stride,
                             c_prev.panel_stride, c.at(row, 0), c.row_stride,
                             c.panel_stride, plan.rows.at(args.output, t, row),
                             args.output.stride_n, plan.hidden_size});
  }

  void pointwise_step(Index t, Index row, const GateArgs<T>& gate,
                      const PanelRows<const T>& c_prev) const {
    const Kernels<T>& k = *plan.kernels;
    PointwiseForwardArgs<T> point{};
    point.rows = gate.rows;
    point.panel_begin = gate.panel_begin;
    point.panel_end = gate.panel_end;
    point.hidden_size = plan.hidden_size;
    point.gates = gate.gates;
    point.gate_row_stride = gate.gate_row_stride;
    point.gate_panel_stride = gate.gate_panel_stride;
    point.h_out = plan.rows.at(args.output, t, row);
    point.h_out_stride = args.output.stride_n;
    point.cell_activation = static_cast<int>(plan.cell_activation);
    point.output_activation = static_cast<int>(plan.output_activation);
    switch (plan.cell) {
      case CellKind::lstm: {
        const PanelRows<T> c = c_at(t);
        point.c_prev = c_prev.at(row, 0);
        point.c_prev_row_stride = c_prev.row_stride;
        point.c_prev_panel_stride = c_prev.panel_stride;
        point.c = c.at(row, 0);
        point.c_row_stride = c.row_stride;
        point.c_panel_stride = c.panel_stride;
        k.gates_lstm(gate);
        k.lstm_forward(point);
        break;
      }
      case CellKind::gru:
        point.h_prev = gate.h;
        point.h_prev_stride = gate.h_stride;
        k.gates_gru(gate);
        k.gru_forward(point);
        break;
      case CellKind::rnn:
        k.gates_lstm(gate);
        k.rnn_forward(point);
        break;
    }
  }

  // Puts the staged state back where the step was masked.
  void hold(Index t, const Part& part) const {
    const Index unit = part.panels.begin * plan.panel_units;
    const Index end = std::min(part.panels.end * plan.panel_units, plan.hidden_size);
    for (Index n = part.rows.begin; n < part.rows.end; ++n) {
      if (!previous.held(t, n)) continue;
      const T* h = previous.staged_h + n * plan.padded_units;
      std::copy(h + unit, h + end, plan.rows.at(args.output, t, n) + unit);
      if (!plan.lstm()) continue;
      for (Index p = part.panels.begin; p < part.panels.end; ++p) {
        std::copy_n(state_rows(plan, previous.staged_c).at(n, p), plan.width,
                    c_at(t).at(n, p));
      }
    }
  }

  void write_last_state() const {
    const Index begun = plan.seq_len > 0 ? plan.rows.count(0) : 0;
    copy_last(begun, plan.batch_size, 0, first_c());
    for (Index t = 0; t < plan.seq_len; ++t) {
      // Rows that have no step after time t in this direction.
      copy_last(plan.rows.carried(t, !plan.reverse), plan.rows.count(t), t, c_at(t));
    }
  }

  // Rows that never begin keep the initial state.
  void copy_last(Index begin, Index end, Index t, const PanelRows<const T>& c) const {
    const Index units = plan.hidden_size;
    const bool begun = plan.seq_len > 0 && begin < plan.rows.count(0);
    for (Index n = begin; n < end; ++n) {
      const T* h = begun                ? plan.rows.at(args.output, t, n)
                   : args.h0 != nullptr ? args.h0 + n * units
                                        : previous.zeros;
      std::copy_n(h, units, args.h_n + n * units);
    }
    if (plan.lstm() && begin < end) unpack_state(plan, c, begin, end, args.c_n);
  }
};

}  // namespace

template <class T>
void layer_forward(const LayerPlan<T>& plan, const LayerForward<T>& args,
                   BufferPool& pool) {
  const bool keep = args.records != nullptr;
  const Index row_panels = checked_product(plan.panels, plan.batch_size);
  const Index staged = PreviousState<T>::staged_rows(plan);
  ForwardLoop<T> loop{plan, args, {}, {plan, {}, args.h0, {}, {}, {}}, {}, {}, {}, 0};
  loop.previous.output = {args.output.data, args.output.stride_t, args.output.stride_n};
  if (plan.batch_size == 1 && plan.seq_len > 1) {
    loop.projected_steps =
        keep ? plan.seq_len : std::min(plan.seq_len, kProjectedSteps);
  }
  T* zeros = nullptr;
  Buffer memory;
  for (Arena arena;;) {
    loop.packed = take_weights(plan, arena);
    loop.state = arena.take<T>(plan.lstm() ? row_panels * plan.width : 0);
    loop.gates =
        keep || plan.fused() ? nullptr : arena.take<T>(row_panels * plan.gate_line());
    loop.sums =
        arena.take<T>(keep ? 0 : loop.projected_steps * plan.panels * plan.gate_line());
    loop.previous.staged_h = arena.take<T>(checked_product(staged, plan.padded_units));
    loop.previous.staged_c = arena.take<T>(
        plan.lstm() ? checked_product(staged, plan.panels * plan.width) : 0);
    zeros = arena.take<T>(plan.padded_units);
    if (memory.data() != nullptr) break;
    memory = pool.acquire(arena.used());
    arena = Arena(memory.data());
  }
  std::fill_n(zeros, plan.padded_units, T(0));
  loop.previous.zeros = zeros;
  if (plan.lstm()) pack_state(plan, args.c0, loop.state);

  const Split split = choose_split(plan);
  auto body = [&](const Team& team) { loop.run(split, team); };
  parallel(split.threads, body);
  loop.write_last_state();
}

template void layer_forward<float>(const LayerPlan<float>&, const LayerForward<float>&,
                                   BufferPool&);
template void layer_forward<double>(const LayerPlan<double>&,
                                    const LayerForward<double>&, BufferPool&);

}  // namespace fastlstm
