// The kernels for neon. Built with the flags of this instruction set, so nothing
// outside the anonymous namespace may be a template or inline: see vec_scalar.hpp.
#include "vec_neon.hpp"
// The bodies are written over the Vec above.
#include "bodies.hpp"
#include "isa_tables.hpp"

namespace fastlstm {

const Kernels<float>& neon_kernels_float() { return kernel_table<float, NeonIsa>(); }
const Kernels<double>& neon_kernels_double() { return kernel_table<double, NeonIsa>(); }

}  // namespace fastlstm
