// StaticLstm with no flags; see static_lstm_runs.hpp.
#include "static_lstm_runs.hpp"

bool static_lstm_scalar(const void* run) {
  return run_static_lstm(*static_cast<const StaticRun*>(run));
}
