// The kernels for avx512. Built with the flags of this instruction set, so nothing
// outside the anonymous namespace may be a template or inline: see vec_scalar.hpp.
#include "vec_avx512.hpp"
// The bodies are written over the Vec above.
#include "bodies.hpp"
#include "isa_tables.hpp"

namespace fastlstm {

const Kernels<float>& avx512_kernels_float() {
  return kernel_table<float, Avx512Isa>();
}
const Kernels<double>& avx512_kernels_double() {
  return kernel_table<double, Avx512Isa>();
}

}  // namespace fastlstm
