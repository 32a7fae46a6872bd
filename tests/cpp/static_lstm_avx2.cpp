// StaticLstm with the flags of avx2; see static_lstm_runs.hpp.
#include "static_lstm_runs.hpp"

bool static_lstm_avx2(const void* run) {
  return run_static_lstm(*static_cast<const StaticRun*>(run));
}
