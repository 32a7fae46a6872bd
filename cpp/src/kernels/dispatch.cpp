// Chooses the kernel table once: the best instruction set, or the one that FASTLSTM_ISA
// or set_isa names.
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "fastlstm/cpu.hpp"
#include "kernels/isa_tables.hpp"

namespace fastlstm {
namespace {

struct Tables {
  const Kernels<float>* single;
  const Kernels<double>* twice;
};

Tables tables_of(const std::string& name) {
#if defined(FASTLSTM_AMX)
  if (name == "amx") return {&amx_kernels_float(), &amx_kernels_double()};
#endif
#if defined(FASTLSTM_X86)
  if (name == "avx512") return {&avx512_kernels_float(), &avx512_kernels_double()};
  if (name == "avx2") return {&avx2_kernels_float(), &avx2_kernels_double()};
#elif defined(FASTLSTM_AARCH64)
  if (name == "neon") return {&neon_kernels_float(), &neon_kernels_double()};
#endif
  return {&scalar_kernels_float(), &scalar_kernels_double()};
}

Tables resolve(const std::string& name, const char* source) {
  const auto names = available_isas();
  if (name == "auto") return tables_of(names.back());
  std::string list = "auto";
  for (const auto& known : names) {
    if (name == known) return tables_of(name);
    list += ", " + known;
  }
  throw std::invalid_argument(std::string(source) + " must be one of " + list +
                              " on this CPU, got \"" + name + "\"");
}

std::atomic<Index> chosen_l1{0};
std::atomic<Index> chosen_l2{0};
std::atomic<const Kernels<float>*> chosen_single{nullptr};
std::atomic<const Kernels<double>*> chosen_twice{nullptr};

void choose(const Tables& tables) {
  chosen_l1.store(static_cast<Index>(cache_bytes(1)), std::memory_order_relaxed);
  chosen_l2.store(static_cast<Index>(cache_bytes(2)), std::memory_order_relaxed);
  chosen_twice.store(tables.twice, std::memory_order_release);
  chosen_single.store(tables.single, std::memory_order_release);
}

void choose_default() {
  const char* forced = std::getenv("FASTLSTM_ISA");
  const bool set = forced != nullptr && forced[0] != '\0';
  choose(resolve(set ? forced : "auto", "FASTLSTM_ISA"));
}

}  // namespace

template <>
const Kernels<float>& kernels<float>() {
  if (chosen_single.load(std::memory_order_acquire) == nullptr) choose_default();
  return *chosen_single.load(std::memory_order_acquire);
}

template <>
const Kernels<double>& kernels<double>() {
  if (chosen_single.load(std::memory_order_acquire) == nullptr) choose_default();
  return *chosen_twice.load(std::memory_order_acquire);
}

Index l1_bytes() { return chosen_l1.load(std::memory_order_relaxed); }
Index l2_bytes() { return chosen_l2.load(std::memory_order_relaxed); }

void set_l1_bytes(Index bytes) { chosen_l1.store(bytes, std::memory_order_relaxed); }

std::string isa() { return kernels<float>().name; }

void set_isa(const std::string& name) { choose(resolve(name, "isa")); }

}  // namespace fastlstm
