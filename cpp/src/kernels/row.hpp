// The sums of one row: the same as in gates.hpp, in the same order, arranged for a
// batch of one, where a panel alone has too few sums to cover the latency of FMA.
#pragma once

#include "lanes.hpp"
#include "table.hpp"
#include "weights.hpp"

namespace fastlstm {
namespace {

// Two panels are 8 sums in flight: two FMA a cycle at a latency of 4.
constexpr int kRowPanels = 2;

// The sums of some whole panels and of half a panel behind them.
template <class V, class Half, int kPanels, bool kHalf>
struct RowSums {
  V whole[kPanels > 0 ? kPanels : 1][kSlots];
  Half half[kSlots];
};

// sums[v] += left[0] * line 0 of b + left[1] * line 1 ..., for the stored lines of one
// word.
template <int kFirst, int kVecs, class Wide, int kRows, class V, class Weight>
[[gnu::always_inline]] inline void add_lines(V (&sums)[kSlots],
                                             const Wide (&left)[kRows], int rows,
                                             const Weight* b) {
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    V right[kRows];
    read_weights(b + v * V::kWidth, right);
    V& sum = sums[kFirst + v];
#pragma GCC unroll 2
    for (int i = 0; i < rows; ++i) sum = fma(lower_lanes<V>(left[i]), right[i], sum);
  }
}

// sums[p][first + v] += sum over k of a[k] * b[p][k][v], panels b_stride apart; half a
// panel reads its narrow copy, which lies behind the last panel. Inlined by force: out
// of line the sums would live in memory.
template <int kFirst, int kVecs, class V, class Half, int kPanels, bool kHalf,
          class Weight>
[[gnu::always_inline]] inline void accumulate_row(
    RowSums<V, Half, kPanels, kHalf>& sums, const typename V::Value* a, Index size,
    const Weight* b, Index b_stride) {
  constexpr int kRows = StoredRows<Weight>::kCount;
  const Weight* narrow = b + (kPanels + 1) * b_stride;
  const auto add = [&](Index k, int rows) __attribute__((always_inline)) {
    V left[kRows];
#pragma GCC unroll 2
    for (int i = 0; i < rows; ++i) left[i] = V::set1(a[k + i]);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      add_lines<kFirst, kVecs>(sums.whole[p], left, rows, b + p * b_stride);
    }
    if constexpr (kHalf) add_lines<kFirst, kVecs>(sums.half, left, rows, narrow);
    b += kVecs * V::kWidth;
    narrow += kVecs * Half::kWidth;
  };
  Index k = 0;
#pragma GCC unroll 4
  for (; k + kRows <= size; k += kRows) add(k, kRows);
  if (k < size) add(k, 1);
}

// sums = init + x W_ih^T + h W_hh^T of row 0 for kPanels panels and perhaps a half.
template <class Slots, class Weight, class V, class Half, int kPanels, bool kHalf,
          class T>
[[gnu::always_inline]] inline void row_sums(const GateArgs<T>& g, Index panel,
                                            RowSums<V, Half, kPanels, kHalf>& sums) {
  constexpr int kSlot = V::kWidth;
  constexpr Index kXLine = Slots::kXCount * kSlot;
  constexpr Index kHLine = Slots::kHCount * kSlot;
  const T* init = g.init + panel * g.init_panel_stride;
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p, init += g.init_panel_stride) {
#pragma GCC unroll 4
    for (int s = 0; s < kSlots; ++s) sums.whole[p][s] = V::load(init + s * kSlot);
  }
  if constexpr (kHalf) {
#pragma GCC unroll 4
    for (int s = 0; s < kSlots; ++s) sums.half[s] = Half::load(init + s * kSlot);
  }
  if (g.x != nullptr) {
    const Weight* b = packed_panel<Weight>(g.packed_x, panel, g.x_size, kXLine);
    const Weight* next = packed_panel<Weight>(g.packed_x, panel + 1, g.x_size, kXLine);
    accumulate_row<Slots::kXFirst, Slots::kXCount>(sums, g.x, g.x_size, b, next - b);
  }
  const Weight* b = packed_panel<Weight>(g.packed_h, panel, g.h_size, kHLine);
  const Weight* next = packed_panel<Weight>(g.packed_h, panel + 1, g.h_size, kHLine);
  accumulate_row<Slots::kHFirst, Slots::kHCount>(sums, g.h, g.h_steps, b, next - b);
}

// tile.template run<kPanels, half>(panel)
template <int kPanels, class Tile>
inline void run_group(const Tile& tile, Index panel, bool half) {
  if constexpr (Tile::kHalves) {
    if (half) return tile.template run<kPanels, true>(panel);
  }
  if constexpr (kPanels > 0) tile.template run<kPanels, false>(panel);
}

// Runs the tile over the panels [begin, end), and half a panel behind them, in groups
// of kRowPanels, in ascending or descending order. A single panel left over joins the
// last group, as the half does.
template <class Tile>
inline void for_panel_groups(Index begin, Index end, bool half, bool descending,
                             const Tile& tile) {
  const Index count = end - begin;
  const Index left = count % kRowPanels;
  const bool joins = count >= kRowPanels && (left > 0 || half);
  const Index last = left + (joins ? kRowPanels : 0);
  const Index whole = end - last;
  const auto rest = [&] {
    switch (last) {
      case 0:
        return run_group<0>(tile, whole, half);
      case 1:
        return run_group<1>(tile, whole, half);
      case kRowPanels:
        return run_group<kRowPanels>(tile, whole, half);
      default:
        return run_group<kRowPanels + 1>(tile, whole, half);
    }
  };
  if (descending) rest();
  for (Index i = begin; i < whole; i += kRowPanels) {
    run_group<kRowPanels>(tile, descending ? whole - kRowPanels - (i - begin) : i,
                          false);
  }
  if (!descending) rest();
}

}  // namespace
}  // namespace fastlstm
