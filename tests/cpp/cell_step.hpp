// One step of a small cell on the kernels' layouts, for test_cells.cpp: the arrays, the
// kernel arguments that point to them, and the activations in double.
#pragma once

#include "layouts.hpp"

namespace fastlstm::testing {

constexpr Activation kActivations[] = {Activation::tanh, Activation::relu,
                                       Activation::sigmoid, Activation::linear};
constexpr Index kRows = 3;
constexpr double kUntouched = 7.0;

inline double value_of(Activation which, double x) {
  switch (which) {
    case Activation::relu:
      return std::max(0.0, x);
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::linear:
      return x;
    default:
      return std::tanh(x);
  }
}

// The derivative from the value y.
inline double slope_of(Activation which, double y) {
  switch (which) {
    case Activation::relu:
      return y > 0 ? 1 : 0;
    case Activation::sigmoid:
      return y * (1 - y);
    case Activation::linear:
      return 1;
    default:
      return 1 - y * y;
  }
}

// Arrays of one step of a small cell: gates (P, rows, 4 W), states (P, rows, W), and
// rows of h with a gap behind them that nobody may write.
template <class T>
struct Step {
  LayerPlan<T> plan;
  Index stride;
  std::vector<T> gates, c_prev, c, h_prev, h, d_output, d_h, d_c, d_gates;

  Step(CellKind cell, Index units)
      : plan(small_plan<T>(cell, kRows, 1, units)), stride(units + 2) {
    Random<T> random(static_cast<std::uint64_t>(units));
    const Index lanes = plan.panels * kRows * plan.width;
    gates = random.array(lanes * kSlots);
    c_prev = random.array(lanes);
    c = random.array(lanes);
    h_prev = random.array(kRows * stride);
    h = std::vector<T>(h_prev.size(), T(kUntouched));
    d_output = random.array(kRows * stride);
    d_h = random.array(kRows * plan.padded_units);
    d_c = random.array(lanes);
    d_gates = std::vector<T>(gates.size());
  }

  Index gate(Index row, Index p, Index s, Index j) const {
    return (p * kRows + row) * plan.gate_line() + s * plan.width + j;
  }
  Index state(Index row, Index p, Index j) const {
    return (p * kRows + row) * plan.width + j;
  }

  // Calls visit(row, unit, panel, slot, lane) for all real units; slot is 0 but for the
  // RNN.
  template <class Visit>
  void for_each_unit(const Visit& visit) const {
    for (Index row = 0; row < kRows; ++row) {
      for (Index unit = 0; unit < plan.hidden_size; ++unit) {
        const Index in_panel = unit % plan.panel_units;
        visit(row, unit, unit / plan.panel_units, in_panel / plan.width,
              in_panel % plan.width);
      }
    }
  }

  bool gap_untouched() const {
    for (Index i = 0; i < kRows * stride; ++i) {
      if (i % stride >= plan.hidden_size && at(h, i) != T(kUntouched)) return false;
    }
    return true;
  }

  PointwiseForwardArgs<T> forward_args(Activation cell, Activation output) {
    PointwiseForwardArgs<T> a{};
    a.rows = kRows;
    a.panel_end = plan.panels;
    a.hidden_size = plan.hidden_size;
    a.gates = gates.data();
    a.gate_row_stride = plan.gate_line();
    a.gate_panel_stride = kRows * plan.gate_line();
    a.c_prev = c_prev.data();
    a.c = c.data();
    a.c_prev_row_stride = a.c_row_stride = plan.width;
    a.c_prev_panel_stride = a.c_panel_stride = kRows * plan.width;
    a.h_prev = h_prev.data();
    a.h_out = h.data();
    a.h_prev_stride = a.h_out_stride = stride;
    a.cell_activation = static_cast<int>(cell);
    a.output_activation = static_cast<int>(output);
    return a;
  }

  PointwiseBackwardArgs<T> backward_args(Activation cell, Activation output) {
    PointwiseBackwardArgs<T> a{};
    a.rows = kRows;
    a.panel_end = plan.panels;
    a.hidden_size = plan.hidden_size;
    a.gates = gates.data();
    a.gate_row_stride = plan.gate_line();
    a.gate_panel_stride = a.d_gate_panel_stride = kRows * plan.gate_line();
    a.c_prev = c_prev.data();
    a.c_prev_row_stride = plan.width;
    a.c_prev_panel_stride = a.d_c_panel_stride = kRows * plan.width;
    a.h = h.data();
    a.h_prev = h_prev.data();
    a.d_output = d_output.data();
    a.h_stride = a.h_prev_stride = a.d_output_stride = stride;
    a.d_h = d_h.data();
    a.d_h_stride = plan.padded_units;
    a.d_c = d_c.data();
    a.d_gates = d_gates.data();
    a.cell_activation = static_cast<int>(cell);
    a.output_activation = static_cast<int>(output);
    return a;
  }
};

// The largest difference seen between the kernel's values and the equations'.
template <class T>
class Worst {
 public:
  void see(const std::vector<T>& got, Index i, double wanted) {
    const double difference = std::abs(static_cast<double>(at(got, i)) - wanted);
    worst_ = std::isnan(difference) ? HUGE_VAL : std::max(worst_, difference);
  }
  bool small() const {
    return worst_ < 16 * static_cast<double>(std::numeric_limits<T>::epsilon());
  }

 private:
  double worst_ = 0;
};

}  // namespace fastlstm::testing
