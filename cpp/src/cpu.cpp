// CPU detection; see cpu.hpp. dispatch.cpp turns the name into kernels.
#include "fastlstm/cpu.hpp"

#include <fstream>
#include <string>

namespace fastlstm {

std::vector<std::string> available_isas() {
  std::vector<std::string> names = {"scalar"};
#if defined(FASTLSTM_X86)
  // The builtin also asks whether the operating system saves the wide registers.
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    names.emplace_back("avx2");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")) {
      names.emplace_back("avx512");
    }
  }
#elif defined(FASTLSTM_AARCH64)
  names.emplace_back("neon");  // part of armv8-a
#endif
  return names;
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) {
      const auto colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  }
  return "unknown";
}

std::size_t cache_bytes(int level) {
  const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index";
  for (int index = 0;; ++index) {
    const std::string cache = folder + std::to_string(index);
    std::ifstream level_file(cache + "/level");
    int found = 0;
    if (!(level_file >> found)) return 0;
    std::ifstream type_file(cache + "/type");
    std::string type;
    std::ifstream size_file(cache + "/size");
    std::size_t kilobytes = 0;  // followed by K
    if (type_file >> type && type != "Instruction" && found == level &&
        size_file >> kilobytes) {
      return kilobytes << 10;
    }
  }
}

}  // namespace fastlstm
