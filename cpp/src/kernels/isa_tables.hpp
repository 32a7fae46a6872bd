// The tables that the per-ISA files export; only dispatch.cpp calls these.
#pragma once

#include "table.hpp"

namespace fastlstm {

const Kernels<float>& scalar_kernels_float();
const Kernels<double>& scalar_kernels_double();
const Kernels<float>& avx2_kernels_float();
const Kernels<double>& avx2_kernels_double();
const Kernels<float>& avx512_kernels_float();
const Kernels<double>& avx512_kernels_double();
const Kernels<float>& amx_kernels_float();
const Kernels<double>& amx_kernels_double();
const Kernels<float>& neon_kernels_float();
const Kernels<double>& neon_kernels_double();

}  // namespace fastlstm
