// The extension module fastlstm._core: each register_* adds the bindings of one
// subject.
#include <pybind11/pybind11.h>

namespace fastlstm::bindings {
void register_linear(pybind11::module_& m);
void register_losses(pybind11::module_& m);
void register_optim(pybind11::module_& m);
void register_recurrent(pybind11::module_& m);
void register_runtime(pybind11::module_& m);
void register_stream(pybind11::module_& m);
void register_trainer(pybind11::module_& m);
void register_training(pybind11::module_& m);
}  // namespace fastlstm::bindings

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core of fastlstm. Use the package fastlstm, not this module.";
  fastlstm::bindings::register_runtime(m);
  fastlstm::bindings::register_linear(m);
  fastlstm::bindings::register_losses(m);
  fastlstm::bindings::register_optim(m);
  fastlstm::bindings::register_recurrent(m);
  fastlstm::bindings::register_stream(m);
  fastlstm::bindings::register_trainer(m);
  fastlstm::bindings::register_training(m);
}
