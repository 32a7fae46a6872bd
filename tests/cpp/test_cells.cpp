// The cells, pointwise: forward against libm, backward against the equations in double,
// and the fused LSTM step against its two halves.
#include "cell_step.hpp"

namespace fastlstm::testing {
namespace {

template <class T>
void check_lstm(Step<T> step, Activation cell, Activation output) {
  const Step<T> before = step;
  Worst<T> worst;
  step.plan.kernels->lstm_forward(step.forward_args(cell, output));
  step.for_each_unit([&](Index row, Index unit, Index p, Index, Index j) {
    const auto pre = [&](Index s) {
      return static_cast<double>(at(before.gates, step.gate(row, p, s, j)));
    };
    const double i = value_of(Activation::sigmoid, pre(0));
    const double f = value_of(Activation::sigmoid, pre(1));
    const double g = value_of(cell, pre(2));
    const double o = value_of(Activation::sigmoid, pre(3));
    const Index state = step.state(row, p, j);
    const double c = f * static_cast<double>(at(before.c_prev, state)) + i * g;
    worst.see(step.gates, step.gate(row, p, 0, j), i);
    worst.see(step.gates, step.gate(row, p, 1, j), f);
    worst.see(step.gates, step.gate(row, p, 2, j), g);
    worst.see(step.gates, step.gate(row, p, 3, j), o);
    worst.see(step.c, state, c);
    worst.see(step.h, row * step.stride + unit, o * value_of(output, c));
  });
  REQUIRE(worst.small());
  REQUIRE(step.gap_untouched());

  step.plan.kernels->lstm_backward(step.backward_args(cell, output));
  step.for_each_unit([&](Index row, Index unit, Index p, Index, Index j) {
    const auto gate = [&](Index s) {
      return static_cast<double>(at(step.gates, step.gate(row, p, s, j)));
    };
    const Index state = step.state(row, p, j);
    const double i = gate(0), f = gate(1), g = gate(2), o = gate(3);
    const double y = value_of(output, static_cast<double>(at(step.c, state)));
    const double d_h =
        static_cast<double>(at(before.d_h, row * step.plan.padded_units + unit)) +
        static_cast<double>(at(before.d_output, row * step.stride + unit));
    const double d_c =
        static_cast<double>(at(before.d_c, state)) + d_h * o * slope_of(output, y);
    const double c_prev = static_cast<double>(at(step.c_prev, state));
    worst.see(step.d_gates, step.gate(row, p, 0, j), d_c * g * i * (1 - i));
    worst.see(step.d_gates, step.gate(row, p, 1, j), d_c * c_prev * f * (1 - f));
    worst.see(step.d_gates, step.gate(row, p, 2, j), d_c * i * slope_of(cell, g));
    worst.see(step.d_gates, step.gate(row, p, 3, j), d_h * y * o * (1 - o));
    worst.see(step.d_c, state, d_c * f);
  });
  REQUIRE(worst.small());
}

template <class T>
void check_gru(Index units) {
  Step<T> step(CellKind::gru, units);
  const Step<T> before = step;
  Worst<T> worst;
  const Index padded = step.plan.padded_units;
  step.plan.kernels->gru_forward(step.forward_args(Activation::tanh, Activation::tanh));
  step.plan.kernels->gru_backward(
      step.backward_args(Activation::tanh, Activation::tanh));
  step.for_each_unit([&](Index row, Index unit, Index p, Index, Index j) {
    const auto pre = [&](Index s) {
      return static_cast<double>(at(before.gates, step.gate(row, p, s, j)));
    };
    const double r = value_of(Activation::sigmoid, pre(1));
    const double z = value_of(Activation::sigmoid, pre(2));
    const double n = std::tanh(pre(0) + r * pre(3));
    const double h_prev =
        static_cast<double>(at(before.h_prev, row * step.stride + unit));
    worst.see(step.h, row * step.stride + unit, n + z * (h_prev - n));
    const double d_h =
        static_cast<double>(at(before.d_h, row * padded + unit)) +
        static_cast<double>(at(before.d_output, row * step.stride + unit));
    const double d_n = d_h * (1 - z) * (1 - n * n);
    worst.see(step.d_gates, step.gate(row, p, 0, j), d_n);
    worst.see(step.d_gates, step.gate(row, p, 1, j), d_n * pre(3) * r * (1 - r));
    worst.see(step.d_gates, step.gate(row, p, 2, j), d_h * (h_prev - n) * z * (1 - z));
    worst.see(step.d_gates, step.gate(row, p, 3, j), d_n * r);
    worst.see(step.d_h, row * padded + unit, d_h * z);
  });
  REQUIRE(worst.small());
  REQUIRE(step.gap_untouched());
}

template <class T>
void check_rnn(Index units, Activation cell) {
  Step<T> step(CellKind::rnn, units);
  const Step<T> before = step;
  Worst<T> worst;
  step.plan.kernels->rnn_forward(step.forward_args(cell, Activation::tanh));
  step.plan.kernels->rnn_backward(step.backward_args(cell, Activation::tanh));
  step.for_each_unit([&](Index row, Index unit, Index p, Index s, Index j) {
    const Index gate = step.gate(row, p, s, j);
    const double h = value_of(cell, static_cast<double>(at(before.gates, gate)));
    const double d_h =
        static_cast<double>(at(before.d_h, row * step.plan.padded_units + unit)) +
        static_cast<double>(at(before.d_output, row * step.stride + unit));
    worst.see(step.h, row * step.stride + unit, h);
    worst.see(step.d_gates, gate, d_h * slope_of(cell, h));
  });
  REQUIRE(worst.small());
  REQUIRE(step.gap_untouched());
}

}  // namespace

TEST_CASE_TEMPLATE("LSTM cell", T, float, double) {
  for_each_isa([] {
    for (const Index units : tail_sizes(kernels<T>().width)) {
      for (const Activation cell : kActivations) {
        for (const Activation output : kActivations) {
          check_lstm(Step<T>(CellKind::lstm, units), cell, output);
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("LSTM cell whose output gate is shut or open", T, float, double) {
  for_each_isa([] {
    for (const Index units : tail_sizes(kernels<T>().width)) {
      for (const T pre : {T(-1000), T(-80), T(1000)}) {
        Step<T> step(CellKind::lstm, units);
        step.for_each_unit([&](Index row, Index, Index p, Index, Index j) {
          step.gates[static_cast<std::size_t>(step.gate(row, p, 3, j))] = pre;
        });
        check_lstm(step, Activation::tanh, Activation::tanh);
      }
    }
  });
}

TEST_CASE_TEMPLATE("GRU cell", T, float, double) {
  for_each_isa([] {
    for (const Index units : tail_sizes(kernels<T>().width)) check_gru<T>(units);
  });
}

TEST_CASE_TEMPLATE("RNN cell", T, float, double) {
  for_each_isa([] {
    for (const Index units : tail_sizes(kernels<T>().width)) {
      for (const Activation cell : kActivations) check_rnn<T>(units, cell);
    }
  });
}

TEST_CASE_TEMPLATE("the fused LSTM step is the product and then the cell", T, float,
                   double) {
  for_each_isa([] {
    for (const Index units : tail_sizes(kernels<T>().width)) {
      Step<T> split(CellKind::lstm, units);
      Step<T> fused = split;
      const LayerPlan<T>& plan = split.plan;
      Random<T> random(5);
      const std::vector<T> bias = random.array(plan.panels * plan.gate_line());
      const std::vector<T> packed =
          random.array(plan.panels * plan.gate_line() * units);
      GateArgs<T> gate{};
      gate.rows = kRows;
      gate.panel_end = plan.panels;
      gate.h = split.h_prev.data();
      gate.h_stride = split.stride;
      gate.h_size = gate.h_steps = units;
      gate.packed_h = packed.data();
      gate.init = bias.data();
      gate.init_panel_stride = plan.gate_line();
      gate.gates = split.gates.data();
      gate.gate_row_stride = plan.gate_line();
      gate.gate_panel_stride = kRows * plan.gate_line();
      plan.kernels->gates_lstm(gate);
      plan.kernels->lstm_forward(
          split.forward_args(Activation::tanh, Activation::tanh));

      gate.gates = fused.gates.data();
      const Index state_panel = kRows * plan.width;
      plan.kernels->lstm_steps(
          {gate, fused.c_prev.data(), plan.width, state_panel, fused.c.data(),
           plan.width, state_panel, fused.h.data(), fused.stride, units},
          1, {});
      bool same = same_bits(fused.h, split.h);
      split.for_each_unit([&](Index row, Index, Index p, Index, Index j) {
        const Index c = split.state(row, p, j);
        same = same && at(fused.c, c) == at(split.c, c);
        for (Index s = 0; s < kSlots; ++s) {
          const Index lane = split.gate(row, p, s, j);
          same = same && at(fused.gates, lane) == at(split.gates, lane);
        }
      });
      REQUIRE(same);
    }
  });
}

}  // namespace fastlstm::testing
