// The sums of one row: the same as in gates.hpp, in the same order, arranged for a
// batch of one, where a panel alone has too few sums to cover the latency of FMA.
#pragma once

#include "table.hpp"
#include "weights.hpp"

namespace fastlstm {
namespace {

// Two panels are 8 sums in flight: two FMA a cycle at a latency of 4.
constexpr int kRowPanels = 2;

// sums[p][first + v] += sum over k of a[k] * b[p][k][v], panels b_stride apart. Inlined
// by force: out of line the sums would live in memory.
template <int kFirst, int kVecs, class V, int kPanels, class Weight>
[[gnu::always_inline]] inline void accumulate_row(V (&sums)[kPanels][kSlots],
                                                  const typename V::Value* a,
                                                  Index size, const Weight* b,
                                                  Index b_stride) {
  constexpr int kRows = StoredRows<Weight>::kCount;
  const auto add = [&](Index k, int rows) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        V right[kRows];
        read_weights(b + p * b_stride + v * V::kWidth, right);
        V& sum = sums[p][kFirst + v];
#pragma GCC unroll 2
        for (int i = 0; i < rows; ++i) sum = fma(V::set1(a[k + i]), right[i], sum);
      }
    }
    b += kVecs * V::kWidth;
  };
  Index k = 0;
#pragma GCC unroll 4
  for (; k + kRows <= size; k += kRows) add(k, kRows);
  if (k < size) add(k, 1);
}

// sums = init + x W_ih^T + h W_hh^T of row 0 for kPanels panels. Half a vector reads
// the narrow copy of the last panel, which lies behind it.
template <class Slots, class Weight, int kSlot, class V, int kPanels, class T>
[[gnu::always_inline]] inline void row_sums(const GateArgs<T>& g, Index panel,
                                            V (&sums)[kPanels][kSlots]) {
  constexpr Index kXLine = Slots::kXCount * kSlot;
  constexpr Index kHLine = Slots::kHCount * kSlot;
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
    const T* init = g.init + (panel + p) * g.init_panel_stride;
#pragma GCC unroll 4
    for (int s = 0; s < kSlots; ++s) sums[p][s] = V::load(init + s * kSlot);
  }
  const Index at = V::kWidth < kSlot ? panel + 1 : panel;
  if (g.x != nullptr) {
    const Weight* b = packed_panel<Weight>(g.packed_x, at, g.x_size, kXLine);
    const Weight* next = packed_panel<Weight>(g.packed_x, at + 1, g.x_size, kXLine);
    accumulate_row<Slots::kXFirst, Slots::kXCount>(sums, g.x, g.x_size, b, next - b);
  }
  const Weight* b = packed_panel<Weight>(g.packed_h, at, g.h_size, kHLine);
  const Weight* next = packed_panel<Weight>(g.packed_h, at + 1, g.h_size, kHLine);
  accumulate_row<Slots::kHFirst, Slots::kHCount>(sums, g.h, g.h_steps, b, next - b);
}

// Calls tile.template run<count>(panel) over the panels [begin, end) in groups of
// kRowPanels, in ascending or descending order. One panel left over joins the last
// group.
template <class Tile>
inline void for_panel_groups(Index begin, Index end, bool descending,
                             const Tile& tile) {
  const Index left = (end - begin) % kRowPanels;
  const bool joins = left == 1 && end - begin > kRowPanels;
  const Index whole = end - left - (joins ? kRowPanels : 0);
  const auto rest = [&] {
    if (joins) return tile.template run<kRowPanels + 1>(whole);
    for (Index p = whole; p < end; ++p) tile.template run<1>(p);
  };
  if (descending) rest();
  for (Index i = begin; i < whole; i += kRowPanels) {
    tile.template run<kRowPanels>(descending ? whole - kRowPanels - (i - begin) : i);
  }
  if (!descending) rest();
}

}  // namespace
}  // namespace fastlstm
