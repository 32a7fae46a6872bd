// Optimizer steps over lists of arrays: param i belongs to grad i and state i.
#include "fastlstm/optim.hpp"

#include "dense_array.hpp"

namespace fastlstm::bindings {
namespace {

template <class T>
using Arrays = std::vector<DenseArray<T>>;

// Pointers into one list whose arrays have the shapes of the parameters.
template <class T>
std::vector<T*> matched_pointers(const char* name, Arrays<T>& arrays,
                                 const Arrays<T>& params) {
  if (arrays.size() != params.size()) {
    throw py::value_error(std::string(name) + " must hold " +
                          std::to_string(params.size()) + " arrays, got " +
                          std::to_string(arrays.size()));
  }
  std::vector<T*> pointers;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const std::string label = std::string(name) + "[" + std::to_string(i) + "]";
    expect_shape(label, arrays[i], shape_of(params[i]));
    pointers.push_back(arrays[i].mutable_data());
  }
  return pointers;
}

// As above, or null pointers where the optimizer keeps no such state.
template <class T>
std::vector<T*> optional_pointers(const char* name, std::optional<Arrays<T>>& arrays,
                                  const Arrays<T>& params) {
  if (!arrays) return std::vector<T*>(params.size(), nullptr);
  return matched_pointers(name, *arrays, params);
}

template <class T>
void sgd(Arrays<T> params, Arrays<T> grads, std::optional<Arrays<T>> velocity,
         double lr, double momentum, bool nesterov, double weight_decay,
         double grad_scale) {
  const SgdStep step{lr, momentum, weight_decay, nesterov, grad_scale};
  const auto p = matched_pointers("params", params, params);
  const auto g = matched_pointers("grads", grads, params);
  const auto v = optional_pointers("velocity", velocity, params);
  const py::gil_scoped_release unlocked;
  for (std::size_t i = 0; i < p.size(); ++i) {
    sgd_update(params[i].size(), step, g[i], p[i], v[i]);
  }
}

template <class T>
void adam(Arrays<T> params, Arrays<T> grads, Arrays<T> mean, Arrays<T> square,
          double lr, double beta1, double beta2, double eps, double weight_decay,
          bool decoupled, double step_count, double grad_scale) {
  const AdamStep step{lr,           beta1,     beta2,      eps,
                      weight_decay, decoupled, step_count, grad_scale};
  const auto p = matched_pointers("params", params, params);
  const auto g = matched_pointers("grads", grads, params);
  const auto m = matched_pointers("mean", mean, params);
  const auto s = matched_pointers("square", square, params);
  const py::gil_scoped_release unlocked;
  for (std::size_t i = 0; i < p.size(); ++i) {
    adam_update(params[i].size(), step, g[i], p[i], m[i], s[i]);
  }
}

template <class T>
void rmsprop(Arrays<T> params, Arrays<T> grads, Arrays<T> square,
             std::optional<Arrays<T>> velocity, double lr, double alpha, double eps,
             double momentum, double weight_decay, double grad_scale) {
  const RmspropStep step{lr, alpha, eps, momentum, weight_decay, grad_scale};
  const auto p = matched_pointers("params", params, params);
  const auto g = matched_pointers("grads", grads, params);
  const auto s = matched_pointers("square", square, params);
  const auto v = optional_pointers("velocity", velocity, params);
  const py::gil_scoped_release unlocked;
  for (std::size_t i = 0; i < p.size(); ++i) {
    rmsprop_update(params[i].size(), step, g[i], p[i], s[i], v[i]);
  }
}

template <class T>
double squares(const Arrays<T>& grads) {
  std::vector<const T*> pointers;
  for (const DenseArray<T>& grad : grads) pointers.push_back(grad.data());
  const py::gil_scoped_release unlocked;
  double sum = 0;
  for (std::size_t i = 0; i < grads.size(); ++i) {
    sum += sum_of_squares(grads[i].size(), pointers[i]);
  }
  return sum;
}

template <class T>
void register_for(py::module_& module) {
  const auto params = py::arg("params").noconvert();
  const auto grads = py::arg("grads").noconvert();
  module.def("sgd_update", &sgd<T>, params, grads,
             py::arg("velocity").noconvert().none(true), py::kw_only(), py::arg("lr"),
             py::arg("momentum"), py::arg("nesterov"), py::arg("weight_decay"),
             py::arg("grad_scale"));
  module.def("adam_update", &adam<T>, params, grads, py::arg("mean").noconvert(),
             py::arg("square").noconvert(), py::kw_only(), py::arg("lr"),
             py::arg("beta1"), py::arg("beta2"), py::arg("eps"),
             py::arg("weight_decay"), py::arg("decoupled"), py::arg("step"),
             py::arg("grad_scale"));
  module.def("rmsprop_update", &rmsprop<T>, params, grads,
             py::arg("square").noconvert(), py::arg("velocity").noconvert().none(true),
             py::kw_only(), py::arg("lr"), py::arg("alpha"), py::arg("eps"),
             py::arg("momentum"), py::arg("weight_decay"), py::arg("grad_scale"));
  module.def("sum_of_squares", &squares<T>, grads);
}

}  // namespace

void register_optim(py::module_& module) {
  register_for<float>(module);
  register_for<double>(module);
}

}  // namespace fastlstm::bindings
