// Pre-activations of a step against plain loops. Every sum has one fixed order, so the
// loops must give the same bits.
#include "layouts.hpp"

namespace fastlstm::testing {
namespace {

// bias + x W_ih^T + h W_hh^T in the gates' layout (P, rows, 4 W) of one step.
template <class T>
struct GateProblem {
  LayerPlan<T> plan;
  Index rows;
  std::vector<T> x, h, packed_x, packed_h, bias;

  GateProblem(CellKind cell, Index batch, Index inputs, Index units)
      : plan(small_plan<T>(cell, batch, inputs, units)), rows(batch) {
    Random<T> random(static_cast<std::uint64_t>(units));
    const Index lanes = plan.panels * plan.width;
    x = random.array(rows * inputs);
    h = random.array(rows * units);
    packed_x = random.array(lanes * slots_of(plan.map_x) * inputs);
    packed_h = random.array(lanes * slots_of(plan.map_h) * units);
    bias = random.array(lanes * kSlots);
  }

  std::vector<T> with_kernel(bool with_x) {
    std::vector<T> gates(
        static_cast<std::size_t>(plan.panels * rows * plan.gate_line()));
    GateArgs<T> args{};
    args.rows = rows;
    args.panel_end = plan.panels;
    args.x = with_x ? x.data() : nullptr;
    args.x_stride = args.x_size = plan.input_size;
    args.h = h.data();
    args.h_stride = args.h_size = args.h_steps = plan.hidden_size;
    args.packed_x = packed_x.data();
    args.packed_h = packed_h.data();
    args.init = bias.data();
    args.init_panel_stride = plan.gate_line();
    args.gates = gates.data();
    args.gate_row_stride = plan.gate_line();
    args.gate_panel_stride = rows * plan.gate_line();
    (plan.cell == CellKind::gru ? plan.kernels->gates_gru
                                : plan.kernels->gates_lstm)(args);
    return gates;
  }

  T product_term(const PanelMap& map, const std::vector<T>& packed,
                 const std::vector<T>& left, Index size, Index row, Index p, int s,
                 Index j, T sum) const {
    if (s < map.slot_begin || s >= map.slot_end) return sum;
    const Index line = slots_of(map) * plan.width;
    const Index lane = (s - map.slot_begin) * plan.width + j;
    for (Index k = 0; k < size; ++k) {
      sum = multiply_add(at(left, row * size + k),
                         at(packed, (p * size + k) * line + lane), sum,
                         isa() != "scalar");
    }
    return sum;
  }

  std::vector<T> with_loops(bool with_x) const {
    std::vector<T> gates;
    for (Index p = 0; p < plan.panels; ++p) {
      for (Index row = 0; row < rows; ++row) {
        for (int s = 0; s < kSlots; ++s) {
          for (Index j = 0; j < plan.width; ++j) {
            T sum = at(bias, (p * kSlots + s) * plan.width + j);
            if (with_x) {
              sum = product_term(plan.map_x, packed_x, x, plan.input_size, row, p, s, j,
                                 sum);
            }
            gates.push_back(product_term(plan.map_h, packed_h, h, plan.hidden_size, row,
                                         p, s, j, sum));
          }
        }
      }
    }
    return gates;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("gate products", T, float, double) {
  for_each_isa([] {
    const Index tile = kernels<T>().outer_tile;
    for (const CellKind cell : kCells) {
      for (const Index units : tail_sizes(kernels<T>().width)) {
        for (Index rows = 1; rows <= 2 * tile + 1; rows += units % 4 == 1 ? 1 : tile) {
          GateProblem<T> problem(cell, rows, 1 + units % 5, units);
          CAPTURE(units);
          CAPTURE(rows);
          REQUIRE(same_bits(problem.with_kernel(true), problem.with_loops(true)));
          REQUIRE(same_bits(problem.with_kernel(false), problem.with_loops(false)));
        }
      }
    }
  });
}

}  // namespace fastlstm::testing
