// Runs StaticLstm of several sizes, compiled with the flags of one instruction set.
// Each static_lstm_*.cpp includes this; all are linked into one program, so that mixed
// up copies of shared code would show. No standard library: see vec_scalar.hpp.
#pragma once

#include "fastlstm/static_lstm.hpp"

namespace {

struct StaticRun {
  int input_size, hidden_size, steps;
  const float *weight_ih, *weight_hh, *bias, *h0, *c0, *x;
  float* y;    // (steps, H)
  float* c_n;  // (H)
};

template <int I, int H>
bool run_if(const StaticRun& run) {
  if (run.input_size != I || run.hidden_size != H) return false;
  static fastlstm::StaticLstm<I, H> lstm;
  lstm.set_weights(run.weight_ih, run.weight_hh, run.bias);
  lstm.set_state(run.h0, run.c0);
  lstm.process(run.x, run.y, run.steps);
  for (int j = 0; j < H; ++j) run.c_n[j] = lstm.c()[j];
  return true;
}

inline bool run_static_lstm(const StaticRun& run) {
  return run_if<1, 1>(run) || run_if<3, 5>(run) || run_if<1, 16>(run) ||
         run_if<2, 24>(run) || run_if<1, 40>(run) || run_if<4, 77>(run) ||
         run_if<1, 128>(run);
}

}  // namespace
