// The kernels of a stream: the same sums as in gemm.hpp, in the same order, arranged
// for one row, where a panel alone has too few sums to cover the latency of FMA.
#pragma once

#include "gemm.hpp"
#include "lstm.hpp"
#include "weights.hpp"

namespace fastlstm {
namespace {

// Two panels are 8 sums in flight: two FMA a cycle at a latency of 4.
constexpr int kRowPanels = 2;

// sums[p][first + v] += sum over k of a[k] * b[p][k][v], panels b_stride apart
template <int kFirst, int kVecs, class V, int kPanels, class Weight>
inline void accumulate_row(V (&sums)[kPanels][kSlots], const typename V::Value* a,
                           Index size, const Weight* b, Index b_stride) {
  constexpr int kRows = StoredRows<Weight>::kCount;
  const auto add = [&](Index k, int rows) {
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
  for (; k + kRows <= size; k += kRows) add(k, kRows);
  if (k < size) add(k, 1);
}

// sums = init + x W_ih^T + h W_hh^T of row 0 for kPanels panels
template <class Slots, class Weight, class V, int kPanels, class T>
inline void row_sums(const GateArgs<T>& g, Index panel, V (&sums)[kPanels][kSlots]) {
  constexpr Index kXLine = Slots::kXCount * V::kWidth;
  constexpr Index kHLine = Slots::kHCount * V::kWidth;
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
    const T* init = g.init + (panel + p) * g.init_panel_stride;
#pragma GCC unroll 4
    for (int s = 0; s < kSlots; ++s) sums[p][s] = V::load(init + s * V::kWidth);
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

// Calls tile.template run<kPanels>(panel) over the panels of the call: groups of
// kRowPanels and the remainder, in ascending or descending order.
template <class Tile, class T>
inline void for_panel_groups(const GateArgs<T>& g, const Tile& tile) {
  const Index count = g.panel_end - g.panel_begin;
  const Index whole = g.panel_begin + count / kRowPanels * kRowPanels;
  const auto rest = [&] {
    for (Index p = whole; p < g.panel_end; ++p) tile.template run<1>(p);
  };
  if (g.descending) {
    rest();
    for (Index p = whole - kRowPanels; p >= g.panel_begin; p -= kRowPanels)
      tile.template run<kRowPanels>(p);
  } else {
    for (Index p = g.panel_begin; p < whole; p += kRowPanels)
      tile.template run<kRowPanels>(p);
    rest();
  }
}

template <class Slots, class V, class Weight, class T>
struct GateRow {
  const GateArgs<T>& g;
  template <int kPanels>
  void run(Index panel) const {
    V sums[kPanels][kSlots];
    row_sums<Slots, Weight>(g, panel, sums);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      T* out = g.gates + (panel + p) * g.gate_panel_stride;
#pragma GCC unroll 4
      for (int s = 0; s < kSlots; ++s) sums[p][s].store(out + s * V::kWidth);
    }
  }
};

template <class V, class Weight, class T>
struct LstmRow {
  const LstmStepArgs<T>& s;
  template <int kPanels>
  void run(Index panel) const {
    V sums[kPanels][kSlots];
    row_sums<AllSlots, Weight>(s.gate, panel, sums);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      const Index unit = (panel + p) * V::kWidth;
      const LstmState<V> state =
          lstm_state(vec_sigmoid(sums[p][0]), vec_sigmoid(sums[p][1]),
                     vec_tanh(sums[p][2]), vec_sigmoid(sums[p][3]),
                     V::load(s.c_prev + (panel + p) * s.c_prev_panel_stride));
      state.c.store(s.c + (panel + p) * s.c_panel_stride);
      store_lanes(state.h, s.h_out + unit, panel_lanes<V>(s.hidden_size, unit));
    }
  }
};

template <class Slots, class V, class Isa, class Weight, class T = typename V::Value>
void stream_gates(const GateArgs<T>& g) {
  if (g.rows == 1) {
    for_panel_groups(g, GateRow<Slots, V, Weight, T>{g});
  } else {
    gate_product<Slots, V, Isa, Weight>(g);
  }
}

template <class V, class Isa, class Weight, class T = typename V::Value>
void stream_lstm(const LstmStepArgs<T>& s) {
  if (s.gate.rows == 1) {
    for_panel_groups(s.gate, LstmRow<V, Weight, T>{s});
  } else {
    lstm_step<V, Isa, Weight>(s);
  }
}

}  // namespace
}  // namespace fastlstm
