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

// Calls tile.template run<kPanels>(panel) over the panels [begin, end): groups of
// kRowPanels and the remainder, in ascending or descending order.
template <class Tile>
inline void for_panel_groups(Index begin, Index end, bool descending,
                             const Tile& tile) {
  const Index whole = begin + (end - begin) / kRowPanels * kRowPanels;
  const auto rest = [&] {
    for (Index p = whole; p < end; ++p) tile.template run<1>(p);
  };
  if (descending) rest();
  for (Index i = begin; i < whole; i += kRowPanels) {
    tile.template run<kRowPanels>(descending ? whole - kRowPanels - (i - begin) : i);
  }
  if (!descending) rest();
}

template <class Slots, class V, class Weight, class T>
struct GateRow {
  const GateArgs<T>& g;
  template <int kPanels>
  void run(Index panel) const {
    V sums[kPanels][kSlots];
    row_sums<Slots, Weight, V::kWidth>(g, panel, sums);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      T* out = g.gates + (panel + p) * g.gate_panel_stride;
#pragma GCC unroll 4
      for (int s = 0; s < kSlots; ++s) sums[p][s].store(out + s * V::kWidth);
    }
  }
};

// Slots of the bias and units of c are kSlot values apart.
template <class V, int kSlot, class Weight, class T>
struct LstmRow {
  const LstmStepArgs<T>& s;
  template <int kPanels>
  void run(Index panel) const {
    V sums[kPanels][kSlots];
    row_sums<AllSlots, Weight, kSlot>(s.gate, panel, sums);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      const LstmState<V> state =
          lstm_state(vec_sigmoid(sums[p][0]), vec_sigmoid(sums[p][1]),
                     vec_tanh(sums[p][2]), vec_sigmoid(sums[p][3]),
                     V::load(s.c_prev + (panel + p) * s.c_prev_panel_stride));
      state.c.store(s.c + (panel + p) * s.c_panel_stride);
      state.h.store(s.h_out + (panel + p) * kSlot);
    }
  }
};

template <class Slots, class V, class Isa, class Weight, class T = typename V::Value>
void stream_gates(const GateArgs<T>& g) {
  if (g.rows == 1) {
    for_panel_groups(g.panel_begin, g.panel_end, g.descending,
                     GateRow<Slots, V, Weight, T>{g});
  } else {
    gate_product<Slots, V, Isa, Weight>(g);
  }
}

template <class V, class Isa, class Weight, class T = typename V::Value>
void stream_lstm(const LstmStepArgs<T>& s) {
  const GateArgs<T>& g = s.gate;
  if (g.rows > 1) return lstm_step<V, Isa, Weight>(s);
  constexpr int kWidth = V::kWidth;
  const Index last = g.panel_end - 1;
  const bool half = fits_half<V, Isa>(panel_lanes<V>(s.hidden_size, last * kWidth));
  const LstmRow<HalfOf<V, Isa>, kWidth, Weight, T> narrow{s};
  if (half && g.descending) narrow.template run<1>(last);
  for_panel_groups(g.panel_begin, half ? last : g.panel_end, g.descending,
                   LstmRow<V, kWidth, Weight, T>{s});
  if (half && !g.descending) narrow.template run<1>(last);
}

}  // namespace
}  // namespace fastlstm
