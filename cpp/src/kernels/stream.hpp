// The LSTM's step of a stream: weights as T or rounded to bfloat16, whole vectors of h.
#pragma once

#include "lstm.hpp"

namespace fastlstm {
namespace {

template <class V, class Isa, class Weight, class T = typename V::Value>
void stream_lstm(const LstmStepArgs<T>& s) {
  const GateArgs<T>& g = s.gate;
  if (g.rows > 1) return lstm_step<V, Isa, Weight>(s);
  constexpr int kWidth = V::kWidth;
  const Index last = g.panel_end - 1;
  const bool half = fits_half<V, Isa>(panel_lanes<V>(s.hidden_size, last * kWidth));
  // Rows of h have room for whole vectors.
  const Index units = g.panel_end * kWidth;
  const LstmRow<HalfOf<V, Isa>, kWidth, Weight, T> narrow{s, units};
  if (half && g.descending) narrow.template run<1>(last);
  for_panel_groups(g.panel_begin, half ? last : g.panel_end, g.descending,
                   LstmRow<V, kWidth, Weight, T>{s, units});
  if (half && !g.descending) narrow.template run<1>(last);
}

}  // namespace
}  // namespace fastlstm
