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

// The sums of some whole panels and of half a panel behind them, whose slots lie in
// pairs: half as many sums as slots, and no narrower ones, for which Intel's cores have
// one FMA unit less.
template <class V, int kPanels, bool kHalf>
struct RowSums {
  static constexpr int kPairs = kSlots / 2;
  V whole[kPanels > 0 ? kPanels : 1][kSlots];
  V half[kHalf ? kPairs : 1];
};

// sums[v] += left[0] * line 0 of b + left[1] * line 1 ..., for the stored lines of one
// word; vectors of a line are kSlot values apart.
template <int kFirst, int kVecs, int kSlot, int kRows, class V, class Weight, int kSums>
[[gnu::always_inline]] inline void add_lines(V (&sums)[kSums], const V (&left)[kRows],
                                             int rows, const Weight* b) {
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    V right[kRows];
    read_weights(b + v * kSlot, right);
    V& sum = sums[kFirst + v];
#pragma GCC unroll 2
    for (int i = 0; i < rows; ++i) sum = fma(left[i], right[i], sum);
  }
}

// One unit of ProjectionArgs: its sums in flight.
template <class V, int kSteps, class T>
struct ProjectedUnit {
  V sums[kSteps];
  const T* x;
  const T* w;
  Index size = 0;

  [[gnu::always_inline]] explicit ProjectedUnit(const ProjectionArgs<T>& p)
      : x(p.x), w(p.packed) {
    constexpr int kWidth = V::kWidth;
    const Index panel = p.next / kSlots;
    const Index slot = p.next % kSlots;
    const V bias = V::load(p.bias + p.next * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kSteps; ++r) sums[r] = bias;
    if (slot < p.slot_begin || slot >= p.slot_end) return;
    const Index slots = p.slot_end - p.slot_begin;
    w += (panel * slots + slot - p.slot_begin) * p.x_size * kWidth;
    size = p.x_size;
  }
  [[gnu::always_inline]] void add() {
    const V right = V::load(w);
#pragma GCC unroll 16
    for (int r = 0; r < kSteps; ++r) sums[r] = fma(V::set1(x[r]), right, sums[r]);
    w += V::kWidth;
    x += kSteps;
  }
  [[gnu::always_inline]] void store(ProjectionArgs<T>& p) const {
    T* out = p.sums + p.next / kSlots * p.panel_stride + p.next % kSlots * V::kWidth;
#pragma GCC unroll 16
    for (int r = 0; r < kSteps; ++r, out += p.step_stride) {
      if (r < p.steps) sums[r].store(out);
    }
    ++p.next;
  }
};

template <class V, class Isa, class T = typename V::Value>
void project(ProjectionArgs<T>& p) {
  while (p.next < p.end) {
    ProjectedUnit<V, Isa::kProjectedSteps, T> unit(p);
    for (Index k = 0; k < unit.size; ++k) unit.add();
    unit.store(p);
  }
}

// The units that a step has left.
template <class V, class Isa, class T>
inline void finish_ahead(const GateArgs<T>& g) {
  if constexpr (Isa::kProjectedSteps > 0) {
    if (g.ahead != nullptr) project<V, Isa>(*g.ahead);
  }
}

// sums[p][first + v] += sum over k of a[k] * b[p][k][v], panels b_stride apart and
// slots kSlot; half a panel reads its narrow copy, which lies behind the last panel.
// beside() is called after each of the first `both` lines. Inlined by force: out of
// line the sums would live in memory.
template <int kFirst, int kVecs, int kSlot, class V, int kPanels, bool kHalf,
          class Weight, class Beside>
[[gnu::always_inline]] inline void accumulate_row(RowSums<V, kPanels, kHalf>& sums,
                                                  const typename V::Value* a,
                                                  Index size, const Weight* b,
                                                  Index b_stride, Index both,
                                                  const Beside& beside) {
  constexpr int kRows = StoredRows<Weight>::kCount;
  static_assert(!kHalf || (kFirst == 0 && kVecs == kSlots), "pairs of all slots");
  constexpr int kPairs = RowSums<V, kPanels, kHalf>::kPairs;
  const Weight* narrow = b + (kPanels + 1) * b_stride;
  const auto add = [&](Index k, int rows) __attribute__((always_inline)) {
    V left[kRows];
#pragma GCC unroll 2
    for (int i = 0; i < rows; ++i) left[i] = V::set1(a[k + i]);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      add_lines<kFirst, kVecs, kSlot>(sums.whole[p], left, rows, b + p * b_stride);
    }
    if constexpr (kHalf) add_lines<0, kPairs, kSlot>(sums.half, left, rows, narrow);
    b += kVecs * kSlot;
    narrow += kPairs * kSlot;
  };
  Index k = 0;
#pragma GCC unroll 2
  for (; k + kRows <= both; k += kRows) {
    add(k, kRows);
    beside();
  }
#pragma GCC unroll 4
  for (; k + kRows <= size; k += kRows) add(k, kRows);
  if (k < size) add(k, 1);
}

// sums = init + x W_ih^T + h W_hh^T of row 0 for kPanels panels and perhaps a half.
template <class Slots, class Isa, class Weight, class V, int kPanels, bool kHalf,
          class T>
[[gnu::always_inline]] inline void row_sums(const GateArgs<T>& g, Index panel,
                                            RowSums<V, kPanels, kHalf>& sums) {
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
    for (int s = 0; s < kSlots; s += 2) {
      using Half = HalfOf<V, Isa>;
      sums.half[s / 2] =
          V::join(Half::load(init + s * kSlot), Half::load(init + (s + 1) * kSlot));
    }
  }
  if (g.x != nullptr) {
    const Weight* b = packed_panel<Weight>(g.packed_x, panel, g.x_size, kXLine);
    const Weight* next = packed_panel<Weight>(g.packed_x, panel + 1, g.x_size, kXLine);
    accumulate_row<Slots::kXFirst, Slots::kXCount, kSlot>(sums, g.x, g.x_size, b,
                                                          next - b, 0, [] {});
  }
  const Weight* b = packed_panel<Weight>(g.packed_h, panel, g.h_size, kHLine);
  const Weight* next = packed_panel<Weight>(g.packed_h, panel + 1, g.h_size, kHLine);
  // Of a stream nothing is projected ahead.
  constexpr bool kAhead = Isa::kProjectedSteps > 0 && StoredRows<Weight>::kCount == 1;
  if constexpr (kAhead && kPanels == kRowPanels && !kHalf) {
    if (g.ahead != nullptr && g.ahead->next < g.ahead->end) {
      ProjectedUnit<V, Isa::kProjectedSteps, T> unit(*g.ahead);
      const Index both = unit.size < g.h_steps ? unit.size : g.h_steps;
      accumulate_row<Slots::kHFirst, Slots::kHCount, kSlot>(
          sums, g.h, g.h_steps, b, next - b,
          both, [&]() __attribute__((always_inline)) { unit.add(); });
      for (Index k = both; k < unit.size; ++k) unit.add();
      return unit.store(*g.ahead);
    }
  }
  accumulate_row<Slots::kHFirst, Slots::kHCount, kSlot>(sums, g.h, g.h_steps, b,
                                                        next - b, 0, [] {});
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
// of kGroup, in ascending or descending order. A single panel left over joins the last
// group, as the half does; both are a group of their own.
template <int kGroup, class Tile>
inline void for_panel_groups(Index begin, Index end, bool half, bool descending,
                             const Tile& tile) {
  static_assert(kGroup <= kRowPanels);
  const Index count = end - begin;
  const Index left = count % kGroup;
  const bool joins = count >= kGroup && (left > 0) != half;
  const Index last = left + (joins ? kGroup : 0);
  const Index whole = end - last;
  const auto rest = [&] {
    switch (last) {
      case 0:
        return run_group<0>(tile, whole, half);
      case 1:
        return run_group<1>(tile, whole, half);
      case 2:
        return run_group<2>(tile, whole, half);
      default:  // without a half: see `joins`
        return tile.template run<kRowPanels + 1, false>(whole);
    }
  };
  if (descending) rest();
  for (Index i = begin; i < whole; i += kGroup) {
    run_group<kGroup>(tile, descending ? whole - kGroup - (i - begin) : i, false);
  }
  if (!descending) rest();
}

}  // namespace
}  // namespace fastlstm
