// See cgroup.hpp. Version 2 keeps "quota period" or "max period" in cpu.max, version 1
// keeps two files; a group lies where /proc/self/cgroup says below the mount, or at the
// mount itself where a container sees nothing but its own.
#include "cgroup.hpp"

#include <cmath>
#include <cstdlib>
#include <fstream>

namespace fastlstm {
namespace {

// CPUs of a quota of so many microseconds a period; 0 if there is none.
int cpus_of(double quota, double period) {
  if (!(quota > 0 && period > 0) || quota / period > 1e6) return 0;
  return static_cast<int>(std::ceil(quota / period));
}

int version2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period)) return 0;
  return cpus_of(std::atof(quota.c_str()), period);  // "max" reads as 0
}

int version1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us");
  std::ifstream period_file(folder + "/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (!(quota_file >> quota && period_file >> period)) return 0;
  return cpus_of(quota, period);  // -1: none
}

// The smallest limit of the group at `path` and those above it, up to the mount.
int smallest(const std::string& mount, std::string path,
             int (*limit)(const std::string&)) {
  int best = 0;
  for (;;) {
    const int cpus = limit(mount + path);
    if (cpus > 0 && (best == 0 || cpus < best)) best = cpus;
    if (path.empty()) return best;
    path.erase(path.find_last_of('/'));
  }
}

bool names_cpu(const std::string& controllers) {
  return ("," + controllers + ",").find(",cpu,") != std::string::npos;
}

}  // namespace

int quota_cpus(const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  int best = 0;
  const auto take = [&](int cpus) {
    if (cpus > 0 && (best == 0 || cpus < best)) best = cpus;
  };
  // Lines of number:controllers:path; version 2 has no controllers.
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (path.empty() || path[0] != '/') continue;
    const std::string below = path == "/" ? "" : path;
    if (controllers.empty()) {
      take(smallest(mount, below, version2));
      take(smallest(mount + "/unified", below, version2));
    } else if (names_cpu(controllers)) {
      take(smallest(mount + "/cpu", below, version1));
    }
  }
  return best;
}

}  // namespace fastlstm
