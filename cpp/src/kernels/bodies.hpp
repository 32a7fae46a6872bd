// All kernel bodies, and the table made of them for one instruction set. A per-ISA file
// includes its vec_*.hpp, then this, and exports one function that returns the table.
#pragma once

#include "checksum.hpp"
#include "dense.hpp"
#include "gates.hpp"
#include "gemm.hpp"
#include "general_gates.hpp"
#include "general_gru.hpp"
#include "general_lstm.hpp"
#include "gru.hpp"
#include "lstm.hpp"
#include "math.hpp"
#include "optim.hpp"
#include "pack.hpp"
#include "probe.hpp"
#include "row_products.hpp"
#include "stream.hpp"
#include "table.hpp"

namespace fastlstm {
namespace {

template <class V, class T = typename V::Value>
void activate_array(int code, const T* x, Index n, T* y) {
  Index i = 0;
  for (; i + V::kWidth <= n; i += V::kWidth)
    activate(code, V::load(x + i)).store(y + i);
  if (i < n) {
    const int tail = static_cast<int>(n - i);
    activate(code, V::load_partial(x + i, tail)).store_partial(y + i, tail);
  }
}

template <class V, class Isa, class Weight>
constexpr StreamKernels<typename V::Value> stream_kernels() {
  return {gate_product<AllSlots, V, Isa, Weight>,
          gate_product<GruSlots, V, Isa, Weight>, stream_lstm<V, Isa, Weight>};
}

// Double has no weights of two bytes.
template <class V, class Isa>
constexpr StreamKernels<typename V::Value> bfloat16_kernels() {
  if constexpr (sizeof(typename V::Value) == sizeof(BFloat16Pair)) {
    return stream_kernels<V, Isa, BFloat16Pair>();
  } else {
    return {};
  }
}

// Null where the instruction set does without.
template <class V, class Isa, class T = typename V::Value>
constexpr auto projection() -> void (*)(ProjectionArgs<T>&) {
  if constexpr (Isa::kProjectedSteps > 0) {
    return project<V, Isa>;
  } else {
    return nullptr;
  }
}

template <class T, class Isa>
const Kernels<T>& kernel_table() {
  using V = Vec<T, Isa>;
  static constexpr Kernels<T> table = {
      Isa::kName,
      V::kWidth,
      HalfOf<V, Isa>::kWidth < V::kWidth ? HalfOf<V, Isa>::kWidth : 0,
      Isa::kTileRows,
      Isa::kAtOnceRows,
      Isa::kProjectedSteps,
      pack_panels<V>,
      pack_slots<V>,
      pack_bias<V>,
      pack_columns<V>,
      unpack_panel<V>,
      copy_rows<V>,
      projection<V, Isa>(),
      gate_product<AllSlots, V, Isa>,
      gate_product<GruSlots, V, Isa>,
      lstm_steps<V, Isa>,
      lstm_forward<V>,
      lstm_backward<V, Isa>,
      gru_forward<V>,
      gru_backward<V>,
      rnn_forward<V>,
      rnn_backward<V>,
      product<V, Isa>,
      narrow_product<V>,
      row_product<V>,
      row_gates<V>,
      panel_product<V>,
      outer<V, Isa>,
      outer_rows<V, Isa>,
      column_sum<V>,
      dense_forward<V, Isa>,
      dense_d_x<V, Isa>,
      dense_d_w<V, Isa>,
      sgd<V>,
      adam<V>,
      rmsprop<V>,
      sum_of_squares<T>,
      checksum,
      activate_array<V>,
      multiply_adds<V, Isa>,
      read_array<V>,
      stream_kernels<V, Isa, T>(),
      bfloat16_kernels<V, Isa>(),
      {general_lstm_forward<V>, general_lstm_backward<V>, general_gru_reset<V>,
       general_gru_forward<V>, general_gru_backward<V>, general_gru_reset_backward<V>,
       general_rnn_forward<V>, general_rnn_backward<V>, general_lstm_gates<V>,
       general_gru_gates<V>, general_rnn_gates<V>},
      {},
  };
  return table;
}

}  // namespace
}  // namespace fastlstm
