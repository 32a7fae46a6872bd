// The forward time loop of one layer. For every step t:
//   gates_t = bias + x_t W_ih^T + h_{t-1} W_hh^T;  (h_t, c_t) = cell(gates_t, c_{t-1})
// For a batch of one, bias + x W_ih^T is summed first for many steps at once, so that
// W_ih is read once for a tile of steps instead of once a step; the bits are the same.
#include <algorithm>

#include "layer.hpp"

namespace fastlstm {
namespace {

// Steps projected at once in inference, whose sums should stay in cache.
constexpr Index kProjectedSteps = 64;

template <class T>
struct ForwardLoop {
  const LayerPlan<T>& plan;
  const LayerForward<T>& args;
  PackedWeights<T> packed;
  StepView<T> gates;    // records, or one step that is overwritten; null if not wanted
  StepView<T> c;        // LSTM: records, or in place
  StepView<T> c_first;  // LSTM: the initial c, (P, N, W)
  StepView<T> projected;  // bias + x W_ih^T of the latest steps; null: not projected
  Index projected_steps;
  const T* zeros;  // (padded units)

  void run(const Split& split, const Team& team) const {
    pack_weights(plan, args.params, team, packed);
    const Part part = part_of(plan, split, team);
    for (Index step = 0; step < plan.seq_len; ++step) {
      if (projected.data != nullptr && step % projected_steps == 0) project(step, part);
      const GateArgs<T> gate = gate_args(step, part);
      if (plan.fused()) {
        fused_step(step, part.rows.begin, gate);
      } else {
        pointwise_step(step, part.rows.begin, gate);
      }
      if (!split.by_rows) team.barrier();
    }
  }

  // The steps take the place of the batch rows.
  void project(Index begin, const Part& part) const {
    GateArgs<T> gate{};
    gate.rows = std::min(projected_steps, plan.seq_len - begin);
    gate.panel_begin = part.panels.begin;
    gate.panel_end = part.panels.end;
    gate.x = args.x.data + plan.time_of(begin) * args.x.stride_t;
    gate.x_stride = plan.reverse ? -args.x.stride_t : args.x.stride_t;
    gate.x_size = plan.input_size;
    gate.packed_x = packed.x;
    gate.h = zeros;
    gate.init = packed.bias;
    gate.init_panel_stride = plan.gate_line();
    gate.gates = projected_at(begin);
    gate.gate_row_stride = projected.step_stride;
    gate.gate_panel_stride = projected.panel_stride;
    (plan.cell == CellKind::gru ? plan.kernels->gates_gru
                                : plan.kernels->gates_lstm)(gate);
  }

  T* projected_at(Index step) const { return projected.at(step % projected_steps, 0); }

  GateArgs<T> gate_args(Index step, const Part& part) const {
    const Index row = part.rows.begin;
    GateArgs<T> gate{};
    gate.rows = part.rows.end - row;
    gate.panel_begin = part.panels.begin;
    gate.panel_end = part.panels.end;
    gate.descending = step % 2 != 0;
    if (projected.data != nullptr) {
      gate.init = projected_at(step);
      gate.init_panel_stride = projected.panel_stride;
    } else {
      gate.x =
          args.x.data + plan.time_of(step) * args.x.stride_t + row * args.x.stride_n;
      gate.x_stride = args.x.stride_n;
      gate.x_size = plan.input_size;
      gate.init = packed.bias;
      gate.init_panel_stride = plan.gate_line();
    }
    gate.h_size = gate.h_steps = plan.hidden_size;
    if (step > 0) {
      gate.h = args.output.data + plan.time_of(step - 1) * args.output.stride_t +
               row * args.output.stride_n;
      gate.h_stride = args.output.stride_n;
    } else if (args.h0 != nullptr) {
      gate.h = args.h0 + row * plan.hidden_size;
      gate.h_stride = plan.hidden_size;
    } else {
      gate.h = zeros;
      gate.h_stride = 0;
      gate.h_steps = 0;
    }
    gate.packed_x = packed.x;
    gate.packed_h = packed.h;
    if (gates.data != nullptr) gate.gates = gates.at(step, row);
    gate.gate_row_stride = gates.row_stride;
    gate.gate_panel_stride = gates.panel_stride;
    return gate;
  }

  T* h_out(Index step, Index row) const {
    return args.output.data + plan.time_of(step) * args.output.stride_t +
           row * args.output.stride_n;
  }

  void fused_step(Index step, Index row, const GateArgs<T>& gate) const {
    const StepView<T>& c_prev = step == 0 ? c_first : c;
    plan.kernels->lstm_step({gate, c_prev.at(step - 1, row), c_prev.row_stride,
                             c_prev.panel_stride, c.at(step, row), c.row_stride,
                             c.panel_stride, h_out(step, row), args.output.stride_n,
                             plan.hidden_size});
  }

  void pointwise_step(Index step, Index row, const GateArgs<T>& gate) const {
    const Kernels<T>& k = *plan.kernels;
    PointwiseForwardArgs<T> point{};
    point.rows = gate.rows;
    point.panel_begin = gate.panel_begin;
    point.panel_end = gate.panel_end;
    point.hidden_size = plan.hidden_size;
    point.gates = gate.gates;
    point.gate_row_stride = gate.gate_row_stride;
    point.gate_panel_stride = gate.gate_panel_stride;
    point.h_out = h_out(step, row);
    point.h_out_stride = args.output.stride_n;
    point.cell_activation = static_cast<int>(plan.cell_activation);
    point.output_activation = static_cast<int>(plan.output_activation);
    switch (plan.cell) {
      case CellKind::lstm: {
        const StepView<T>& c_prev = step == 0 ? c_first : c;
        point.c_prev = c_prev.at(step - 1, row);
        point.c_prev_row_stride = c_prev.row_stride;
        point.c_prev_panel_stride = c_prev.panel_stride;
        point.c = c.at(step, row);
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

  void write_last_state() const {
    const Index last = plan.seq_len - 1;
    const Index units = plan.hidden_size;
    for (Index n = 0; n < plan.batch_size; ++n) {
      const T* h = plan.seq_len > 0     ? h_out(last, n)
                   : args.h0 != nullptr ? args.h0 + n * units
                                        : zeros;
      std::copy_n(h, units, args.h_n + n * units);
    }
    if (plan.lstm()) {
      const StepView<T>& from = plan.seq_len > 0 ? c : c_first;
      unpack_state(plan, from.at(last, 0), from.row_stride, from.panel_stride,
                   args.c_n);
    }
  }
};

}  // namespace

template <class T>
void layer_forward(const LayerPlan<T>& plan, const LayerForward<T>& args,
                   BufferPool& pool) {
  const bool keep = args.records != nullptr;
  const Index row_panels = checked_product(plan.panels, plan.batch_size);
  PackedWeights<T> packed{};
  T* state = nullptr;  // (P, N, W)
  T* gates = nullptr;  // (P, N, 4 W)
  T* sums = nullptr;   // (projected steps, P, 4 W)
  T* zeros = nullptr;
  // A batch of one; where the gates are kept, their place takes the sums meanwhile.
  const bool projects = plan.batch_size == 1 && plan.seq_len > 1;
  const Index projected_steps =
      keep ? plan.seq_len : std::min(plan.seq_len, kProjectedSteps);
  Buffer memory;
  for (Arena arena;;) {
    packed = take_weights(plan, arena);
    state = arena.take<T>(plan.lstm() ? row_panels * plan.width : 0);
    gates = arena.take<T>(keep || plan.fused() ? 0 : row_panels * plan.gate_line());
    sums = arena.take<T>(
        projects && !keep ? projected_steps * plan.panels * plan.gate_line() : 0);
    zeros = arena.take<T>(plan.padded_units);
    if (memory.data() != nullptr) break;
    memory = pool.acquire(arena.used());
    arena = Arena(memory.data());
  }
  std::fill_n(zeros, plan.padded_units, T(0));
  if (plan.lstm()) pack_state(plan, args.c0, state);

  const Index line = plan.gate_line();
  const StepView<T> in_place = {state, 0, plan.width, plan.batch_size * plan.width};
  const StepView<T> scratch = {plan.fused() ? nullptr : gates, 0, line,
                               plan.batch_size * line};
  const StepView<T> projected = !projects ? StepView<T>{}
                                : keep    ? record_view(plan, args.records, 0)
                                       : StepView<T>{sums, plan.panels * line, 0, line};
  const ForwardLoop<T> loop = {plan,
                               args,
                               packed,
                               keep ? record_view(plan, args.records, 0) : scratch,
                               keep ? record_view(plan, args.records, line) : in_place,
                               in_place,
                               projected,
                               projected_steps,
                               zeros};
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
