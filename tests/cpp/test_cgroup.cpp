// The container's CPU quota, read from folders that look like /proc and /sys.
#include "cgroup.hpp"

#include <filesystem>
#include <fstream>

#include "support.hpp"

namespace fastlstm::testing {
namespace {

namespace fs = std::filesystem;

// A root folder with the given files; removed at the end.
class Root {
 public:
  Root() : folder_(fs::temp_directory_path() / "fastlstm-cgroup-XXXXXX") {
    std::string name = folder_.string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    folder_ = name;
  }
  ~Root() { fs::remove_all(folder_); }
  Root(const Root&) = delete;
  Root& operator=(const Root&) = delete;

  Root& file(const std::string& path, const std::string& text) {
    const fs::path full = folder_.string() + path;
    fs::create_directories(full.parent_path());
    std::ofstream(full) << text;
    return *this;
  }
  int cpus() const { return quota_cpus(folder_.string()); }

 private:
  fs::path folder_;
};

const std::string kGroups = "/proc/self/cgroup";
const std::string kMount = "/sys/fs/cgroup";

}  // namespace

TEST_CASE("no control groups, no limit") {
  CHECK(Root().cpus() == 0);
  CHECK(Root().file(kGroups, "0::/\n").cpus() == 0);
  CHECK(Root().file(kGroups, "nonsense\n\n::\n").cpus() == 0);
}

TEST_CASE("version 2: the group at the mount, quotas rounded up") {
  const auto cpus = [](const std::string& limit) {
    return Root().file(kGroups, "0::/\n").file(kMount + "/cpu.max", limit).cpus();
  };
  CHECK(cpus("max 100000\n") == 0);
  CHECK(cpus("200000 100000\n") == 2);
  CHECK(cpus("150000 100000\n") == 2);
  CHECK(cpus("1000 100000\n") == 1);
  CHECK(cpus("") == 0);
  CHECK(cpus("100000 0\n") == 0);
}

TEST_CASE("version 2: the smallest of a group and those above it") {
  Root root;
  root.file(kGroups, "0::/work.slice/job.scope\n")
      .file(kMount + "/work.slice/job.scope/cpu.max", "max 100000\n")
      .file(kMount + "/work.slice/cpu.max", "300000 100000\n");
  CHECK(root.cpus() == 3);
  root.file(kMount + "/work.slice/job.scope/cpu.max", "100000 100000\n");
  CHECK(root.cpus() == 1);
}

TEST_CASE("version 2: a container that sees only its own group") {
  CHECK(Root()
            .file(kGroups, "0::/docker/0123456789\n")
            .file(kMount + "/cpu.max", "400000 100000\n")
            .cpus() == 4);
}

TEST_CASE("version 1: the group of the controller cpu, and hybrid mounts") {
  Root root;
  root.file(kGroups, "9:cpuset:/other\n4:cpu,cpuacct:/job\n0::/job\n")
      .file(kMount + "/cpu/job/cpu.cfs_quota_us", "250000\n")
      .file(kMount + "/cpu/job/cpu.cfs_period_us", "100000\n")
      .file(kMount + "/cpu/cpu.cfs_quota_us", "-1\n")
      .file(kMount + "/cpu/cpu.cfs_period_us", "100000\n");
  CHECK(root.cpus() == 3);
  root.file(kMount + "/unified/job/cpu.max", "200000 100000\n");
  CHECK(root.cpus() == 2);
}

}  // namespace fastlstm::testing
