// The weight gradients of one layer, chunk by chunk of its steps:
//   d_W_ih += d_gates^T x;  d_W_hh += d_gates^T h_{t-1};  d_bias += sum of d_gates
// Threads share the columns of the result, so no sum is split between them. Used by
// backward_loop.hpp.
#pragma once

#include <algorithm>
#include <vector>

#include "layer.hpp"
#include "previous_state.hpp"

namespace fastlstm {

// Sums of at most so many rows are added to the gradients without being stored. More
// would leave L1 between two rows of gradients.
constexpr Index kAtOnceRows = 64;
// To store sums in panels, and to add them from there, takes as long as so many rows.
constexpr Index kStoredRows = 6;

// A d_W accumulator in panel layout, and the operand it is summed from.
template <class T>
struct OuterSide {
  const PanelMap* map;
  Index size;   // columns: I or H
  T* operand;   // (chunk rows, operand_stride())
  T* d_weight;  // (P, size, slots * W); unless at_once()
};

// Steps whose part of the sums is one product; with pieces of a sequence it may begin
// or end outside of the piece at hand.
struct Chunk {
  Index rows;  // (t, n) in all
  Index
      first_row;  // of the chunk, counted from the first of the piece: may be negative
  bool newest;    // the first one to be summed
  bool oldest;    // the last one
};

template <class T>
struct WeightGradient {
  const LayerPlan<T>& plan;
  const LayerBackward<T>& args;
  const PreviousState<T>& previous;
  Index chunk_rows = 0;  // of the largest chunk
  bool single_chunk = true;
  bool adds = true;      // to the caller's gradients; if not, `sum` does it at the end
  T* d_gates = nullptr;  // (P, chunk rows, 4 W); read
  T* d_bias = nullptr;   // (P, 4 W)
  OuterSide<T> side_x{&plan.map_x, plan.input_size, nullptr, nullptr};
  OuterSide<T> side_h{&plan.map_h, plan.hidden_size, nullptr, nullptr};

  Index d_gate_panel() const { return chunk_rows * plan.gate_line(); }

  void take_operands(Arena& arena) {
    for (OuterSide<T>* side : {&side_x, &side_h}) {
      side->operand = arena.take<T>(
          checked_product(chunk_rows, operand_stride<T>(side->size)) + plan.width);
    }
  }

  // Whether sums are added to the gradients without being stored, unless lanes without
  // a column cost more than that saves.
  bool at_once(const OuterSide<T>& side) const {
    const Index padded = (side.size + plan.width - 1) / plan.width * plan.width;
    return adds && single_chunk && chunk_rows <= kAtOnceRows &&
           chunk_rows * (padded - side.size) <= kStoredRows * padded;
  }

  void take_sums(Arena& arena) {
    for (OuterSide<T>* side : {&side_x, &side_h}) {
      const Index panels = at_once(*side) ? 0 : plan.panels;
      side->d_weight = arena.take<T>(
          checked_product(panels * plan.width * slots_of(*side->map), side->size));
    }
    d_bias = arena.take<T>(plan.panels * plan.gate_line());
  }

  // Sums where `other` would, and leaves them there.
  void sum_into(const WeightGradient& other) {
    adds = other.adds;
    side_x.d_weight = other.side_x.d_weight;
    side_h.d_weight = other.side_h.d_weight;
    d_bias = other.d_bias;
  }

  // x_t and h_{t-1} of the steps [begin, end) of a chunk, in rows that follow each
  // other.
  void gather(const Chunk& chunk, Index begin, Index end,
              const Team::Range& batch_rows) const {
    const Index first = plan.first_time(begin, end);
    const auto copy = [&](const OuterSide<T>& side, const T* from, Index rows,
                          Index stride, Index chunk_row) {
      const Index to_stride = operand_stride<T>(side.size);
      plan.kernels->copy_rows(from, rows, side.size, stride,
                              side.operand + chunk_row * to_stride, to_stride);
    };
    for (Index t = first; t < first + end - begin; ++t) {
      const Part all = {batch_rows, {}};
      const Team::Range rows = all.first(plan.rows.count(t)).rows;
      const Index count = rows.end - rows.begin;
      const Index chunk_row = plan.rows.first(t) - chunk.first_row;
      copy(side_x, plan.rows.at(args.x, t, rows.begin), count, args.x.stride_n,
           chunk_row + rows.begin);
      if (previous.factors != nullptr) {
        previous.drop_h(t, {rows, {0, plan.panels}});
        copy(side_h, previous.dropped_h + rows.begin * plan.padded_units, count,
             plan.padded_units, chunk_row + rows.begin);
        continue;
      }
      if (!previous.staged(t)) {
        Index stride = 0;
        const T* h = previous.h_rows(t, rows.begin, stride);
        copy(side_h, h, count, stride, chunk_row + rows.begin);
        continue;
      }
      for (Index n = rows.begin; n < rows.end; ++n) {
        copy(side_h, previous.h_row(t, n), 1, 0, chunk_row + n);
      }
    }
  }

  // Panel by panel; after the last chunk a panel is added to the caller's gradients at
  // once, while it is in cache. Threads share groups of columns, so that the work is
  // even for any number of panels.
  void add(const Chunk& chunk, const Team& team) const {
    if (chunk.rows == 0) return;
    const bool last_chunk = adds && chunk.oldest;
    for_panel_columns(team,
                      [&](const OuterSide<T>& side, Index p, const Team::Range& cols) {
                        panel_gradient(chunk, p, side, cols);
                        if (last_chunk && !at_once(side)) add_panel(side, p, cols);
                        if (&side == &side_h || cols.begin > 0) return;
                        bias_gradient(chunk, p);
                        if (last_chunk) add_bias(p);
                      });
  }

  // For sums that groups of rows made apart: adds those of the other groups to this
  // one's in their order, then all to the caller's gradients.
  void sum(const std::vector<WeightGradient>& others, const Team& team) const {
    const auto add_to = [](T* to, const T* from, Index count) {
      for (Index i = 0; i < count; ++i) to[i] += from[i];
    };
    for_panel_columns(
        team, [&](const OuterSide<T>& side, Index p, const Team::Range& cols) {
          const bool x = &side == &side_x;
          const Index line = slots_of(*side.map) * plan.width;
          for (const WeightGradient& other : others) {
            const OuterSide<T>& from = x ? other.side_x : other.side_h;
            add_to(sums_of(side, p, cols.begin), sums_of(from, p, cols.begin),
                   (cols.end - cols.begin) * line);
          }
          add_panel(side, p, cols);
          if (!x || cols.begin > 0) return;
          const Index bias = p * plan.gate_line();
          for (const WeightGradient& other : others) {
            add_to(d_bias + bias, other.d_bias + bias, plan.gate_line());
          }
          add_bias(p);
        });
  }

  // Calls body(side, panel, columns) over this thread's share of the result.
  template <class Body>
  void for_panel_columns(const Team& team, const Body& body) const {
    const Index groups_x = groups(side_x.size);
    const Index per_panel = groups_x + groups(side_h.size);
    const Team::Range share = team.share(plan.panels * per_panel);
    for (Index next = share.begin; next < share.end;) {
      const Index p = next / per_panel;
      const Index first = next - p * per_panel;
      const Index last = std::min(share.end - p * per_panel, per_panel);
      const Team::Range x = columns(side_x, first, last);
      const Team::Range h = columns(side_h, first - groups_x, last - groups_x);
      if (x.begin < x.end) body(side_x, p, x);
      if (h.begin < h.end) body(side_h, p, h);
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

  void panel_gradient(const Chunk& chunk, Index p, const OuterSide<T>& side,
                      const Team::Range& cols) const {
    const Team::Range rows = summed_rows(chunk, side);
    const Index stride = operand_stride<T>(side.size);
    const OuterSums<T> sums = {
        rows.end - rows.begin, cols.end - cols.begin,
        side.operand + rows.begin * stride + cols.begin, stride,
        d_gates_of(p, rows.begin) + side.map->slot_begin * plan.width};
    if (at_once(side)) {
      plan.kernels->outer_rows(*side.map, p, sums, grad_of(side) + cols.begin,
                               side.size, args.accumulate_grads);
      return;
    }
    const Index padding = p + 1 < plan.panels ? 0 : plan.padding();
    plan.kernels->outer({sums, static_cast<int>(slots_of(*side.map)),
                         static_cast<int>(plan.width - padding),
                         sums_of(side, p, cols.begin), !chunk.newest});
  }

  // Rows of a chunk that count: at the first step h_{t-1} may be zeros.
  Team::Range summed_rows(const Chunk& chunk, const OuterSide<T>& side) const {
    const bool alike = plan.rows.offsets == nullptr && plan.rows.flags == nullptr;
    const bool zeros = &side == &side_h && chunk.oldest && args.h0 == nullptr && alike;
    if (!zeros) return {0, chunk.rows};
    if (plan.reverse) return {0, chunk.rows - plan.batch_size};
    return {plan.batch_size, chunk.rows};
  }

  void add_panel(const OuterSide<T>& side, Index p, const Team::Range& cols) const {
    plan.kernels->unpack_panel(*side.map, p, sums_of(side, p, cols.begin),
                               cols.end - cols.begin, grad_of(side) + cols.begin,
                               side.size, args.accumulate_grads);
  }

  T* sums_of(const OuterSide<T>& side, Index p, Index col) const {
    return side.d_weight + (p * side.size + col) * slots_of(*side.map) * plan.width;
  }
  T* grad_of(const OuterSide<T>& side) const {
    return &side == &side_x ? args.grads.weight_ih : args.grads.weight_hh;
  }

  const T* d_gates_of(Index panel, Index chunk_row = 0) const {
    return d_gates + panel * d_gate_panel() + chunk_row * plan.gate_line();
  }

  void bias_gradient(const Chunk& chunk, Index p) const {
    plan.kernels->column_sum(d_gates_of(p), chunk.rows, !chunk.newest,
                             d_bias + p * plan.gate_line());
  }

  void add_bias(Index p) const {
    if (args.grads.bias != nullptr)
      add_line(plan, plan.map_x, p, d_bias, args.accumulate_grads, args.grads.bias);
    if (args.grads.bias_hn != nullptr) {
      add_line(plan, bias_hn_map(plan.map_h), p, d_bias, args.accumulate_grads,
               args.grads.bias_hn);
    }
  }
};

}  // namespace fastlstm
