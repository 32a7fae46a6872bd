// How many threads a call may use. Results never depend on it.
#pragma once

namespace fastlstm {

// CPUs this process may use: its affinity mask, cut by the container's quota.
int available_cpus();

// Upper bound on threads of one call: FASTLSTM_NUM_THREADS if set, else
// available_cpus().
int num_threads();

// Throws std::invalid_argument unless 1 <= n <= 1024.
void set_num_threads(int n);

}  // namespace fastlstm
