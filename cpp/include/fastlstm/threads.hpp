// How many threads a call may use. Results never depend on it.
#pragma once

#include "fastlstm/export.h"

namespace fastlstm {

// CPUs this process may use: its affinity mask, cut by the container's quota.
FASTLSTM_API int available_cpus();

// Upper bound on threads of one call: FASTLSTM_NUM_THREADS if set, else
// available_cpus(). A call never uses more threads than there are CPUs.
FASTLSTM_API int num_threads();

// Throws std::invalid_argument unless 1 <= n <= 1024.
FASTLSTM_API void set_num_threads(int n);

// Lets calls use more threads than there are CPUs. They only get slower: this is for
// tests, which share work among many threads on any machine.
FASTLSTM_API void allow_oversubscription(bool allow);

}  // namespace fastlstm
