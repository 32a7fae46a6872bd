// One step of an LSTM's variants, forward and backward, row by row. Equations:
// docs/math.md, "Variants"; argument structs: general_table.hpp.
#pragma once

#include "activations.hpp"
#include "lanes.hpp"

namespace fastlstm {
namespace {

constexpr double kNormEpsilon = 1e-5;  // added to the variance, as torch.nn.LayerNorm

// x within +-bound; bound 0: as it is.
template <class V, class T>
inline V clip_to(T bound, V x) {
  if (bound == T(0)) return x;
  return max(V::set1(-bound), min(V::set1(bound), x));
}

// d where the clip lets x through, else 0.
template <class V, class T>
inline V through_clip(T bound, V x, V d) {
  if (bound == T(0)) return d;
  return keep_where_positive(V::set1(bound) - magnitude(x), d);
}

// y = activation(clip(x))
template <class V, class T>
inline V gate_value(const GeneralCell<T>& cell, const ActivationArgs<T>& a, V x) {
  return apply(a, clip_to(cell.clip, x));
}

// The gradient by x of that, from the one by y.
template <class V, class T>
inline V gate_gradient(const GeneralCell<T>& cell, const ActivationArgs<T>& a, V x, V y,
                       V d) {
  return through_clip(cell.clip, x, slope_times(a, clip_to(cell.clip, x), y, d));
}

// 1 in the real lanes of a panel, 0 in its padding.
template <class V>
inline V real_lanes(int lanes) {
  using T = typename V::Value;
  T ones[V::kWidth];
  for (int j = 0; j < V::kWidth; ++j) ones[j] = j < lanes ? T(1) : T(0);
  return V::load(ones);
}

// Mean and 1 / sqrt(variance + epsilon) of the real lanes of `slots` vectors a panel.
template <class V, class T>
inline void find_moments(const GeneralCell<T>& cell, const T* x, Index panel_stride,
                         int slots, T& mean, T& rstd) {
  constexpr int kWidth = V::kWidth;
  const T count = static_cast<T>(cell.hidden_size * slots);
  V sum = V::zero();
  for (Index p = 0; p < cell.panels; ++p) {
    const V real = real_lanes<V>(panel_lanes<V>(cell.hidden_size, p * kWidth));
    for (int s = 0; s < slots; ++s) {
      sum = sum + keep_where_positive(real, V::load(x + p * panel_stride + s * kWidth));
    }
  }
  mean = reduce_add(sum) / count;
  V square = V::zero();
  for (Index p = 0; p < cell.panels; ++p) {
    const V real = real_lanes<V>(panel_lanes<V>(cell.hidden_size, p * kWidth));
    for (int s = 0; s < slots; ++s) {
      const V d = keep_where_positive(
          real, V::load(x + p * panel_stride + s * kWidth) - V::set1(mean));
      square = fma(d, d, square);
    }
  }
  const T variance = reduce_add(square) / count;
  rstd = T(1) / static_cast<T>(__builtin_sqrt(variance + T(kNormEpsilon)));
}

// x = (x - mean) / sigma over the four slots of a row; returns 1 / sigma.
template <class V, class T>
inline T normalise_row(const GeneralCell<T>& cell, T* x) {
  T mean = 0;
  T rstd = 0;
  find_moments<V>(cell, x, cell.record, kSlots, mean, rstd);
  for (Index p = 0; p < cell.panels; ++p) {
    for (int s = 0; s < kSlots; ++s) {
      T* v = x + p * cell.record + s * V::kWidth;
      ((V::load(v) - V::set1(mean)) * V::set1(rstd)).store(v);
    }
  }
  return rstd;
}

// Where the parts of a record lie that layer normalisation adds.
template <int kWidth>
struct NormRecord {
  static constexpr int kSumsH = 5 * kWidth, kRstdX = 9 * kWidth, kRstdH = 10 * kWidth;
};

// What the activation of slot s takes, but for the peephole.
template <class V, class T>
inline V gate_input(const GeneralCell<T>& cell, const T* record, Index p, int s) {
  constexpr int kWidth = V::kWidth;
  const V x = V::load(record + s * kWidth);
  if (cell.gain_ih == nullptr) return x;
  const Index at = (p * kSlots + s) * kWidth;
  const V h = V::load(record + NormRecord<kWidth>::kSumsH + s * kWidth);
  return fma(V::load(cell.gain_ih + at), x,
             fma(V::load(cell.gain_hh + at), h, V::load(cell.bias + at)));
}

template <class V, class T>
inline V peephole_of(const GeneralCell<T>& cell, Index p, int s) {
  return V::load(cell.peephole + (p * kSlots + s) * V::kWidth);
}

// Gates i, f, g of a panel and the c that they make: what both directions compute.
template <class V>
struct LstmInner {
  V a_i, a_f, a_g, i, f, g, c;
};

template <class V, class T>
inline LstmInner<V> lstm_inner(const GeneralCell<T>& cell, const T* record, Index p,
                               V c_prev) {
  LstmInner<V> v;
  v.a_i = gate_input<V>(cell, record, p, 0);
  v.a_f = gate_input<V>(cell, record, p, 1);
  v.a_g = gate_input<V>(cell, record, p, 2);
  if (cell.peephole != nullptr) {
    v.a_i = fma(peephole_of<V>(cell, p, 0), c_prev, v.a_i);
    v.a_f = fma(peephole_of<V>(cell, p, 1), c_prev, v.a_f);
  }
  v.i = gate_value(cell, cell.gate, v.a_i);
  v.f = cell.coupled ? V::set1(1) - v.i : gate_value(cell, cell.gate, v.a_f);
  v.g = gate_value(cell, cell.cell, v.a_g);
  // Padding stays zero, or an f above 1 would let it grow without bound.
  const V real = real_lanes<V>(panel_lanes<V>(cell.hidden_size, p * V::kWidth));
  v.c = keep_where_positive(real, clip_to(cell.cell_clip, fma(v.f, c_prev, v.i * v.g)));
  return v;
}

// The output gate of a panel, and what c becomes on its way to h.
template <class V>
struct LstmOuter {
  V a_o, o, u, y;  // u: c, normalised where that is asked for; y: its activation
};

template <class V, class T>
inline LstmOuter<V> lstm_outer(const GeneralCell<T>& cell, const T* record, Index p,
                               V c, V c_normalised) {
  LstmOuter<V> v;
  v.a_o = gate_input<V>(cell, record, p, 3);
  if (cell.peephole != nullptr) v.a_o = fma(peephole_of<V>(cell, p, 3), c, v.a_o);
  v.o = gate_value(cell, cell.gate, v.a_o);
  v.u = c;
  if (cell.gain_c != nullptr) {
    const T* gain = cell.gain_c + p * kSlots * V::kWidth;
    v.u = fma(V::load(gain), c_normalised, V::load(gain + V::kWidth));
  }
  v.y = apply(cell.output, v.u);
  return v;
}

//   c~ = clip(f * c_prev + i * g);  h = o * output(LN(c~));  c = k * c_prev + (1-k) *
//   c~
template <class V, class T = typename V::Value>
void general_lstm_forward(const GeneralCell<T>& cell, const GeneralForwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index row = 0; row < a.rows; ++row) {
    T* record = a.records + row * a.row_stride;
    T* c_row = a.c + row * cell.stride;
    if (cell.gain_ih != nullptr) {
      record[NormRecord<kWidth>::kRstdX] = normalise_row<V>(cell, record);
      record[NormRecord<kWidth>::kRstdH] =
          normalise_row<V>(cell, record + NormRecord<kWidth>::kSumsH);
    }
    for (Index p = 0; p < cell.panels; ++p) {
      lstm_inner<V>(cell, record + p * cell.record, p, V::load(c_row + p * kWidth))
          .c.store(a.scratch + p * kWidth);
    }
    T mean = 0;
    T rstd = 0;
    if (cell.gain_c != nullptr) {
      find_moments<V>(cell, a.scratch, kWidth, 1, mean, rstd);
    }
    for (Index p = 0; p < cell.panels; ++p) {
      const V c = V::load(a.scratch + p * kWidth);
      const LstmOuter<V> v = lstm_outer<V>(cell, record + p * cell.record, p, c,
                                           (c - V::set1(mean)) * V::set1(rstd));
      store_lanes(v.o * v.y, a.h + row * a.h_stride + p * kWidth,
                  panel_lanes<V>(cell.hidden_size, p * kWidth));
      T* c_io = c_row + p * kWidth;
      if (a.zone_c == nullptr) {
        c.store(c_io);
      } else {
        const V kept = V::load(a.zone_c + row * cell.stride + p * kWidth);
        fma(kept, V::load(c_io), (V::set1(1) - kept) * c).store(c_io);
      }
    }
  }
}

// Through x^ = (x - mean) / sigma: d_x = (d - mean(d) - x^ mean(d x^)) / sigma with
// d = gain * d_z. Where x^ is read, `line` takes d_z * x^, what d_gain sums.
template <class V, class T>
inline void denormalise_row(const GeneralCell<T>& cell, const T* normalised,
                            const T* gain, T rstd, const T* d_z, Index d_stride,
                            T* line, T* d_x) {
  constexpr int kWidth = V::kWidth;
  const T count = static_cast<T>(cell.hidden_size * kSlots);
  V sum = V::zero();
  V dot = V::zero();
  for (Index p = 0; p < cell.panels; ++p) {
    for (int s = 0; s < kSlots; ++s) {
      const Index at = p * d_stride + s * kWidth;
      const V x = V::load(normalised + p * cell.record + s * kWidth);
      const V d = V::load(d_z + at);
      const V scaled = V::load(gain + (p * kSlots + s) * kWidth) * d;
      (d * x).store(line + at);
      sum = sum + scaled;
      dot = fma(scaled, x, dot);
    }
  }
  const V mean = V::set1(reduce_add(sum) / count);
  const V slope = V::set1(reduce_add(dot) / count);
  for (Index p = 0; p < cell.panels; ++p) {
    for (int s = 0; s < kSlots; ++s) {
      const Index at = p * d_stride + s * kWidth;
      const V x = V::load(normalised + p * cell.record + s * kWidth);
      const V scaled = V::load(gain + (p * kSlots + s) * kWidth) * V::load(d_z + at);
      ((scaled - mean - x * slope) * V::set1(rstd)).store(d_x + at);
    }
  }
}

// From d_h by h, and d_c by c, of the step: see the equations forward, last to first.
template <class V, class T = typename V::Value>
void general_lstm_backward(const GeneralCell<T>& cell,
                           const GeneralBackwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  const V one = V::set1(1);
  T* const c_new = a.scratch;                  // c~
  T* const d_u = a.scratch + cell.stride;      // by c~, through h alone
  T* const d_o = a.scratch + 2 * cell.stride;  // by a_o
  for (Index row = 0; row < a.rows; ++row) {
    const T* record = a.records + row * a.row_stride;
    const auto c_prev_of = [&](Index p) {
      return V::load(record + p * cell.record + kSlots * kWidth);
    };
    for (Index p = 0; p < cell.panels; ++p) {
      lstm_inner<V>(cell, record + p * cell.record, p, c_prev_of(p))
          .c.store(c_new + p * kWidth);
    }
    T mean = 0;
    T rstd = 0;
    if (cell.gain_c != nullptr) find_moments<V>(cell, c_new, kWidth, 1, mean, rstd);
    V sum = V::zero();
    V dot = V::zero();
    for (Index p = 0; p < cell.panels; ++p) {
      const V c = V::load(c_new + p * kWidth);
      const V normalised = (c - V::set1(mean)) * V::set1(rstd);
      const LstmOuter<V> v =
          lstm_outer<V>(cell, record + p * cell.record, p, c, normalised);
      const V d_h = V::load(a.d_h + row * cell.stride + p * kWidth);
      gate_gradient(cell, cell.gate, v.a_o, v.o, d_h * v.y).store(d_o + p * kWidth);
      V d = slope_times(cell.output, v.u, v.y, d_h * v.o);
      if (cell.gain_c != nullptr) {
        T* line = a.line_gain_c + p * a.d_panel_stride + row * kSlots * kWidth;
        (d * normalised).store(line);
        d.store(line + kWidth);
        V::zero().store(line + 2 * kWidth);
        V::zero().store(line + 3 * kWidth);
        d = d * V::load(cell.gain_c + p * kSlots * kWidth);
        sum = sum + d;
        dot = fma(d, normalised, dot);
      }
      d.store(d_u + p * kWidth);
      if (a.inner != nullptr) {
        (v.o * v.y).store(a.inner + row * cell.stride + p * kWidth);
      }
    }
    const T count = static_cast<T>(cell.hidden_size);
    const V d_mean = V::set1(reduce_add(sum) / count);
    const V d_slope = V::set1(reduce_add(dot) / count);
    for (Index p = 0; p < cell.panels; ++p) {
      const V c = V::load(c_new + p * kWidth);
      const V c_prev = c_prev_of(p);
      const LstmInner<V> v = lstm_inner<V>(cell, record + p * cell.record, p, c_prev);
      const V d_a_o = V::load(d_o + p * kWidth);
      V d = V::load(d_u + p * kWidth);
      if (cell.gain_c != nullptr) {
        const V normalised = (c - V::set1(mean)) * V::set1(rstd);
        d = (d - d_mean - normalised * d_slope) * V::set1(rstd);
      }
      T* d_c_io = a.d_c + row * cell.stride + p * kWidth;
      const V d_c = V::load(d_c_io);
      V d_c_prev = V::zero();
      if (a.zone_c == nullptr) {
        d = d + d_c;
      } else {
        const V kept = V::load(a.zone_c + row * cell.stride + p * kWidth);
        d = fma(one - kept, d_c, d);
        d_c_prev = kept * d_c;
      }
      if (cell.peephole != nullptr) d = fma(peephole_of<V>(cell, p, 3), d_a_o, d);
      const V real = real_lanes<V>(panel_lanes<V>(cell.hidden_size, p * kWidth));
      d = keep_where_positive(real, through_clip(cell.cell_clip, c, d));
      const V d_f = d * c_prev;
      const V d_i = cell.coupled ? fma(d, v.g, V::zero() - d_f) : d * v.g;
      const V d_a_i = gate_gradient(cell, cell.gate, v.a_i, v.i, d_i);
      const V d_a_f =
          cell.coupled ? V::zero() : gate_gradient(cell, cell.gate, v.a_f, v.f, d_f);
      const V d_a_g = gate_gradient(cell, cell.cell, v.a_g, v.g, d * v.i);
      d_c_prev = fma(d, v.f, d_c_prev);
      if (cell.peephole != nullptr) {
        d_c_prev = fma(peephole_of<V>(cell, p, 0), d_a_i,
                       fma(peephole_of<V>(cell, p, 1), d_a_f, d_c_prev));
        T* line = a.line_peephole + p * a.d_panel_stride + row * kSlots * kWidth;
        (d_a_i * c_prev).store(line);
        (d_a_f * c_prev).store(line + kWidth);
        V::zero().store(line + 2 * kWidth);
        (d_a_o * c).store(line + 3 * kWidth);
      }
      d_c_prev.store(d_c_io);
      T* d_gates = a.d_gates + p * a.d_panel_stride + row * kSlots * kWidth;
      d_a_i.store(d_gates);
      d_a_f.store(d_gates + kWidth);
      d_a_g.store(d_gates + 2 * kWidth);
      d_a_o.store(d_gates + 3 * kWidth);
    }
    if (cell.gain_ih != nullptr) {
      using At = NormRecord<kWidth>;
      const Index line = row * kSlots * kWidth;
      denormalise_row<V>(cell, record, cell.gain_ih, record[At::kRstdX],
                         a.d_gates + line, a.d_panel_stride, a.line_gain_ih + line,
                         a.d_sums_x + line);
      denormalise_row<V>(cell, record + At::kSumsH, cell.gain_hh, record[At::kRstdH],
                         a.d_gates + line, a.d_panel_stride, a.line_gain_hh + line,
                         a.d_sums_h + line);
    }
  }
}

}  // namespace
}  // namespace fastlstm
