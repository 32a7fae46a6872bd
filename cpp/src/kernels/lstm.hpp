// The LSTM cell: fused step, pointwise forward for chosen activations, pointwise
// backward. Equations: docs/math.md. Gates i, f, g, o are the four slots of a panel.
#pragma once

#include "gates.hpp"
#include "lanes.hpp"
#include "math.hpp"

namespace fastlstm {
namespace {

constexpr unsigned kTanhOfG = 1u << 2;  // for squash: i, f and o are sigmoids

// The end of a step of one row and panel, from the sums of its gates, in two parts: c
// for all rows of a tile before h, so that there is work while a row's c is awaited.
// Slots are kSlot values apart, of which V holds the real ones, or those from `lane`
// on. Inlined by force: out of line the sums would live in memory.
//
// c = f * c_prev + i * g. Leaves c and o in sums.
template <int kSlot, class V, class T>
[[gnu::always_inline]] inline void cell_state(const LstmStepArgs<T>& s, Index row,
                                              Index panel, V (&sums)[kSlots],
                                              Index lane = 0) {
  squash<kTanhOfG>(sums);
  const V i = sums[0];
  const V f = sums[1];
  const V g = sums[2];
  const V o = sums[3];
  const T* c_prev = s.c_prev + panel * s.c_prev_panel_stride + lane;
  const V c = fma(f, V::load(c_prev + row * s.c_prev_row_stride), i * g);
  c.store(s.c + panel * s.c_panel_stride + row * s.c_row_stride + lane);
  sums[0] = c;
  sums[3] = o;
  if (s.gate.gates == nullptr) return;
  T* out = s.gate.gates + panel * s.gate.gate_panel_stride +
           row * s.gate.gate_row_stride + lane;
  i.store(out);
  f.store(out + kSlot);
  g.store(out + 2 * kSlot);
  o.store(out + 3 * kSlot);
}

// tanh(c) of K rows or panels, where cell_state has left c.
template <int K, class V>
[[gnu::always_inline]] inline void squash_c(V (&sums)[K][kSlots]) {
  V c[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) c[k] = sums[k][0];
  squash<(1u << K) - 1>(c);
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) sums[k][0] = c[k];
}

// h = o * tanh(c)
template <int kSlot, class V, class T>
[[gnu::always_inline]] inline void cell_output(const LstmStepArgs<T>& s, Index row,
                                               Index panel, int lanes,
                                               const V (&sums)[kSlots]) {
  store_lanes(sums[3] * sums[0], s.h_out + row * s.h_out_stride + panel * kSlot, lanes);
}

template <class V, int kSlot, class Weight, class T>
struct LstmTile {
  const LstmStepArgs<T>& s;
  const PanelTerms<Weight, T>& terms;
  Index panel;

  template <int R>
  void run(Index row) const {
    V sums[R][kSlots];
    gate_sums<AllSlots, kSlot>(terms, row, sums);
    const int lanes = panel_lanes<V>(s.hidden_size, panel * kSlot);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) cell_state<kSlot>(s, row + r, panel, sums[r]);
    squash_c(sums);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) cell_output<kSlot>(s, row + r, panel, lanes, sums[r]);
  }
};

// The same for row 0, kPanels panels and perhaps half a panel behind them. Lanes of h
// from stored_units on are not stored.
template <class V, class Isa, class Weight, class T>
struct LstmRow {
  using Half = HalfOf<V, Isa>;
  static constexpr bool kHalves = Half::kWidth < V::kWidth;
  const LstmStepArgs<T>& s;
  Index stored_units;

  template <int kPanels, bool kHalf>
  void run(Index panel) const {
    constexpr int kSlot = V::kWidth;
    // Half a panel is a long chain of narrow work: beside that of two panels it is done
    // while they are, behind that of one it delays h less. Measured.
    constexpr bool kHalfFirst = kHalf && kPanels > 1;
    const Index half = panel + kPanels;
    RowSums<V, kPanels, kHalf> sums;
    row_sums<AllSlots, Isa, Weight>(s.gate, panel, sums);
    Half narrow[kSlots];
    if constexpr (kHalf) {
#pragma GCC unroll 4
      for (int i = 0; i < kSlots; ++i) {
        const V pair = sums.half[i / 2];
        narrow[i] = i % 2 == 0 ? pair.lower_half() : pair.upper_half();
      }
    }
    if constexpr (kHalfFirst) cell_state<kSlot>(s, 0, half, narrow);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) cell_state<kSlot>(s, 0, panel + p, sums.whole[p]);
    if constexpr (kHalf && !kHalfFirst) cell_state<kSlot>(s, 0, half, narrow);
    if constexpr (kHalfFirst) narrow[0] = vec_tanh(narrow[0]);
    if constexpr (kPanels > 0) squash_c(sums.whole);
    if constexpr (kHalf && !kHalfFirst) narrow[0] = vec_tanh(narrow[0]);
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      const int lanes = panel_lanes<V>(stored_units, (panel + p) * kSlot);
      cell_output<kSlot>(s, 0, panel + p, lanes, sums.whole[p]);
    }
    if constexpr (kHalf) {
      const int lanes = panel_lanes<Half>(stored_units, half * kSlot);
      cell_output<kSlot>(s, 0, half, lanes, narrow);
    }
  }
};

// The same for a panel alone, in two halves side by side.
template <class V, class Isa, class T>
struct LstmHalves {
  using Half = HalfOf<V, Isa>;
  static constexpr int kSlot = V::kWidth;
  static constexpr int kCount = kSlot / Half::kWidth;
  const LstmStepArgs<T>& s;
  Index stored_units;

  void run() const {
    const GateArgs<T>& g = s.gate;
    RowSums<Half, kCount, false> sums;
#pragma GCC unroll 2
    for (int i = 0; i < kCount; ++i) {
#pragma GCC unroll 4
      for (int slot = 0; slot < kSlots; ++slot) {
        sums.whole[i][slot] = Half::load(g.init + slot * kSlot + i * Half::kWidth);
      }
    }
    const auto add = [&](const T* a, Index size, const T* b) {
      accumulate_row<0, kSlots, kSlot>(sums, a, size, b, Half::kWidth, 0, [] {});
    };
    if (g.x != nullptr) add(g.x, g.x_size, g.packed_x);
    add(g.h, g.h_steps, g.packed_h);
#pragma GCC unroll 2
    for (int i = 0; i < kCount; ++i) {
      cell_state<kSlot>(s, 0, 0, sums.whole[i], i * Half::kWidth);
    }
    squash_c(sums.whole);
#pragma GCC unroll 2
    for (int i = 0; i < kCount; ++i) {
      const Index lane = i * Half::kWidth;
      store_lanes(sums.whole[i][3] * sums.whole[i][0], s.h_out + lane,
                  panel_lanes<Half>(stored_units, lane));
    }
  }
};

// Whether panels are taken one by one: the cell of each is hidden behind the sums of
// the next, where these wait for more weights than L1 holds, and panels are so few that
// cells show. Not where other sums fill the wait.
template <class V, class Isa, class Weight, class T>
inline bool takes_single_panels(const LstmStepArgs<T>& s) {
  return StoredRows<Weight>::kCount == 1 && s.gate.ahead == nullptr &&
         s.hidden_size >= Isa::kLeastSingle * V::kWidth &&
         s.hidden_size <= Isa::most_single() * V::kWidth;
}

// All panels of row 0.
template <class V, class Isa, class Weight, class T>
inline void lstm_row(const LstmStepArgs<T>& s, Index stored_units) {
  const GateArgs<T>& g = s.gate;
  const Index last = g.panel_end - 1;
  const bool half = fits_half<V, Isa>(panel_lanes<V>(s.hidden_size, last * V::kWidth));
  const Index end = half ? last : g.panel_end;
  if constexpr (HalfOf<V, Isa>::kWidth < V::kWidth && StoredRows<Weight>::kCount == 1) {
    if (s.hidden_size <= V::kWidth && !half && Isa::halves_alone()) {
      LstmHalves<V, Isa, T>{s, stored_units}.run();
      return finish_ahead<V, Isa>(g);
    }
  }
  const LstmRow<V, Isa, Weight, T> tile{s, stored_units};
  if (takes_single_panels<V, Isa, Weight>(s)) {
    for_panel_groups<1>(g.panel_begin, end, half, g.descending, tile);
  } else {
    for_panel_groups<kRowPanels>(g.panel_begin, end, half, g.descending, tile);
  }
  finish_ahead<V, Isa>(g);
}

// One panel of all rows.
template <class V, class Isa, int kSlot, class Weight, class T>
inline void lstm_panel(const LstmStepArgs<T>& s, Index panel) {
  for_row_groups<AllSlots, V, Isa, kSlot, Weight>(
      s.gate, panel, [&](const auto& terms) {
        for_row_tiles<Isa::kTileRows>(terms.rows,
                                      LstmTile<V, kSlot, Weight, T>{s, terms, panel},
                                      terms.first_row);
      });
}

template <class V, class Isa, class Weight = typename V::Value,
          class T = typename V::Value>
void lstm_step(const LstmStepArgs<T>& s) {
  const GateArgs<T>& g = s.gate;
  const auto run_panel = [&](Index p) {
    if (fits_half<V, Isa>(panel_lanes<V>(s.hidden_size, p * V::kWidth))) {
      lstm_panel<HalfOf<V, Isa>, Isa, V::kWidth, Weight>(s, p);
    } else {
      lstm_panel<V, Isa, V::kWidth, Weight>(s, p);
    }
  };
  if (g.rows == 1) return lstm_row<V, Isa, Weight>(s, s.hidden_size);
  for (Index i = 0; i < g.panel_end - g.panel_begin; ++i) {
    run_panel(g.descending ? g.panel_end - 1 - i : g.panel_begin + i);
  }
}

// From the arguments of a step to those of the one behind it.
template <class T>
inline void next_step(LstmStepArgs<T>& s, const StepStrides& strides) {
  GateArgs<T>& g = s.gate;
  g.descending = !g.descending;
  g.h = s.h_out;
  g.h_stride = s.h_out_stride;
  g.h_steps = g.h_size;
  if (g.x != nullptr) g.x += strides.x;
  g.init += strides.init;
  if (g.gates != nullptr) g.gates += strides.gates;
  s.c_prev = s.c;
  s.c_prev_row_stride = s.c_row_stride;
  s.c_prev_panel_stride = s.c_panel_stride;
  s.c += strides.c;
  s.h_out += strides.h_out;
}

template <class V, class Isa, class T = typename V::Value>
void lstm_steps(const LstmStepArgs<T>& first, Index steps, const StepStrides& strides) {
  LstmStepArgs<T> s = first;
  GateArgs<T>& g = s.gate;
  // Each step takes as many of the units ahead.
  const Index end = g.ahead == nullptr ? 0 : g.ahead->end;
  const Index units = g.ahead == nullptr ? 0 : end - g.ahead->next;
  for (Index left = steps - 1;; --left) {
    if (g.ahead != nullptr) g.ahead->end = end - units * left / steps;
    lstm_step<V, Isa>(s);
    if (left == 0) return;
    next_step(s, strides);
  }
}

// The same step from stored pre-activations, with chosen activations of g and c.
template <class V, class T = typename V::Value>
void lstm_forward(const PointwiseForwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index p = a.panel_begin; p < a.panel_end; ++p) {
    const int lanes = panel_lanes<V>(a.hidden_size, p * kWidth);
    for (Index r = 0; r < a.rows; ++r) {
      T* gates = a.gates + p * a.gate_panel_stride + r * a.gate_row_stride;
      const V i = vec_sigmoid(V::load(gates));
      const V f = vec_sigmoid(V::load(gates + kWidth));
      const V g = activate(a.cell_activation, V::load(gates + 2 * kWidth));
      const V o = vec_sigmoid(V::load(gates + 3 * kWidth));
      const V c_prev =
          V::load(a.c_prev + p * a.c_prev_panel_stride + r * a.c_prev_row_stride);
      const V c = fma(f, c_prev, i * g);
      i.store(gates);
      f.store(gates + kWidth);
      g.store(gates + 2 * kWidth);
      o.store(gates + 3 * kWidth);
      c.store(a.c + p * a.c_panel_stride + r * a.c_row_stride);
      store_lanes(o * activate(a.output_activation, c),
                  a.h_out + r * a.h_out_stride + p * kWidth, lanes);
    }
  }
}

// The four gates; the step at hand has read c already.
template <int kSlot, class T>
inline void prefetch_next(const PointwiseBackwardArgs<T>& a, Index row, Index panel) {
  if (a.next_gates != nullptr) {
    prefetch<kL2>(
        a.next_gates + panel * a.next_gate_panel_stride + row * a.gate_row_stride,
        kSlots * kSlot);
  }
  if (a.next_d_output != nullptr) {
    prefetch<kL2>(a.next_d_output + row * a.d_output_stride + panel * kSlot, kSlot);
  }
}

// d_c += d_h * o * tanh'(c);  d_o = d_h * h (1 - o);
// d_i = d_c * g * i (1 - i);  d_f = d_c * c_prev * f (1 - f);  d_g = d_c * i * (1 -
// g^2); d_c_prev = d_c * f.  tanh(c) is h / o, as o is never denormal: a fifth of the
// time. With other activations their derivatives take the place of tanh's.
template <class V, int kSlot, bool kPlain, class T>
inline void lstm_backward_panel(const PointwiseBackwardArgs<T>& a, Index p) {
  const V one = V::set1(1);
  const int cell = kPlain ? kTanh : a.cell_activation;
  const int output = kPlain ? kTanh : a.output_activation;
  const int lanes = panel_lanes<V>(a.hidden_size, p * kSlot);
  const T* gates = a.gates + p * a.gate_panel_stride;
  const T* c_prev = a.c_prev + p * a.c_prev_panel_stride;
  const T* d_h_in = a.d_h + p * kSlot;
  T* d_c_io = a.d_c + p * a.d_c_panel_stride;
  T* d_gates = a.d_gates + p * a.d_gate_panel_stride;
  for (Index r = 0; r < a.rows; ++r) {
    prefetch_next<kSlot>(a, r, p);
    const V i = V::load(gates);
    const V f = V::load(gates + kSlot);
    const V g = V::load(gates + 2 * kSlot);
    const V o = V::load(gates + 3 * kSlot);
    const V h = load_lanes<V>(a.h + r * a.h_stride + p * kSlot, lanes);
    V d_h = V::load(d_h_in);
    if (a.d_output != nullptr) {
      d_h = d_h + load_lanes<V>(a.d_output + r * a.d_output_stride + p * kSlot, lanes);
    }
    const V d_c = V::load(d_c_io) + activation_gradient(output, h / o, d_h * o);
    (d_c * g * i * (one - i)).store(d_gates);
    (d_c * V::load(c_prev) * f * (one - f)).store(d_gates + kSlot);
    activation_gradient(cell, g, d_c * i).store(d_gates + 2 * kSlot);
    (d_h * h * (one - o)).store(d_gates + 3 * kSlot);
    (d_c * f).store(d_c_io);
    gates += a.gate_row_stride;
    c_prev += a.c_prev_row_stride;
    d_h_in += a.d_h_stride;
    d_c_io += kSlot;
    d_gates += kSlots * kSlot;
  }
}

template <class V, class Isa, bool kPlain, class T>
inline void lstm_backward_panels(const PointwiseBackwardArgs<T>& a) {
  for (Index p = a.panel_begin; p < a.panel_end; ++p) {
    if (fits_half<V, Isa>(panel_lanes<V>(a.hidden_size, p * V::kWidth))) {
      lstm_backward_panel<HalfOf<V, Isa>, V::kWidth, kPlain>(a, p);
    } else {
      lstm_backward_panel<V, V::kWidth, kPlain>(a, p);
    }
  }
}

template <class V, class Isa, class T = typename V::Value>
void lstm_backward(const PointwiseBackwardArgs<T>& a) {
  if (a.cell_activation == kTanh && a.output_activation == kTanh) {
    lstm_backward_panels<V, Isa, true>(a);
  } else {
    lstm_backward_panels<V, Isa, false>(a);
  }
}

}  // namespace
}  // namespace fastlstm
