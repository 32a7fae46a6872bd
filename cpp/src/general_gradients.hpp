// The gradients of all parameters of one layer of the general path. The time loop fills
// the rows of a chunk of steps; then, for the chunk as a whole:
//   d_weight += d_sums^T operand;  d_vector += sum over rows of line
// Threads share the panels, so no sum is split between them. Used by
// general_backward_loop.hpp.
#pragma once

#include <algorithm>

#include "general.hpp"

namespace fastlstm {

// A weight gradient, in panel layout: d_weight += d_sums^T operand.
template <class T>
struct WeightSide {
  PanelMap map;
  Index panels, size;  // size: columns of the weight
  T* operand;          // (chunk rows, operand_stride())
  const T* d_sums;     // (panels, chunk rows, 4 W)
  T* d_weight;         // (panels, size, slots * W)
  T* grad;             // the caller's
};

// A gradient of vectors: d_vector += sum over rows of line.
template <class T>
struct VectorSide {
  T* line;      // (P, chunk rows, 4 W)
  T* d_vector;  // (P, 4 W)
};

constexpr int kVectorSides = 5;

template <class T>
struct GeneralGradients {
  const LayerPlan<T>& plan;  // of the whole sequence
  LayerArrays<T> grads;      // the caller's
  Index chunk_rows;
  WeightSide<T> side_x{}, side_h{}, side_inner{};  // the last: of the inner product
  VectorSide<T> lines[kVectorSides] = {};  // bias, peephole, gain_ih, gain_hh, norm_c
  T* zeros = nullptr;                      // a row as long as any operand
  // (P, chunk rows, 4 W): by the sums but for layer normalisation
  T* d_gates = nullptr;
  // the same by W_ih x and by W_hh h; d_gates without normalisation
  T* d_sums_x = nullptr;
  T* d_sums_h = nullptr;
  // (output panels, chunk rows, 4 W): by h behind the projection
  T* d_projected = nullptr;

  Index panel_stride() const { return chunk_rows * plan.gate_line(); }
  Index longest_operand() const { return std::max(plan.input_size, plan.hidden_size); }
  // Of d_weight.
  Index panel_size(const WeightSide<T>& side) const {
    return side.size * slots_of(side.map) * plan.width;
  }

  // Hands out all arrays; a first pass with an empty arena measures.
  void take(Arena& arena) {
    const CellOptions& o = plan.options;
    const Index gates = checked_product(plan.panels, panel_stride());
    zeros = arena.take<T>(longest_operand());
    d_gates = arena.take<T>(gates);
    d_sums_x = o.layer_norm ? arena.take<T>(gates) : d_gates;
    d_sums_h = o.layer_norm ? arena.take<T>(gates) : d_gates;
    const auto take_side = [&](const PanelMap& map, Index panels, Index size,
                               const T* d_sums, T* grad) {
      WeightSide<T> side{map, panels, size, nullptr, d_sums, nullptr, grad};
      side.operand =
          arena.take<T>(checked_product(chunk_rows, operand_stride<T>(size)));
      side.d_weight =
          arena.take<T>(checked_product(panels * plan.width * slots_of(map), size));
      return side;
    };
    PanelMap map_h = plan.map_h;
    if (resets_before(plan)) map_h.slot_end = kSlots - 1;
    side_x =
        take_side(plan.map_x, plan.panels, plan.input_size, d_sums_x, grads.weight_ih);
    side_h = take_side(map_h, plan.panels, plan.output_size, d_sums_h, grads.weight_hh);
    if (projects(plan)) {
      const Index panels = column_blocks(plan, plan.output_size);
      d_projected = arena.take<T>(checked_product(panels, panel_stride()));
      side_inner = take_side(natural_map(plan, plan.output_size), panels,
                             plan.hidden_size, d_projected, grads.weight_hr);
    } else if (resets_before(plan)) {
      side_inner = take_side(candidate_map(plan.map_h), plan.panels, plan.hidden_size,
                             d_gates, grads.weight_hh);
    }
    const bool wanted[kVectorSides] = {true, o.peepholes, o.layer_norm, o.layer_norm,
                                       o.layer_norm};
    for (int i = 0; i < kVectorSides; ++i) {
      if (!wanted[i]) continue;
      lines[i].line = i == 0 ? d_gates : arena.take<T>(gates);
      lines[i].d_vector = arena.take<T>(plan.panels * plan.gate_line());
    }
  }

  // Zeroes the sums, and what is read of the rows but not written.
  void clear() const {
    std::fill_n(zeros, longest_operand(), T(0));
    if (projects(plan)) {
      std::fill_n(d_projected, side_inner.panels * panel_stride(), T(0));
    }
    for_sides([&](const WeightSide<T>& side) {
      std::fill_n(side.d_weight, side.panels * panel_size(side), T(0));
    });
    for_lines([&](const VectorSide<T>& side) {
      std::fill_n(side.d_vector, plan.panels * plan.gate_line(), T(0));
    });
  }

  // Calls visit(side) for the weights, or the vectors, that the layer has.
  template <class Visit>
  void for_sides(const Visit& visit) const {
    visit(side_x);
    visit(side_h);
    if (inner_product(plan)) visit(side_inner);
  }
  template <class Visit>
  void for_lines(const Visit& visit) const {
    for (const VectorSide<T>& side : lines) {
      if (side.line != nullptr) visit(side);
    }
  }

  // The row of a step in which no parameter had a part.
  void clear_row(Index chunk_row) const {
    const auto clear = [&](T* data, Index panels) {
      for (Index p = 0; p < panels; ++p) {
        std::fill_n(data + p * panel_stride() + chunk_row * plan.gate_line(),
                    plan.gate_line(), T(0));
      }
    };
    for (T* data : {d_gates, d_sums_x, d_sums_h}) clear(data, plan.panels);
    for_lines([&](const VectorSide<T>& side) { clear(side.line, plan.panels); });
    if (projects(plan)) clear(d_projected, side_inner.panels);
    for_sides(
        [&](const WeightSide<T>& side) { copy_rows(side, zeros, 0, 1, chunk_row); });
  }

  // `count` rows of what a weight has multiplied.
  void copy_rows(const WeightSide<T>& side, const T* from, Index stride, Index count,
                 Index chunk_row) const {
    const Index to_stride = operand_stride<T>(side.size);
    plan.kernels->copy_rows(from, count, side.size, stride,
                            side.operand + chunk_row * to_stride, to_stride);
  }

  // Adds the first `rows` rows of the chunk to the sums.
  void sum(Index rows, const Team& team) const {
    const Kernels<T>& k = *plan.kernels;
    for_sides([&](const WeightSide<T>& side) {
      const Team::Range panels = team.share(side.panels);
      for (Index p = panels.begin; p < panels.end; ++p) {
        k.outer({{rows, side.size, side.operand, operand_stride<T>(side.size),
                  side.d_sums + p * panel_stride() + side.map.slot_begin * plan.width},
                 static_cast<int>(slots_of(side.map)),
                 static_cast<int>(plan.width),
                 side.d_weight + p * panel_size(side),
                 true});
      }
    });
    const Team::Range panels = team.share(plan.panels);
    for_lines([&](const VectorSide<T>& side) {
      for (Index p = panels.begin; p < panels.end; ++p) {
        k.column_sum(side.line + p * panel_stride(), rows, true,
                     side.d_vector + p * plan.gate_line());
      }
    });
  }

  // Adds the sums to the caller's gradients.
  void add(const Team& team) const {
    for_sides([&](const WeightSide<T>& side) {
      const Team::Range panels = team.share(side.panels);
      for (Index p = panels.begin; p < panels.end; ++p) {
        plan.kernels->unpack_panel(side.map, p, side.d_weight + p * panel_size(side),
                                   side.size, side.grad, side.size, true);
      }
    });
    const Team::Range panels = team.share(plan.panels);
    add_vector(plan.map_x, panels, lines[0], grads.bias);
    add_vector(bias_hn_map(plan.map_h), panels, lines[0], grads.bias_hn);
    add_vector(vector_map(plan, 0, 2), panels, lines[1], grads.weight_peephole);
    add_vector(vector_map(plan, 3, 1, 2 * plan.hidden_size), panels, lines[1],
               grads.weight_peephole);
    add_vector(plan.map_x, panels, lines[2], grads.gain_ih);
    add_vector(plan.map_h, panels, lines[3], grads.gain_hh);
    add_vector(vector_map(plan, 0, 1), panels, lines[4], grads.gain_c);
    add_vector(vector_map(plan, 1, 1), panels, lines[4], grads.bias_c);
  }

  void add_vector(const PanelMap& map, const Team::Range& panels,
                  const VectorSide<T>& side, T* grad) const {
    if (grad == nullptr || side.line == nullptr) return;
    for (Index p = panels.begin; p < panels.end; ++p) {
      const Index slot = p * kSlots + map.slot_begin;
      add_line(plan, map, p, side.d_vector + slot * plan.width, true, grad);
    }
  }
};

}  // namespace fastlstm
