// The CPU quota of a container, for parallel.cpp.
#pragma once

#include <string>

namespace fastlstm {

// CPUs that the control groups of this process pay for, its own and those above it,
// rounded up; 0 if there is no limit. Knows both versions of the interface. `root`
// stands before /proc and /sys: tests give a folder.
int quota_cpus(const std::string& root = "");

}  // namespace fastlstm
