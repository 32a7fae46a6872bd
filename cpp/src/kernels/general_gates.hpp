// The gates of a variant's steps, from the records that forward left, in the layout
// that the records of plain cells have. For analysis only. Argument structs:
// general_table.hpp.
#pragma once

#include "general_gru.hpp"

namespace fastlstm {
namespace {

// Calls visit(record, out, row, panel) for every panel of every row.
template <class T, class Visit>
inline void for_records(const GeneralCell<T>& cell, const GeneralGatesArgs<T>& a,
                        const Visit& visit) {
  for (Index row = 0; row < a.rows; ++row) {
    for (Index p = 0; p < cell.panels; ++p) {
      visit(a.records + row * a.row_stride + p * cell.record,
            a.out + (p * a.rows + row) * a.out_stride, row, p);
    }
  }
}

template <class V, class T = typename V::Value>
void general_lstm_gates(const GeneralCell<T>& cell, const GeneralGatesArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for_records(cell, a, [&](const T* record, T* out, Index row, Index p) {
    const V c_prev = V::load(record + kSlots * kWidth);
    const LstmInner<V> v = lstm_inner<V>(cell, record, p, c_prev);
    v.i.store(out);
    v.f.store(out + kWidth);
    v.g.store(out + 2 * kWidth);
    lstm_outer<V>(cell, record, p, v.c, v.c).o.store(out + 3 * kWidth);
    V c = v.c;
    if (a.zone_c != nullptr) {
      const V kept = V::load(a.zone_c + row * cell.stride + p * kWidth);
      c = fma(kept, c_prev, (V::set1(1) - kept) * c);
    }
    c.store(out + kSlots * kWidth);
  });
}

template <class V, class T = typename V::Value>
void general_gru_gates(const GeneralCell<T>& cell, const GeneralGatesArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for_records(cell, a, [&](const T* record, T* out, Index, Index) {
    const V r = gate_value(cell, cell.gate, V::load(record + kWidth));
    gate_value(cell, cell.cell, candidate_input(cell, record, r)).store(out);
    r.store(out + kWidth);
    gate_value(cell, cell.gate, V::load(record + 2 * kWidth)).store(out + 2 * kWidth);
  });
}

template <class V, class T = typename V::Value>
void general_rnn_gates(const GeneralCell<T>& cell, const GeneralGatesArgs<T>& a) {
  constexpr int kWidth = V::kWidth;
  for_records(cell, a, [&](const T* record, T* out, Index, Index) {
    for (int s = 0; s < kSlots; ++s) {
      gate_value(cell, cell.cell, V::load(record + s * kWidth)).store(out + s * kWidth);
    }
  });
}

}  // namespace
}  // namespace fastlstm
