// One step of the GRU's and the RNN's variants, row by row: any activations, a clip,
// and the GRU whose reset gate multiplies h before the product. Equations:
// docs/math.md, "Variants"; argument structs: general_table.hpp. Slots n_x, r, z, n_h.
#pragma once

#include "general_lstm.hpp"

namespace fastlstm {
namespace {

// reset_h = r * h_fed, for the GRU that resets before the product
template <class V, class T = typename V::Value>
void general_gru_reset(const GeneralCell<T>& cell, const GeneralForwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index row = 0; row < a.rows; ++row) {
    for (Index p = 0; p < cell.panels; ++p) {
      const T* record = a.records + row * a.row_stride + p * cell.record;
      const V r = gate_value(cell, cell.gate, V::load(record + kWidth));
      (r * V::load(a.h_fed + row * cell.stride + p * kWidth))
          .store(a.reset_h + row * cell.stride + p * kWidth);
    }
  }
}

// What n's activation takes: n_x + r * n_h, or n_x + n_h where r was applied before.
template <class V, class T>
inline V candidate_input(const GeneralCell<T>& cell, const T* record, V r) {
  const V n_x = V::load(record);
  const V n_h = V::load(record + 3 * V::kWidth);
  return cell.reset_after ? fma(r, n_h, n_x) : n_x + n_h;
}

// h = n + z * (h_prev - n)
template <class V, class T = typename V::Value>
void general_gru_forward(const GeneralCell<T>& cell, const GeneralForwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index row = 0; row < a.rows; ++row) {
    for (Index p = 0; p < cell.panels; ++p) {
      T* record = a.records + row * a.row_stride + p * cell.record;
      if (a.n_h != nullptr) {
        V::load(a.n_h + row * cell.stride + p * kWidth).store(record + 3 * kWidth);
      }
      const V r = gate_value(cell, cell.gate, V::load(record + kWidth));
      const V z = gate_value(cell, cell.gate, V::load(record + 2 * kWidth));
      const V n = gate_value(cell, cell.cell, candidate_input(cell, record, r));
      const V h_prev = V::load(a.h_prev + row * cell.stride + p * kWidth);
      store_lanes(fma(z, h_prev - n, n), a.h + row * a.h_stride + p * kWidth,
                  panel_lanes<V>(cell.hidden_size, p * kWidth));
    }
  }
}

// All but r of the GRU that resets before the product, whose gradient needs d_n W_hn.
template <class V, class T = typename V::Value>
void general_gru_backward(const GeneralCell<T>& cell, const GeneralBackwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index row = 0; row < a.rows; ++row) {
    for (Index p = 0; p < cell.panels; ++p) {
      const T* record = a.records + row * a.row_stride + p * cell.record;
      T* d_gates = a.d_gates + p * a.d_panel_stride + row * kSlots * kWidth;
      const V a_r = V::load(record + kWidth);
      const V a_z = V::load(record + 2 * kWidth);
      const V r = gate_value(cell, cell.gate, a_r);
      const V z = gate_value(cell, cell.gate, a_z);
      const V a_n = candidate_input(cell, record, r);
      const V n = gate_value(cell, cell.cell, a_n);
      const V h_prev = V::load(a.h_prev + row * cell.stride + p * kWidth);
      const V real = real_lanes<V>(panel_lanes<V>(cell.hidden_size, p * kWidth));
      const V d_h =
          keep_where_positive(real, V::load(a.d_h + row * cell.stride + p * kWidth));
      const V d_n = gate_gradient(cell, cell.cell, a_n, n, d_h * (V::set1(1) - z));
      d_n.store(d_gates);
      gate_gradient(cell, cell.gate, a_z, z, d_h * (h_prev - n))
          .store(d_gates + 2 * kWidth);
      if (cell.reset_after) {
        const V n_h = V::load(record + 3 * kWidth);
        gate_gradient(cell, cell.gate, a_r, r, d_n * n_h).store(d_gates + kWidth);
        (d_n * r).store(d_gates + 3 * kWidth);
      } else {
        d_n.store(d_gates + 3 * kWidth);
        (r * V::load(a.h_fed + row * cell.stride + p * kWidth))
            .store(a.inner + row * cell.stride + p * kWidth);
      }
      (d_h * z).store(a.d_h_prev + row * cell.stride + p * kWidth);
    }
  }
}

// r, from d_reset_h = d_n W_hn; adds to d_h_fed.
template <class V, class T = typename V::Value>
void general_gru_reset_backward(const GeneralCell<T>& cell,
                                const GeneralBackwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index row = 0; row < a.rows; ++row) {
    for (Index p = 0; p < cell.panels; ++p) {
      const T* record = a.records + row * a.row_stride + p * cell.record;
      const V a_r = V::load(record + kWidth);
      const V r = gate_value(cell, cell.gate, a_r);
      const V h_fed = V::load(a.h_fed + row * cell.stride + p * kWidth);
      const V d = V::load(a.d_reset_h + row * cell.stride + p * kWidth);
      gate_gradient(cell, cell.gate, a_r, r, d * h_fed)
          .store(a.d_gates + p * a.d_panel_stride + (row * kSlots + 1) * kWidth);
      T* d_h_fed = a.d_h_fed + row * cell.stride + p * kWidth;
      fma(d, r, V::load(d_h_fed)).store(d_h_fed);
    }
  }
}

// h = activation(clip(sums)); a panel holds four groups of units.
template <class V, class T = typename V::Value>
void general_rnn_forward(const GeneralCell<T>& cell, const GeneralForwardArgs<T>& a) {
  for (Index row = 0; row < a.rows; ++row) {
    for (Index group = 0; group < cell.panels * kSlots; ++group) {
      const Index unit = group * V::kWidth;
      const T* sums = a.records + row * a.row_stride + unit;
      store_lanes(gate_value(cell, cell.cell, V::load(sums)),
                  a.h + row * a.h_stride + unit,
                  panel_lanes<V>(cell.hidden_size, unit));
    }
  }
}

template <class V, class T = typename V::Value>
void general_rnn_backward(const GeneralCell<T>& cell, const GeneralBackwardArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for (Index row = 0; row < a.rows; ++row) {
    for (Index group = 0; group < cell.panels * kSlots; ++group) {
      const Index unit = group * kWidth;
      const V x = V::load(a.records + row * a.row_stride + unit);
      const V y = gate_value(cell, cell.cell, x);
      const V real = real_lanes<V>(panel_lanes<V>(cell.hidden_size, unit));
      const V d_h =
          keep_where_positive(real, V::load(a.d_h + row * cell.stride + unit));
      gate_gradient(cell, cell.cell, x, y, d_h)
          .store(a.d_gates + group / kSlots * a.d_panel_stride +
                 (row * kSlots + group % kSlots) * kWidth);
    }
  }
}

}  // namespace
}  // namespace fastlstm
