// StaticLstm with the flags of avx512; see static_lstm_runs.hpp.
#include "static_lstm_runs.hpp"

bool static_lstm_avx512(const void* run) {
  return run_static_lstm(*static_cast<const StaticRun*>(run));
}
