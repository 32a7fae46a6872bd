// Pre-activations of a step: the sums of a panel's four slots, for tiles of rows or for
// one row. Included through bodies.hpp.
#pragma once

#include "gemm.hpp"
#include "row.hpp"
#include "table.hpp"
#include "weights.hpp"

namespace fastlstm {
namespace {

// The slots that x and h feed: [begin, begin + count).
struct AllSlots {
  static constexpr int kXFirst = 0, kXCount = 4, kHFirst = 0, kHCount = 4;
};
struct GruSlots {
  static constexpr int kXFirst = 0, kXCount = 3, kHFirst = 1, kHCount = 3;
};

// Terms of the sums of one panel: a[row][k] * w[k][slots], for k < size.
template <class Weight, class T>
struct GateTerms {
  const T* a;
  Index a_stride;
  const Weight* w;
  Index size;
};

// init + x W_ih^T + h W_hh^T for one panel, or what is left to add. Row 0 of init is
// that of first_row.
template <class Weight, class T>
struct PanelTerms {
  Index first_row, rows;
  const T* init;
  Index init_row_stride;
  GateTerms<Weight, T> x, h;
  WeightRange<Weight> next_x, next_h;  // read after these
};

template <class Slots, int kSlot, class Weight, class T>
inline PanelTerms<Weight, T> panel_terms(const GateArgs<T>& g, Index panel) {
  const Weight* w_x =
      packed_panel<Weight>(g.packed_x, panel, g.x_size, Slots::kXCount * kSlot);
  const Weight* w_h =
      packed_panel<Weight>(g.packed_h, panel, g.h_size, Slots::kHCount * kSlot);
  return {0,
          g.rows,
          g.init + panel * g.init_panel_stride,
          g.init_row_stride,
          {g.x, g.x_stride, w_x, g.x != nullptr ? g.x_size : 0},
          {g.h, g.h_stride, w_h, g.h_steps},
          {},
          {}};
}

// The sums of R rows from `row` on.
template <class Slots, int kSlot, class Weight, class V, int R, class T>
[[gnu::always_inline]] inline void gate_sums(const PanelTerms<Weight, T>& terms,
                                             Index row, V (&sums)[R][kSlots]) {
  const Index place = row - terms.first_row;
  const T* init = terms.init + place * terms.init_row_stride;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int s = 0; s < kSlots; ++s) {
      sums[r][s] = V::load(init + r * terms.init_row_stride + s * kSlot);
    }
  }
  const GateTerms<Weight, T>& x = terms.x;
  const GateTerms<Weight, T>& h = terms.h;
  if constexpr (StoredRows<Weight>::kCount == 1) {
    if (terms.next_x.count + terms.next_h.count > 0) {
      Ahead<Weight> ahead(terms.next_x, terms.next_h, place, R, terms.rows,
                          x.size + h.size);
      accumulate<Slots::kXFirst, Slots::kXCount, kSlot>(sums, x.a + row * x.a_stride,
                                                        x.a_stride, x.size, x.w, ahead);
      return accumulate<Slots::kHFirst, Slots::kHCount, kSlot>(
          sums, h.a + row * h.a_stride, h.a_stride, h.size, h.w, ahead);
    }
  }
  if (x.size > 0) {
    accumulate<Slots::kXFirst, Slots::kXCount, kSlot>(sums, x.a + row * x.a_stride,
                                                      x.a_stride, x.size, x.w);
  }
  accumulate<Slots::kHFirst, Slots::kHCount, kSlot>(sums, h.a + row * h.a_stride,
                                                    h.a_stride, h.size, h.w);
}

// Stores them; row 0 of `out` is that of first_row.
template <class Slots, int kSlot, class V, class Weight, class T>
struct GateTile {
  const PanelTerms<Weight, T>& terms;
  T* out;
  Index out_row_stride;

  template <int R>
  void run(Index row) const {
    V sums[R][kSlots];
    gate_sums<Slots, kSlot>(terms, row, sums);
    T* to = out + (row - terms.first_row) * out_row_stride;
    for (int r = 0; r < R; ++r, to += out_row_stride) {
#pragma GCC unroll 4
      for (int s = 0; s < kSlots; ++s) sums[r][s].store(to + s * kSlot);
    }
  }
};

// Rows whose sums wait for the next piece of the weights. With fewer, a piece is read
// from L2 more often; measured against 48 and 66.
constexpr Index kGroupRows = 132;

// The first `most` terms, which `left` then is without.
template <class Slots, int kSlot, class Weight, class T>
inline PanelTerms<Weight, T> take_terms(PanelTerms<Weight, T>& left, Index most) {
  const auto take = [](GateTerms<Weight, T>& from, Index size, Index line) {
    GateTerms<Weight, T> taken = from;
    taken.size = size < from.size ? size : from.size;
    from.a += taken.size;
    from.w += taken.size * line;
    from.size -= taken.size;
    return taken;
  };
  PanelTerms<Weight, T> taken = left;
  taken.x = take(left.x, most, Slots::kXCount * kSlot);
  taken.h = take(left.h, most - taken.x.size, Slots::kHCount * kSlot);
  return taken;
}

// Has the first `most` of the terms `coming` fetched beside `terms`.
template <class Slots, int kSlot, class Weight, class T>
inline void fetch_beside(PanelTerms<Weight, T>& terms, PanelTerms<Weight, T> coming,
                         Index most) {
  const auto first = take_terms<Slots, kSlot>(coming, most);
  terms.next_x = {first.x.w, first.x.size * Slots::kXCount * kSlot};
  terms.next_h = {first.h.w, first.h.size * Slots::kHCount * kSlot};
}

// for_row_groups() of at most so many terms at a time. Not inlined: its sums take 33 KB
// of stack.
template <class Slots, class V, class Isa, int kSlot, class Weight, class T,
          class Finish>
[[gnu::noinline]] void for_pieced_groups(const GateArgs<T>& g, Index panel, Index most,
                                         const Finish& finish) {
  const auto all = panel_terms<Slots, kSlot, Weight>(g, panel);
  const Index next_panel = g.descending ? panel - 1 : panel + 1;
  const bool last = next_panel < g.panel_begin || next_panel >= g.panel_end;
  const bool whole = all.x.size + all.h.size <= most;
  const Index groups = whole ? 1 : (g.rows + kGroupRows - 1) / kGroupRows;
  const Index tiles =
      (g.rows + groups * Isa::kTileRows - 1) / (groups * Isa::kTileRows);
  alignas(64) T sums[kGroupRows * kSlots * kSlot];
  for (Index first = 0; first < g.rows; first += tiles * Isa::kTileRows) {
    auto left = all;
    left.first_row = first;
    left.rows = tiles * Isa::kTileRows;
    if (left.rows > g.rows - first) left.rows = g.rows - first;
    left.init += first * left.init_row_stride;
    while (left.x.size + left.h.size > most) {
      auto piece = take_terms<Slots, kSlot>(left, most);
      if (first == 0) fetch_beside<Slots, kSlot>(piece, left, most);
      for_row_tiles<Isa::kTileRows>(
          left.rows, GateTile<Slots, kSlot, V, Weight, T>{piece, sums, kSlots * kSlot},
          first);
      left.init = sums;
      left.init_row_stride = kSlots * kSlot;
    }
    if (!last && first + left.rows == g.rows) {
      fetch_beside<Slots, kSlot>(left, panel_terms<Slots, kSlot, Weight>(g, next_panel),
                                 most);
    }
    finish(left);
  }
}

// Calls finish(terms) for groups of rows that together are all rows, with the terms of
// the panel that are left to add. Weights that L2 does not hold are fetched into it
// beside the terms before them: those of a whole panel if L2 has room for two, else
// pieces, whose sums are added here but for the last one.
template <class Slots, class V, class Isa, int kSlot, class Weight, class T,
          class Finish>
inline void for_row_groups(const GateArgs<T>& g, Index panel, const Finish& finish) {
  if constexpr (StoredRows<Weight>::kCount == 1) {
    constexpr Index kLineBytes = kSlots * kSlot * Index{sizeof(T)};
    const Index terms = (g.x != nullptr ? g.x_size : 0) + g.h_steps;
    const Index panel_bytes = terms * kLineBytes;
    const bool beyond = panel_bytes * (g.panel_end - g.panel_begin) > kBeyondL2;
    const Index most = beyond && g.rows > Isa::kTileRows
                           ? Isa::piece_bytes(panel_bytes) / kLineBytes
                           : 0;
    if (most > 0) {
      return for_pieced_groups<Slots, V, Isa, kSlot, Weight>(g, panel, most, finish);
    }
  }
  finish(panel_terms<Slots, kSlot, Weight>(g, panel));
}

// The same for row 0 and kPanels panels.
template <class Slots, class V, class Isa, class Weight, class T>
struct GateRow {
  static constexpr bool kHalves = false;
  const GateArgs<T>& g;
  template <int kPanels, bool kHalf>
  void run(Index panel) const {
    RowSums<V, kPanels, kHalf> sums;
    row_sums<Slots, Isa, Weight>(g, panel, sums);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      T* out = g.gates + (panel + p) * g.gate_panel_stride;
#pragma GCC unroll 4
      for (int s = 0; s < kSlots; ++s) sums.whole[p][s].store(out + s * V::kWidth);
    }
  }
};

template <class Slots, class V, class Isa, class Weight = typename V::Value,
          class T = typename V::Value>
void gate_product(const GateArgs<T>& g) {
  if (g.rows == 1) {
    for_panel_groups<kRowPanels>(g.panel_begin, g.panel_end, false, g.descending,
                                 GateRow<Slots, V, Isa, Weight, T>{g});
    return finish_ahead<V, Isa>(g);
  }
  for (Index i = 0; i < g.panel_end - g.panel_begin; ++i) {
    const Index p = g.descending ? g.panel_end - 1 - i : g.panel_begin + i;
    constexpr int kSlot = V::kWidth;
    for_row_groups<Slots, V, Isa, kSlot, Weight>(g, p, [&](const auto& terms) {
      T* out = g.gates + p * g.gate_panel_stride + terms.first_row * g.gate_row_stride;
      for_row_tiles<Isa::kTileRows>(
          terms.rows,
          GateTile<Slots, kSlot, V, Weight, T>{terms, out, g.gate_row_stride},
          terms.first_row);
    });
  }
}

}  // namespace
}  // namespace fastlstm
