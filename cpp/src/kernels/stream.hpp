// The LSTM's step of a stream: weights as T or rounded to bfloat16, whole vectors of h.
#pragma once

#include "lstm.hpp"

namespace fastlstm {
namespace {

template <class V, class Isa, class Weight, class T = typename V::Value>
void stream_lstm(const LstmStepArgs<T>& s) {
  if (s.gate.rows > 1) return lstm_step<V, Isa, Weight>(s);
  // Rows of h have room for whole vectors.
  lstm_row<V, Isa, Weight>(s, s.gate.panel_end * V::kWidth);
}

}  // namespace
}  // namespace fastlstm
