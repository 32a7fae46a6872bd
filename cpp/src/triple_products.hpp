// The products of the backward time loop of one layer where they are of triples (see
// kernels/triple_table.hpp), both in one call:
//   d_h_{t -> t-1} = d_gates_t W_hh;  d_x_t = d_gates_t W_ih
// Used by backward_products.hpp, as its other products are.
#pragma once

#include "layer.hpp"

namespace fastlstm {

// With fewer inputs than this, d_x is a dot product for each input: columns side by
// side would be mostly padding.
constexpr Index kNarrowInput = 8;

template <class T>
struct TripleProducts {
  const LayerPlan<T>& plan;  // of the piece at hand, as the arguments
  const LayerBackward<T>& args;
  BFloat16Pair* w_h = nullptr;
  BFloat16Pair* w_x = nullptr;
  BFloat16Pair* scratch = nullptr;  // (threads, kTripleScratch)

  bool with_d_x() const {
    return plan.triples && args.d_x.data != nullptr && plan.input_size >= kNarrowInput;
  }

  void take_columns(Arena& arena) {
    const auto take = [&](bool wanted, Index cols) {
      return arena.take<BFloat16Pair>(checked_product(
          wanted ? plan.panels * kPanelSteps * kStepWords : 0, tile_pairs(cols)));
    };
    w_h = take(plan.triples, plan.hidden_size);
    w_x = take(with_d_x(), plan.input_size);
  }
  void take_scratch(Arena& arena, int threads) {
    scratch = arena.take<BFloat16Pair>(plan.triples ? threads * kTripleScratch : 0);
  }

  // This thread's share.
  void pack(const Team& team) const {
    const auto pack = [&](const PanelMap& map, const T* w, Index cols,
                          BFloat16Pair* packed) {
      const Team::Range pairs = team.share(tile_pairs(cols));
      plan.kernels->triples.pack_columns(map, w, cols, pairs.begin, pairs.end, packed);
    };
    pack(plan.map_h, args.params.weight_hh, plan.hidden_size, w_h);
    if (with_d_x()) pack(plan.map_x, args.params.weight_ih, plan.input_size, w_x);
  }

  // All but the results; rank: of this thread, `team`: those that share the columns.
  TripleProductArgs<T> product_args(const T* d_gates, Index panel_stride, Index rows,
                                    int rank) const {
    TripleProductArgs<T> a{};
    a.rows = rows;
    a.d_gates = d_gates;
    a.panel_stride = panel_stride;
    a.panels = plan.panels;
    a.padding = plan.padding();
    a.scratch = scratch + rank * kTripleScratch;
    return a;
  }
  // d_h of these columns, up to whole tiles.
  TripleTarget<T> target_h(const Team& team, T* d_h) const {
    const Team::Range pairs = team.share(tile_pairs(plan.hidden_size));
    const Index cols = whole_tiles(plan.hidden_size);
    return {w_h, pairs.begin, pairs.end, cols, d_h, plan.padded_units, false};
  }
  TripleTarget<T> target_x(const Team& team, T* d_x) const {
    const Team::Range pairs = team.share(tile_pairs(plan.input_size));
    return {w_x, pairs.begin,       pairs.end,          plan.input_size,
            d_x, args.d_x.stride_n, args.accumulate_d_x};
  }
};

}  // namespace fastlstm
