// Products of a row alone with W_hh: row-major as the caller has it, or in panels.
// Included through bodies.hpp.
#pragma once

#include "gemm.hpp"
#include "pack.hpp"
#include "table.hpp"

namespace fastlstm {
namespace {

// The rows of w that belong to one slot of a panel.
struct SlotRows {
  Index first;
  int count;
};

template <class V>
inline SlotRows slot_rows(const PanelMap& map, Index panel, int slot) {
  const Index unit = panel * map.panel_units + map.slot_unit[slot];
  return {map.slot_row[slot] + unit, panel_lanes<V>(map.units, unit)};
}

// The i-th panel of a call.
template <class Args>
inline Index panel_at(const Args& g, Index i) {
  return g.descending ? g.panel_end - 1 - i : g.panel_begin + i;
}

// Vectors of columns from col_begin on, the last of which may have fewer real lanes.
// kApart: every slot has sums of its own, which are added up at the end.
template <class V, bool kApart, class T>
struct RowProductTile {
  const RowProductArgs<T>& g;

  template <int kVecs>
  void run(Index vec) const {
    constexpr int kWidth = V::kWidth;
    constexpr int kLast = kVecs - 1;
    const Index first_col = g.col_begin + vec * kWidth;
    const int lanes = panel_lanes<V>(g.col_end, first_col + kLast * kWidth);
    T* c = g.c + first_col;
    V sums[kApart ? kSlots : 1][kVecs] = {};
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      sums[0][v] = !g.accumulate ? V::zero()
                   : v < kLast   ? V::load(c + v * kWidth)
                                 : load_lanes<V>(c + v * kWidth, lanes);
    }
    for (Index i = 0; i < g.panel_end - g.panel_begin; ++i) {
      const Index p = panel_at(g, i);
      if constexpr (kApart) {
#pragma GCC unroll 4
        for (int s = 0; s < kSlots; ++s) add_slot(p, s, first_col, lanes, sums[s]);
      } else {
        for (int s = 0; s < kSlots; ++s) add_slot(p, s, first_col, lanes, sums[0]);
      }
    }
#pragma GCC unroll 16
    for (int v = 0; v < kVecs; ++v) {
      V sum = sums[0][v];
      if constexpr (kApart) sum = (sum + sums[1][v]) + (sums[2][v] + sums[3][v]);
      store_lanes(sum, c + v * kWidth, v < kLast ? kWidth : lanes);
    }
  }

  template <int kVecs>
  [[gnu::always_inline]] void add_slot(Index p, int s, Index first_col, int lanes,
                                       V (&sums)[kVecs]) const {
    constexpr int kWidth = V::kWidth;
    constexpr int kLast = kVecs - 1;
    const PanelMap& map = *g.map;
    if (s < map.slot_begin || s >= map.slot_end) return;
    const T* a = g.a + p * g.a_panel_stride + (s - map.slot_begin) * kWidth;
    const SlotRows rows = slot_rows<V>(map, p, s);
    const T* w = g.w + rows.first * g.cols + first_col;
#pragma GCC unroll 4  // see accumulate()
    for (int j = 0; j < rows.count; ++j, w += g.cols) {
      const V left = V::set1(a[j]);
#pragma GCC unroll 16
      for (int v = 0; v < kLast; ++v) {
        sums[v] = fma(left, V::load(w + v * kWidth), sums[v]);
      }
      sums[kLast] = fma(left, load_lanes<V>(w + kLast * kWidth, lanes), sums[kLast]);
    }
  }
};

// c = [c +] kRows values of a times as many rows of w, over all columns of the call.
template <class V, int kRows, class T>
inline void add_rows(const RowProductArgs<T>& g, const T* a, const T* w,
                     bool accumulate) {
  V left[kRows];
#pragma GCC unroll 16
  for (int j = 0; j < kRows; ++j) left[j] = V::set1(a[j]);
  const auto add = [&](Index i, int lanes) __attribute__((always_inline)) {
    const Index col = g.col_begin + i;
    V sum = accumulate ? load_lanes<V>(g.c + col, lanes) : V::zero();
#pragma GCC unroll 16
    for (int j = 0; j < kRows; ++j) {
      sum = fma(left[j], load_lanes<V>(w + j * g.cols + col, lanes), sum);
    }
    store_lanes(sum, g.c + col, lanes);
  };
  for_vectors<V>(g.col_end - g.col_begin, add);
}

// Slot by slot, whose rows are read side by side, in few jumps; the sums wait in L1.
template <class V, class T>
inline void add_slots(const RowProductArgs<T>& g) {
  constexpr int kWidth = V::kWidth;
  const PanelMap& map = *g.map;
  bool accumulate = g.accumulate;
  for (Index i = 0; i < g.panel_end - g.panel_begin; ++i) {
    const Index p = panel_at(g, i);
    const T* a = g.a + p * g.a_panel_stride;
    for (int s = map.slot_begin; s < map.slot_end; ++s, a += kWidth) {
      const SlotRows rows = slot_rows<V>(map, p, s);
      const T* w = g.w + rows.first * g.cols;
      if (rows.count == kWidth) {
        add_rows<V, kWidth>(g, a, w, accumulate);
      } else {
        for (int j = 0; j < rows.count; ++j) {
          add_rows<V, 1>(g, a + j, w + j * g.cols, accumulate || j > 0);
        }
      }
      accumulate = accumulate || rows.count > 0;
    }
  }
}

// Vectors of a row whose sums alone would wait for each other.
constexpr int kShortRow = 2;

template <class V, class T = typename V::Value>
void row_product(const RowProductArgs<T>& g) {
  // Eight sums or more cover the latency of FMA and read long stretches of each row;
  // twelve leave registers for the other operands.
  constexpr int kMostVecs = 12;
  const Index vecs = (g.col_end - g.col_begin + V::kWidth - 1) / V::kWidth;
  // Whole rows that are short: depends on no thread's share of them.
  if (g.cols <= kShortRow * V::kWidth) {
    return for_row_tiles<kShortRow>(vecs, RowProductTile<V, true, T>{g});
  }
  if (vecs > kMostVecs) return add_slots<V>(g);
  for_row_tiles<kMostVecs>(vecs, RowProductTile<V, false, T>{g});
}

// The dot products of h with kRows rows of w, in lanes.
template <class V, int kRows, class T>
[[gnu::always_inline]] inline void dot_products(const RowGateArgs<T>& g, const T* w,
                                                V* sums) {
#pragma GCC unroll 16
  for (int j = 0; j < kRows; ++j) sums[j] = V::zero();
  const auto add = [&](Index k, int lanes) __attribute__((always_inline)) {
    const V left = load_lanes<V>(g.h + k, lanes);
#pragma GCC unroll 16
    for (int j = 0; j < kRows; ++j) {
      sums[j] = fma(left, load_lanes<V>(w + j * g.h_size + k, lanes), sums[j]);
    }
  };
  for_vectors<V>(g.h_size, add);
}

// Lane j of the result is the sum of the lanes of rows[j]: transpose(), which adds what
// it interleaves.
template <class V>
[[gnu::always_inline]] inline V sum_lanes(V (&rows)[V::kWidth]) {
#pragma GCC unroll 4
  for (int half = V::kWidth / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) {
      V low, high;
      interleave(rows[i], rows[i + half], low, high);
      rows[i] = low + high;
    }
  }
  return rows[0];
}

template <class V, class T = typename V::Value>
void row_gates(const RowGateArgs<T>& g) {
  constexpr int kWidth = V::kWidth;
  const PanelMap& map = *g.map;
  for (Index i = 0; i < g.panel_end - g.panel_begin; ++i) {
    const Index p = panel_at(g, i);
    for (int s = map.slot_begin; s < map.slot_end; ++s) {
      const SlotRows rows = slot_rows<V>(map, p, s);
      const T* w = g.w + rows.first * g.h_size;
      V sums[kWidth];
      if (rows.count == kWidth) {
        dot_products<V, kWidth>(g, w, sums);
      } else {
        for (int j = 0; j < kWidth; ++j) {
          sums[j] = V::zero();
          if (j < rows.count) dot_products<V, 1>(g, w + j * g.h_size, sums + j);
        }
      }
      T* gates = g.gates + p * g.gate_panel_stride + s * kWidth;
      (V::load(gates) + sum_lanes(sums)).store(gates);
    }
  }
}

// sums[k] = [sums[k] +] sum over the slots of kPanels panels of a[p][s] * w[p][k][s],
// for the columns k of the call.
template <class V, int kPanels, int kCount, class T>
inline void panel_lanes_product(const PanelProductArgs<T>& g, const T* a, const T* w,
                                bool first) {
  constexpr int kWidth = V::kWidth;
  constexpr Index kLine = kCount * kWidth;
  V left[kPanels][kCount];
#pragma GCC unroll 2
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 4
    for (int s = 0; s < kCount; ++s) {
      left[p][s] = V::load(a + p * g.a_panel_stride + s * kWidth);
    }
  }
  const Index step = g.descending ? -1 : 1;
  const Index begin = g.descending ? g.col_end - 1 : g.col_begin;
  w += begin * kLine;
  T* sums = g.sums + begin * kWidth;
#pragma GCC unroll 4
  for (Index left_cols = g.col_end - g.col_begin; left_cols > 0; --left_cols) {
    V sum[kPanels];
#pragma GCC unroll 2
    for (int p = 0; p < kPanels; ++p) {
      const T* line = w + p * g.cols * kLine;
      sum[p] = left[p][0] * V::load(line);
#pragma GCC unroll 4
      for (int s = 1; s < kCount; ++s) {
        sum[p] = fma(left[p][s], V::load(line + s * kWidth), sum[p]);
      }
    }
    V all = sum[0];
    if constexpr (kPanels > 1) all = all + sum[1];
    if (!first) all = V::load(sums) + all;
    all.store(sums);
    w += step * kLine;
    sums += step * kWidth;
  }
}

// One row times panels as forward reads them: dot products, whose lanes wait in `sums`
// from two panels to the next two, so that all is read as it lies in memory.
template <class V, int kCount, class T>
inline void panel_columns(const PanelProductArgs<T>& g) {
  constexpr Index kLine = kCount * V::kWidth;
  const auto run = [&](Index p, Index count, bool first) {
    const T* a = g.a + p * g.a_panel_stride;
    const T* w = g.packed + p * g.cols * kLine;
    if (count == 1) return panel_lanes_product<V, 1, kCount>(g, a, w, first);
    panel_lanes_product<V, 2, kCount>(g, a, w, first);
  };
  const Index pairs = (g.panels + 1) / 2;
  for (Index i = 0; i < pairs; ++i) {
    const Index pair = g.descending ? pairs - 1 - i : i;
    run(2 * pair, 2 * pair + 1 < g.panels ? 2 : 1, i == 0);
  }
  for (Index k = g.col_begin; k < g.col_end; ++k) {
    const T sum = reduce_add(V::load(g.sums + k * V::kWidth));
    g.c[k] = g.accumulate ? g.c[k] + sum : sum;
  }
}

template <class V, class T = typename V::Value>
void panel_product(const PanelProductArgs<T>& g) {
  if (g.map->slot_end - g.map->slot_begin == kSlots) {
    panel_columns<V, kSlots>(g);
  } else {
    panel_columns<V, kSlots - 1>(g);
  }
}

}  // namespace
}  // namespace fastlstm
