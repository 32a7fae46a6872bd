// The LSTM's step of a stream: weights as T or rounded to bfloat16, whole vectors of h.
#pragma once

#include "lstm.hpp"

namespace fastlstm {
namespace {

template <class V, class Isa, class Weight, class T = typename V::Value>
void stream_lstm(const LstmStepArgs<T>& s) {
  if (s.gate.rows > 1) return lstm_step<V, Isa, Weight>(s);
  // Rows of h have room for whole vectors.
  const Index units = s.gate.panel_end * V::kWidth;
  const LstmRow<HalfOf<V, Isa>, V::kWidth, Weight, T> narrow{s, units};
  lstm_row<V, Isa, Weight>(s, units, [&](Index p) { narrow.template run<1>(p); });
}

}  // namespace
}  // namespace fastlstm
