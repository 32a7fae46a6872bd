// Optimizer rules, and updates over lists of arrays: param i belongs to grad i and to
// state i.
#include "fastlstm/optim.hpp"

#include <cmath>

#include "optim.hpp"

namespace fastlstm::bindings {
namespace {

template <class T>
void update_arrays(const UpdateRule& rule, const Arrays<T>& params,
                   const Arrays<T>& grads, const StateArrays<T>& state, double lr,
                   double number, double grad_scale) {
  const std::vector<Parameter<T>> list = parameter_list(params, grads, state);
  const UpdateStep step{lr, number, grad_scale, false};
  const py::gil_scoped_release unlocked;
  update(rule, step, list.data(), static_cast<Index>(list.size()));
}

template <class T>
double norm_of(const Arrays<T>& grads) {
  std::vector<Parameter<T>> list;
  for (const DenseArray<T>& grad : grads) {
    list.push_back(
        {grad.size(), nullptr, const_cast<T*>(grad.data()), nullptr, nullptr});
  }
  const py::gil_scoped_release unlocked;
  return gradient_norm(list.data(), static_cast<Index>(list.size()));
}

template <class T>
void register_for(py::module_& module) {
  module.def("update", &update_arrays<T>, py::arg("rule"),
             py::arg("params").noconvert(), py::arg("grads").noconvert(),
             py::arg("state").noconvert(), py::kw_only(), py::arg("lr"),
             py::arg("number"), py::arg("grad_scale"));
  module.def("gradient_norm", &norm_of<T>, py::arg("grads").noconvert());
}

}  // namespace

void register_optim(py::module_& module) {
  py::class_<Sgd>(module, "Sgd")
      .def(py::init([](double momentum, double weight_decay, bool nesterov) {
             return Sgd{momentum, weight_decay, nesterov};
           }),
           py::kw_only(), py::arg("momentum"), py::arg("weight_decay"),
           py::arg("nesterov"));
  py::class_<Adam>(module, "Adam")
      .def(py::init([](double beta1, double beta2, double eps, double weight_decay,
                       bool decoupled) {
             return Adam{beta1, beta2, eps, weight_decay, decoupled};
           }),
           py::kw_only(), py::arg("beta1"), py::arg("beta2"), py::arg("eps"),
           py::arg("weight_decay"), py::arg("decoupled"));
  py::class_<Rmsprop>(module, "Rmsprop")
      .def(py::init([](double alpha, double eps, double momentum, double weight_decay) {
             return Rmsprop{alpha, eps, momentum, weight_decay};
           }),
           py::kw_only(), py::arg("alpha"), py::arg("eps"), py::arg("momentum"),
           py::arg("weight_decay"));
  register_for<float>(module);
  register_for<double>(module);
}

}  // namespace fastlstm::bindings
