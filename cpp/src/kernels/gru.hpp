// The GRU cell (reset after the product, as in cuDNN and PyTorch) and the vanilla RNN,
// pointwise. Equations: docs/math.md. GRU slots n_x, r, z, n_h; activated: n, r, z,
// n_h.
#pragma once

#include "lstm.hpp"

namespace fastlstm {
namespace {

// n = tanh(n_x + r * n_h);  h = n + z * (h_prev - n)
template <class V, class T = typename V::Value>
void gru_forward(const PointwiseForwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index p = a.panel_begin; p < a.panel_end; ++p) {
    const int lanes = panel_lanes<V>(a.hidden_size, p * kWidth);
    for (Index row = 0; row < a.rows; ++row) {
      T* gates = a.gates + p * a.gate_panel_stride + row * a.gate_row_stride;
      V r_z[2] = {V::load(gates + kWidth), V::load(gates + 2 * kWidth)};
      squash<0>(r_z);
      const auto [r, z] = r_z;
      const V n = vec_tanh(fma(r, V::load(gates + 3 * kWidth), V::load(gates)));
      const V h_prev =
          load_lanes<V>(a.h_prev + row * a.h_prev_stride + p * kWidth, lanes);
      n.store(gates);
      r.store(gates + kWidth);
      z.store(gates + 2 * kWidth);
      store_lanes(fma(z, h_prev - n, n), a.h_out + row * a.h_out_stride + p * kWidth,
                  lanes);
    }
  }
}

// d_n_x = d_h * (1 - z) * (1 - n^2);  d_r = d_n_x * n_h * r (1 - r);
// d_z = d_h * (h_prev - n) * z (1 - z);  d_n_h = d_n_x * r;  d_h_prev = d_h * z + ...
template <class V, class T = typename V::Value>
void gru_backward(const PointwiseBackwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  const V one = V::set1(1);
  for (Index p = a.panel_begin; p < a.panel_end; ++p) {
    const int lanes = panel_lanes<V>(a.hidden_size, p * kWidth);
    for (Index row = 0; row < a.rows; ++row) {
      const T* gates = a.gates + p * a.gate_panel_stride + row * a.gate_row_stride;
      T* d_gates = a.d_gates + p * a.d_gate_panel_stride + row * kSlots * kWidth;
      T* d_h_io = a.d_h + row * a.d_h_stride + p * kWidth;
      const V n = V::load(gates);
      const V r = V::load(gates + kWidth);
      const V z = V::load(gates + 2 * kWidth);
      const V n_h = V::load(gates + 3 * kWidth);
      const V h_prev =
          load_lanes<V>(a.h_prev + row * a.h_prev_stride + p * kWidth, lanes);
      V d_h = V::load(d_h_io);
      if (a.d_output != nullptr) {
        d_h = d_h +
              load_lanes<V>(a.d_output + row * a.d_output_stride + p * kWidth, lanes);
      }
      const V d_n_x = activation_gradient(kTanh, n, d_h * (one - z));
      d_n_x.store(d_gates);
      (d_n_x * n_h * r * (one - r)).store(d_gates + kWidth);
      (d_h * (h_prev - n) * z * (one - z)).store(d_gates + 2 * kWidth);
      (d_n_x * r).store(d_gates + 3 * kWidth);
      (d_h * z).store(d_h_io);
    }
  }
}

// h = activation(x W_ih^T + h_prev W_hh^T + bias); a panel holds four groups of units.
template <class V, class T = typename V::Value>
void rnn_forward(const PointwiseForwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index p = a.panel_begin; p < a.panel_end; ++p) {
    for (Index row = 0; row < a.rows; ++row) {
      T* gates = a.gates + p * a.gate_panel_stride + row * a.gate_row_stride;
      for (int s = 0; s < kSlots; ++s) {
        const Index unit = (p * kSlots + s) * kWidth;
        const V h = activate(a.cell_activation, V::load(gates + s * kWidth));
        h.store(gates + s * kWidth);
        store_lanes(h, a.h_out + row * a.h_out_stride + unit,
                    panel_lanes<V>(a.hidden_size, unit));
      }
    }
  }
}

// d_gates = d_h * activation'(h)
template <class V, class T = typename V::Value>
void rnn_backward(const PointwiseBackwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index p = a.panel_begin; p < a.panel_end; ++p) {
    for (Index row = 0; row < a.rows; ++row) {
      const T* gates = a.gates + p * a.gate_panel_stride + row * a.gate_row_stride;
      T* d_gates = a.d_gates + p * a.d_gate_panel_stride + row * kSlots * kWidth;
      for (int s = 0; s < kSlots; ++s) {
        const Index unit = (p * kSlots + s) * kWidth;
        const int lanes = panel_lanes<V>(a.hidden_size, unit);
        V d_h = V::load(a.d_h + row * a.d_h_stride + unit);
        if (a.d_output != nullptr) {
          d_h = d_h + load_lanes<V>(a.d_output + row * a.d_output_stride + unit, lanes);
        }
        activation_gradient(a.cell_activation, V::load(gates + s * kWidth), d_h)
            .store(d_gates + s * kWidth);
      }
    }
  }
}

}  // namespace
}  // namespace fastlstm
