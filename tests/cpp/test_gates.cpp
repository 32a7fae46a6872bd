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

  std::vector<T> with_kernel(bool with_x, ProjectionArgs<T>* ahead = nullptr) {
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
    args.ahead = ahead;
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

// bias + x W_ih^T of some steps of a row alone, in the gates' layout (P, steps, 4 W).
template <class T>
struct AheadProblem {
  GateProblem<T> of;  // its rows are the steps
  std::vector<T> slots, columns, sums;
  ProjectionArgs<T> args{};

  AheadProblem(CellKind cell, Index steps, Index inputs, Index units)
      : of(cell, steps, inputs, units) {
    const LayerPlan<T>& plan = of.plan;
    const PanelMap& map = plan.map_x;
    const Index block = plan.kernels->projected_steps;
    slots.resize(of.packed_x.size());
    for_each_lane(map, plan.panels, plan.width, [&](Index, Index p, Index s, Index j) {
      const Index slot = s - map.slot_begin;
      for (Index k = 0; k < inputs; ++k) {
        const Index from = ((p * inputs + k) * slots_of(map) + slot) * plan.width + j;
        const Index to = ((p * slots_of(map) + slot) * inputs + k) * plan.width + j;
        slots[static_cast<std::size_t>(to)] = at(of.packed_x, from);
      }
    });
    columns.resize(static_cast<std::size_t>(block * inputs));
    for (Index step = 0; step < steps; ++step) {
      for (Index k = 0; k < inputs; ++k) {
        columns[static_cast<std::size_t>(k * block + step)] =
            at(of.x, step * inputs + k);
      }
    }
    sums.assign(static_cast<std::size_t>(plan.panels * steps * plan.gate_line()), T(7));
    args.steps = steps;
    args.x = columns.data();
    args.x_size = inputs;
    args.packed = slots.data();
    args.slot_begin = map.slot_begin;
    args.slot_end = map.slot_end;
    args.bias = of.bias.data();
    args.sums = sums.data();
    args.step_stride = plan.gate_line();
    args.panel_stride = steps * plan.gate_line();
    args.end = plan.panels * kSlots;
  }

  // Without the term of h.
  std::vector<T> wanted() const {
    GateProblem<T> without = of;
    without.h.assign(of.h.size(), T(0));
    return without.with_loops(true);
  }
};

}  // namespace

// Alone, and beside the gates of a step that has a longer or a shorter sum.
TEST_CASE_TEMPLATE("steps projected ahead", T, float, double) {
  for_each_isa([] {
    const Index block = kernels<T>().projected_steps;
    for (const CellKind cell : kCells) {
      for (const Index units : tail_sizes(kernels<T>().width)) {
        for (const Index inputs : {Index{1}, units + 3}) {
          if (block == 0) continue;
          const Index steps = 1 + units % block;
          CAPTURE(units);
          CAPTURE(inputs);
          AheadProblem<T> alone(cell, steps, inputs, units);
          alone.of.plan.kernels->project(alone.args);
          REQUIRE(same_bits(alone.sums, alone.wanted()));

          AheadProblem<T> beside(cell, steps, inputs, units);
          GateProblem<T> gates(cell, 1, 2, units);
          const Index end = beside.args.end;
          for (const Index part : {end / 3, end}) {  // two calls share it
            beside.args.end = part;
            REQUIRE(same_bits(gates.with_kernel(true, &beside.args),
                              gates.with_loops(true)));
            REQUIRE(beside.args.next == part);
          }
          REQUIRE(same_bits(beside.sums, beside.wanted()));
        }
      }
    }
  });
}

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
