// The kernels for scalar. Built with the flags of this instruction set, so nothing
// outside the anonymous namespace may be a template or inline: see vec_scalar.hpp.
#include "vec_scalar.hpp"
// The bodies are written over the Vec above.
#include "bodies.hpp"
#include "isa_tables.hpp"

namespace fastlstm {

const Kernels<float>& scalar_kernels_float() {
  return kernel_table<float, ScalarIsa>();
}
const Kernels<double>& scalar_kernels_double() {
  return kernel_table<double, ScalarIsa>();
}

}  // namespace fastlstm
