// The kernels for avx2. Built with the flags of this instruction set, so nothing
// outside the anonymous namespace may be a template or inline: see vec_scalar.hpp.
#include "vec_avx2.hpp"
// The bodies are written over the Vec above.
#include "bodies.hpp"
#include "isa_tables.hpp"

namespace fastlstm {

const Kernels<float>& avx2_kernels_float() { return kernel_table<float, Avx2Isa>(); }
const Kernels<double>& avx2_kernels_double() { return kernel_table<double, Avx2Isa>(); }

}  // namespace fastlstm
