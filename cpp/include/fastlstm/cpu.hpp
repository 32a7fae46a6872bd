// What this CPU can do, and which instruction set the kernels use.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "fastlstm/export.h"

namespace fastlstm {

// Instruction sets that both this build and this CPU have, worst first; "scalar"
// always.
FASTLSTM_API std::vector<std::string> available_isas();

// The instruction set in force. The first call resolves it: FASTLSTM_ISA if set, else
// the best available. Throws std::invalid_argument if FASTLSTM_ISA names one not
// available.
FASTLSTM_API std::string isa();

// Forces an instruction set by name, or "auto". Not to be called while a computation
// runs in another thread. Throws std::invalid_argument naming what is available.
FASTLSTM_API void set_isa(const std::string& name);

// Marketing name of the CPU, or "unknown".
FASTLSTM_API std::string cpu_name();

// Bytes of the data cache of level 1, 2 or 3, or 0 where it is unknown.
FASTLSTM_API std::size_t cache_bytes(int level);

}  // namespace fastlstm
