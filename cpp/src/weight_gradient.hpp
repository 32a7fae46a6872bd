// The weight gradients of one layer, chunk by chunk of its steps:
//   d_W_ih += d_gates^T x;  d_W_hh += d_gates^T h_{t-1};  d_bias += sum of d_gates
// Threads share the columns of the result, so no sum is split between them. Used by
// backward_loop.hpp; triple_gradient.hpp has the sums of triples.
#pragma once

#include <algorithm>
#include <vector>

#include "layer.hpp"
#include "previous_state.hpp"

namespace fastlstm {

// To store sums in panels, and to add them from there, takes as long as so many rows.
constexpr Index kStoredRows = 6;

// A d_W accumulator in panel layout, and the operand it is summed from. Where there is
// a bias it has one column more, of ones, whose sums are those of d_gates.
template <class T>
struct OuterSide {
  const PanelMap* map;
  Index size;     // columns of the weight: I or H
  Index columns;  // all
  T* operand;     // (chunk rows, operand_stride(columns))
  T* sums;        // (P, columns, slots * W); at_once(): (P, columns - size, slots * W)
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
  OuterSide<T> side_x = side(plan.map_x, plan.input_size, args.grads.bias);
  OuterSide<T> side_h = side(plan.map_h, plan.hidden_size, args.grads.bias_hn);

  static OuterSide<T> side(const PanelMap& map, Index size, const T* d_bias) {
    return {&map, size, size + (d_bias != nullptr ? 1 : 0), nullptr, nullptr};
  }

  Index d_gate_panel() const { return chunk_rows * plan.gate_line(); }

  void take_operands(Arena& arena) {
    for (OuterSide<T>* side : {&side_x, &side_h}) {
      side->operand = arena.take<T>(
          checked_product(chunk_rows, operand_stride<T>(side->columns)) + plan.width);
    }
  }

  // Whether sums are added to the gradients without being stored, unless lanes without
  // a column cost more than that saves.
  bool at_once(const OuterSide<T>& side) const {
    const Index padded = (side.size + plan.width - 1) / plan.width * plan.width;
    return adds && single_chunk && chunk_rows <= plan.kernels->at_once_rows &&
           chunk_rows * (padded - side.size) <= kStoredRows * padded;
  }

  void take_sums(Arena& arena) {
    for (OuterSide<T>* side : {&side_x, &side_h}) {
      side->sums = arena.take<T>(
          checked_product(plan.panels * panel_line(*side), stored_columns(*side)));
    }
  }

  void fill_ones() const {
    for (const OuterSide<T>* side : {&side_x, &side_h}) {
      if (side->columns == side->size) continue;
      const Index stride = operand_stride<T>(side->columns);
      for (Index row = 0; row < chunk_rows; ++row) {
        side->operand[row * stride + side->size] = T(1);
      }
    }
  }

  // Sums where `other` would, and leaves them there.
  void sum_into(const WeightGradient& other) {
    adds = other.adds;
    side_x.sums = other.side_x.sums;
    side_h.sums = other.side_h.sums;
  }

  // x_t and h_{t-1} of the steps [begin, end) of a chunk, in rows that follow each
  // other.
  void gather(const Chunk& chunk, Index begin, Index end,
              const Team::Range& batch_rows) const {
    const Index first = plan.first_time(begin, end);
    const auto copy = [&](const OuterSide<T>& side, const T* from, Index rows,
                          Index stride, Index chunk_row) {
      const Index to_stride = operand_stride<T>(side.columns);
      T* to = side.operand + chunk_row * to_stride;
      plan.kernels->copy_rows(from, rows, side.size, stride, to, to_stride);
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
    for_panel_columns(team, plan.panels,
                      [&](const OuterSide<T>& side, Index p, const Team::Range& cols) {
                        panel_gradient(chunk, p, side, cols);
                        if (last_chunk) add_panel(side, p, cols);
                      });
  }

  // For sums that groups of rows made apart: adds those of the other groups to this
  // one's in their order, then all to the caller's gradients.
  void sum(const std::vector<WeightGradient>& others, const Team& team) const {
    const auto add_to = [](T* to, const T* from, Index count) {
      for (Index i = 0; i < count; ++i) to[i] += from[i];
    };
    for_panel_columns(
        team, plan.panels,
        [&](const OuterSide<T>& side, Index p, const Team::Range& cols) {
          for (const WeightGradient& other : others) {
            const OuterSide<T>& from = &side == &side_x ? other.side_x : other.side_h;
            add_to(sums_of(side, p, cols.begin), sums_of(from, p, cols.begin),
                   (cols.end - cols.begin) * panel_line(side));
          }
          add_panel(side, p, cols);
        });
  }

  // Calls body(side, panel, columns) over this thread's share of the result.
  template <class Body>
  void for_panel_columns(const Team& team, Index panels, const Body& body) const {
    const Index groups_x = groups(side_x.columns);
    const Index per_panel = groups_x + groups(side_h.columns);
    const Team::Range share = team.share(panels * per_panel);
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
    const Index tile = outer_tile();
    return (cols + tile - 1) / tile;
  }
  Index outer_tile() const {
    return plan.triples ? kPairRows : plan.kernels->outer_tile;
  }
  Team::Range columns(const OuterSide<T>& side, Index first, Index last) const {
    const Index tile = outer_tile();
    return {std::clamp<Index>(first * tile, 0, side.columns),
            std::clamp<Index>(last * tile, 0, side.columns)};
  }

  void panel_gradient(const Chunk& chunk, Index p, const OuterSide<T>& side,
                      Team::Range cols) const {
    const Team::Range rows = summed_rows(chunk, side);
    const Index stride = operand_stride<T>(side.columns);
    const auto from = [&](Index end) {
      return OuterSums<T>{
          rows.end - rows.begin, end - cols.begin,
          side.operand + rows.begin * stride + cols.begin, stride,
          d_gates_of(p, rows.begin) + side.map->slot_begin * plan.width};
    };
    if (at_once(side) && cols.begin < side.size) {
      const Index end = std::min(cols.end, side.size);
      plan.kernels->outer_rows(*side.map, p, from(end), grad_of(side) + cols.begin,
                               side.size, args.accumulate_grads);
      cols.begin = end;
    }
    if (cols.begin == cols.end) return;
    const Index padding = p + 1 < plan.panels ? 0 : plan.padding();
    plan.kernels->outer({from(cols.end), static_cast<int>(slots_of(*side.map)),
                         static_cast<int>(plan.width - padding),
                         sums_of(side, p, cols.begin), !chunk.newest});
  }

  // Rows of a chunk that count: at the first step h_{t-1} may be zeros.
  Team::Range summed_rows(const Chunk& chunk, const OuterSide<T>& side) const {
    const bool alike = plan.rows.offsets == nullptr && plan.rows.flags == nullptr;
    const bool zeros = &side == &side_h && side.columns == side.size && chunk.oldest &&
                       args.h0 == nullptr && alike;
    if (!zeros) return {0, chunk.rows};
    if (plan.reverse) return {0, chunk.rows - plan.batch_size};
    return {plan.batch_size, chunk.rows};
  }

  void add_panel(const OuterSide<T>& side, Index p, const Team::Range& cols) const {
    const Index end = std::min(cols.end, side.size);
    if (!at_once(side) && cols.begin < end) {
      plan.kernels->unpack_panel(*side.map, p, sums_of(side, p, cols.begin),
                                 end - cols.begin, grad_of(side) + cols.begin,
                                 side.size, args.accumulate_grads);
    }
    if (cols.end > side.size) add_bias(side, p);
  }

  void add_bias(const OuterSide<T>& side, Index p) const {
    const T* line = sums_of(side, p, side.size);
    if (&side == &side_x) {
      add_line(plan, plan.map_x, p, line, args.accumulate_grads, args.grads.bias);
    } else {  // of the GRU: n_h, the last of the slots
      const PanelMap map = bias_hn_map(plan.map_h);
      line += (map.slot_begin - plan.map_h.slot_begin) * plan.width;
      add_line(plan, map, p, line, args.accumulate_grads, args.grads.bias_hn);
    }
  }

  Index panel_line(const OuterSide<T>& side) const {
    return slots_of(*side.map) * plan.width;
  }
  Index stored_columns(const OuterSide<T>& side) const {
    if (at_once(side)) return side.columns - side.size;
    return plan.triples ? whole_tiles(side.columns) : side.columns;
  }
  T* sums_of(const OuterSide<T>& side, Index p, Index col) const {
    const Index first = at_once(side) ? side.size : 0;
    return side.sums + (p * stored_columns(side) + col - first) * panel_line(side);
  }
  T* grad_of(const OuterSide<T>& side) const {
    return &side == &side_x ? args.grads.weight_ih : args.grads.weight_hh;
  }

  const T* d_gates_of(Index panel, Index chunk_row = 0) const {
    return d_gates + panel * d_gate_panel() + chunk_row * plan.gate_line();
  }
};

}  // namespace fastlstm
