// The weight gradients of one layer, chunk by chunk of its steps:
//   d_W_ih += d_gates^T x;  d_W_hh += d_gates^T h_{t-1};  d_bias += sum of d_gates
// Threads share the columns of the result, so no sum is split between them. Used by
// layer_backward.cpp.
#pragma once

#include <algorithm>

#include "layer.hpp"
#include "previous_state.hpp"

namespace fastlstm {

// One d_W product takes at most this many rows, so that a step of a huge batch is cut.
constexpr Index kOuterRows = 512;

// A d_W accumulator in panel layout, and the packed operand it is summed from.
template <class T>
struct OuterSide {
  const PanelMap* map;
  Index size;   // columns: I or H
  T* operand;   // (groups, chunk rows, tile)
  T* d_weight;  // (P, size, slots * W); with one chunk a panel for each thread
};

template <class T>
struct WeightGradient {
  const LayerPlan<T>& plan;
  const LayerBackward<T>& args;
  const PreviousState<T>& previous;
  Index chunk_rows = 0;  // of the largest chunk
  bool single_chunk = true;
  T* d_gates = nullptr;  // (P, chunk rows, 4 W); read
  T* d_bias = nullptr;   // (P, 4 W)
  OuterSide<T> side_x{}, side_h{};

  Index d_gate_panel() const { return chunk_rows * plan.gate_line(); }

  void take(Arena& arena, int threads) {
    const Index tile = plan.kernels->outer_tile;
    const Index kept = single_chunk ? threads : plan.panels;
    const auto take_side = [&](const PanelMap& map, Index size) {
      const Index padded = (size + tile - 1) / tile * tile;
      return OuterSide<T>{
          &map, size, arena.take<T>(checked_product(chunk_rows, padded)),
          arena.take<T>(checked_product(kept * plan.width * slots_of(map), size))};
    };
    d_bias = arena.take<T>(plan.panels * plan.gate_line());
    side_x = take_side(plan.map_x, plan.input_size);
    side_h = take_side(plan.map_h, plan.hidden_size);
  }

  // x_t and h_{t-1} of a chunk, in the layout of the d_W product.
  void pack(Index begin, Index end, const Team::Range& batch_rows) const {
    const Kernels<T>& k = *plan.kernels;
    const Index first = plan.first_time(begin, end);
    const auto pack_side = [&](const OuterSide<T>& side, const T* from, Index rows,
                               Index stride, Index chunk_row) {
      k.pack_outer(from, rows, side.size, stride, chunk_row, chunk_rows * k.outer_tile,
                   side.operand);
    };
    for (Index t = first; t < first + end - begin; ++t) {
      const Part all = {batch_rows, {}};
      const Team::Range rows = all.first(plan.rows.count(t)).rows;
      const Index count = rows.end - rows.begin;
      const Index chunk_row = plan.rows.first(t) - plan.rows.first(first);
      pack_side(side_x, plan.rows.at(args.x, t, rows.begin), count, args.x.stride_n,
                chunk_row + rows.begin);
      if (!previous.staged(t)) {
        Index stride = 0;
        const T* h = previous.h_rows(t, rows.begin, stride);
        pack_side(side_h, h, count, stride, chunk_row + rows.begin);
        continue;
      }
      for (Index n = rows.begin; n < rows.end; ++n) {
        pack_side(side_h, previous.h_row(t, n), 1, 0, chunk_row + n);
      }
    }
  }

  // Panel by panel; after the last chunk a panel is added to the caller's gradients at
  // once, while it is in cache. Threads share groups of columns, so that the work is
  // even for any number of panels.
  void add(Index begin, Index end, const Team& team) const {
    if (plan.rows_between(begin, end) == 0) return;
    const Index groups_x = groups(side_x.size);
    const Index per_panel = groups_x + groups(side_h.size);
    const Team::Range share = team.share(plan.panels * per_panel);
    for (Index next = share.begin; next < share.end;) {
      const Index p = next / per_panel;
      const Index first = next - p * per_panel;
      const Index last = std::min(share.end - p * per_panel, per_panel);
      const Index kept = single_chunk ? team.rank() : p;
      panel_gradient(begin, end, p, kept, side_x, args.grads.weight_ih,
                     columns(side_x, first, last));
      panel_gradient(begin, end, p, kept, side_h, args.grads.weight_hh,
                     columns(side_h, first - groups_x, last - groups_x));
      if (first == 0) bias_gradient(begin, end, p);
      next = p * per_panel + last;
    }
  }

  Index groups(Index cols) const {
    const Index tile = plan.kernels->outer_tile;
    return (cols + tile - 1) / tile;
  }
  Team::Range columns(const OuterSide<T>& side, Index first, Index last) const {
    const Index tile = plan.kernels->outer_tile;
    return {std::clamp<Index>(first * tile, 0, side.size),
            std::clamp<Index>(last * tile, 0, side.size)};
  }

  // Calls body(first row, rows, accumulate) over the rows of a chunk.
  template <class Body>
  void for_outer_rows(Index begin, Index end, const Body& body) const {
    const Index rows = plan.rows_between(begin, end);
    for (Index first = 0; first < rows; first += kOuterRows) {
      body(first, std::min(kOuterRows, rows - first), first > 0 || end < plan.seq_len);
    }
  }

  void panel_gradient(Index begin, Index end, Index p, Index kept,
                      const OuterSide<T>& side, T* grad,
                      const Team::Range& cols) const {
    const Index count = cols.end - cols.begin;
    if (count == 0) return;
    const Index padding = p + 1 < plan.panels ? 0 : plan.padding();
    const Index line = slots_of(*side.map) * plan.width;
    T* d_weight = side.d_weight + (kept * side.size + cols.begin) * line;
    for_outer_rows(begin, end, [&](Index first, Index rows, bool accumulate) {
      plan.kernels->outer({rows, count, first, side.operand + cols.begin * chunk_rows,
                           chunk_rows * plan.kernels->outer_tile,
                           d_gates_of(p, first) + side.map->slot_begin * plan.width,
                           static_cast<int>(slots_of(*side.map)),
                           static_cast<int>(plan.width - padding), d_weight,
                           accumulate});
    });
    if (begin == 0) {
      plan.kernels->unpack_add(*side.map, p, d_weight, count, grad + cols.begin,
                               side.size);
    }
  }

  const T* d_gates_of(Index panel, Index chunk_row) const {
    return d_gates + panel * d_gate_panel() + chunk_row * plan.gate_line();
  }

  void bias_gradient(Index begin, Index end, Index p) const {
    for_outer_rows(begin, end, [&](Index first, Index rows, bool accumulate) {
      plan.kernels->column_sum(d_gates_of(p, first), rows, accumulate,
                               d_bias + p * plan.gate_line());
    });
    if (begin > 0) return;
    if (args.grads.bias != nullptr) add_bias(plan.map_x, p, args.grads.bias);
    if (args.grads.bias_hn != nullptr) {
      add_bias(bias_hn_map(plan.map_h), p, args.grads.bias_hn);
    }
  }

  // d_bias is a weight of one column whose lines hold all four slots.
  void add_bias(const PanelMap& map, Index panel, T* bias) const {
    for (int s = map.slot_begin; s < map.slot_end; ++s) {
      const Index unit = panel * map.panel_units + map.slot_unit[s];
      const Index lanes = std::min(plan.width, map.units - unit);
      const T* from = d_bias + (panel * kSlots + s) * plan.width;
      for (Index j = 0; j < lanes; ++j) bias[map.slot_row[s] + unit + j] += from[j];
    }
  }
};

}  // namespace fastlstm
