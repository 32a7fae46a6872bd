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

// sums = init + x W_ih^T + h W_hh^T for R rows from `row` on, one panel.
template <class Slots, class Weight, int kSlot, class V, int R, class T>
inline void gate_sums(const GateArgs<T>& g, Index row, Index panel,
                      V (&sums)[R][kSlots]) {
  const T* init = g.init + panel * g.init_panel_stride + row * g.init_row_stride;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int s = 0; s < kSlots; ++s) {
      sums[r][s] = V::load(init + r * g.init_row_stride + s * kSlot);
    }
  }
  if (g.x != nullptr) {
    accumulate<Slots::kXFirst, Slots::kXCount, kSlot>(
        sums, g.x + row * g.x_stride, g.x_stride, g.x_size,
        packed_panel<Weight>(g.packed_x, panel, g.x_size, Slots::kXCount * kSlot));
  }
  accumulate<Slots::kHFirst, Slots::kHCount, kSlot>(
      sums, g.h + row * g.h_stride, g.h_stride, g.h_steps,
      packed_panel<Weight>(g.packed_h, panel, g.h_size, Slots::kHCount * kSlot));
}

template <class Slots, class V, class Weight, class T>
struct GateTile {
  const GateArgs<T>& g;
  Index panel;
  GateTile(const GateArgs<T>& args, Index p) : g(args), panel(p) {}

  template <int R>
  void run(Index row) const {
    V sums[R][kSlots];
    gate_sums<Slots, Weight, V::kWidth>(g, row, panel, sums);
    T* out = g.gates + panel * g.gate_panel_stride + row * g.gate_row_stride;
    for (int r = 0; r < R; ++r, out += g.gate_row_stride) {
#pragma GCC unroll 4
      for (int s = 0; s < kSlots; ++s) sums[r][s].store(out + s * V::kWidth);
    }
  }
};

// The same for row 0 and kPanels panels.
template <class Slots, class V, class Isa, class Weight, class T>
struct GateRow {
  static constexpr bool kHalves = false;
  const GateArgs<T>& g;
  template <int kPanels, bool kHalf>
  void run(Index panel) const {
    RowSums<V, V, kPanels, kHalf> sums;
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
    for_row_tiles<Isa::kTileRows>(g.rows, GateTile<Slots, V, Weight, T>(g, p));
  }
}

}  // namespace
}  // namespace fastlstm
