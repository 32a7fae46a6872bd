// CPU detection; see cpu.hpp. dispatch.cpp turns the name into kernels.
#include "fastlstm/cpu.hpp"

#include <fstream>
#include <string>

#if defined(FASTLSTM_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace fastlstm {

#if defined(FASTLSTM_AMX)
namespace {

// Whether the CPU multiplies tiles of bfloat16, and the operating system, which has to
// be asked once by every process, saves the tiles.
bool ask_for_amx() {
  constexpr unsigned kTile = 1u << 24;
  constexpr unsigned kBFloat16 = 1u << 22;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if ((d & kTile) == 0 || (d & kBFloat16) == 0) return false;
  constexpr int kRequestPermission = 0x1023;
  constexpr int kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace
#endif

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
#if defined(FASTLSTM_AMX)
      static const bool amx = ask_for_amx();
      if (amx) names.emplace_back("amx");
#endif
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
