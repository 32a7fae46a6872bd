// The weight gradients of one layer where they are sums of triples (see
// kernels/triple_table.hpp). Used by backward_loop.hpp.
#pragma once

#include <algorithm>

#include "weight_gradient.hpp"

namespace fastlstm {

// Operands in triples that are larger than this come from L3: then every part of them
// is read once for so many panels of d_gates, which L2 holds. Measured with 1024/1024.
constexpr Index kOperandBytes = 768 << 10;
constexpr Index kPanelsAtOnce = 4;
// Bands of rows that are summed before the next ones: 98 KB of a panel of d_gates.
constexpr Index kBandsAtOnce = 8;

template <class T>
struct TripleGradient {
  const LayerPlan<T>& plan;
  const WeightGradient<T>& weights;
  BFloat16Pair* cut_x = nullptr;  // the operands, see CutColumnsArgs
  BFloat16Pair* cut_h = nullptr;
  BFloat16Pair* cut_panels = nullptr;  // (threads, panels_at_once())

  void take(Arena& arena, int threads) {
    const auto take = [&](Index words) {
      return arena.take<BFloat16Pair>(plan.triples ? words : 0);
    };
    cut_x = take(cut_words(weights.side_x));
    cut_h = take(cut_words(weights.side_h));
    cut_panels = take(threads * panels_at_once() * kPanelWords);
  }

  // As WeightGradient::add does.
  void add(const Chunk& chunk, const Team& team) const {
    if (chunk.rows == 0) return;
    cut_operand(weights.side_x, cut_x, chunk, team);
    cut_operand(weights.side_h, cut_h, chunk, team);
    team.barrier();
    const Index at_once = panels_at_once();
    const Index panel_groups = (plan.panels + at_once - 1) / at_once;
    const Index all_bands = (chunk.rows + kBandRows - 1) / kBandRows;
    BFloat16Pair* const scratch = cut_panels + team.rank() * at_once * kPanelWords;
    for (Index band = 0; band < all_bands; band += kBandsAtOnce) {
      const Team::Range bands = {band, std::min(band + kBandsAtOnce, all_bands)};
      Index cut = -1;  // the group of panels in scratch
      weights.for_panel_columns(
          team, panel_groups,
          [&](const OuterSide<T>& side, Index group, const Team::Range& cols) {
            const Index first = group * at_once;
            const Team::Range panels = {first, std::min(first + at_once, plan.panels)};
            if (cuts(side)) {
              if (cut != group) cut_gates(chunk, panels, bands, scratch);
              cut = group;
              add_bands(chunk, side, panels, cols, bands, scratch);
            }
            if (bands.end < all_bands) return;
            for (Index p = panels.begin; p < panels.end; ++p) {
              if (!cuts(side)) weights.panel_gradient(chunk, p, side, cols);
              if (weights.adds && chunk.oldest) weights.add_panel(side, p, cols);
            }
          });
    }
  }

  static constexpr Index kPanelWords = kBandsAtOnce * kSlots / 2 * kStepWords;
  Index bands() const { return (weights.chunk_rows + kBandRows - 1) / kBandRows; }
  Index cut_words(const OuterSide<T>& side) const {
    return checked_product(tile_pairs(side.columns), bands() * kStepWords);
  }
  Index panels_at_once() const {
    const Index words = cut_words(weights.side_x) + cut_words(weights.side_h);
    return words * Index{sizeof(BFloat16Pair)} > kOperandBytes ? kPanelsAtOnce : 1;
  }
  bool cuts(const OuterSide<T>& side) const { return !weights.at_once(side); }

  void cut_operand(const OuterSide<T>& side, BFloat16Pair* cut, const Chunk& chunk,
                   const Team& team) const {
    if (!cuts(side)) return;
    const Team::Range pairs = team.share(tile_pairs(side.columns));
    plan.kernels->triples.cut_columns({chunk.rows, side.columns, pairs.begin, pairs.end,
                                       side.operand, operand_stride<T>(side.columns),
                                       cut, bands()});
  }

  void cut_gates(const Chunk& chunk, const Team::Range& panels,
                 const Team::Range& bands, BFloat16Pair* to) const {
    const Index row = bands.begin * kBandRows;
    const Index rows = std::min(bands.end * kBandRows, chunk.rows) - row;
    for (Index p = panels.begin; p < panels.end; ++p, to += kPanelWords) {
      plan.kernels->triples.cut_panel(weights.d_gates_of(p, row), rows, to);
    }
  }

  // 32 columns of all these panels before the next 32, where the panels are several.
  void add_bands(const Chunk& chunk, const OuterSide<T>& side,
                 const Team::Range& panels, const Team::Range& cols,
                 const Team::Range& bands, const BFloat16Pair* cut_gates) const {
    const Team::Range rows = weights.summed_rows(chunk, side);
    const auto within = [&](Index band) {
      return std::clamp(band, bands.begin, bands.end);
    };
    const Index first = within(rows.begin / kBandRows);
    const Index last = within((rows.end + kBandRows - 1) / kBandRows);
    const bool more = !chunk.newest || bands.begin > 0;
    const Index step = panels_at_once() > 1 ? kPairRows : cols.end - cols.begin;
    const BFloat16Pair* const operand = &side == &weights.side_x ? cut_x : cut_h;
    const Index gates_at = (first - bands.begin) * kSlots / 2 * kStepWords +
                           side.map->slot_begin * kThirds * kTileWords;
    for (Index col = cols.begin; col < cols.end; col += step) {
      const Index end = std::min(col + step, cols.end);
      for (Index p = panels.begin; p < panels.end; ++p) {
        const T* next = p + 1 < panels.end ? weights.sums_of(side, p + 1, col)
                        : end < cols.end   ? weights.sums_of(side, panels.begin, end)
                                           : nullptr;
        plan.kernels->triples.outer(
            {whole_tiles(end - col), last - first,
             operand + (col / kPairRows * this->bands() + first) * kStepWords,
             this->bands() * kStepWords,
             cut_gates + (p - panels.begin) * kPanelWords + gates_at,
             static_cast<int>(slots_of(*side.map)), weights.sums_of(side, p, col), more,
             next});
      }
    }
  }
};

}  // namespace fastlstm
