// Dense layer and table look-up: shapes are checked here, pointers go to the core.
#include "fastlstm/linear.hpp"

#include "dense_array.hpp"

namespace fastlstm::bindings {
namespace {

template <class T>
LinearShape linear_shape(const DenseArray<T>& x, const DenseArray<T>& weight) {
  expect_rank("x", x, 2);
  expect_rank("weight", weight, 2);
  expect_shape("x", x, {x.shape(0), weight.shape(1)});
  return {x.shape(0), weight.shape(1), weight.shape(0)};
}

template <class T>
void forward(const DenseArray<T>& x, const DenseArray<T>& weight,
             const OptionalArray<T>& bias, DenseArray<T> out) {
  const LinearShape shape = linear_shape(x, weight);
  if (bias) expect_shape("bias", *bias, {shape.out_features});
  expect_shape("out", out, {shape.rows, shape.out_features});
  const T* bias_data = optional_data(bias);
  T* out_data = out.mutable_data();
  const py::gil_scoped_release unlocked;
  linear_forward(shape, x.data(), weight.data(), bias_data, out_data);
}

template <class T>
void backward(const DenseArray<T>& x, const DenseArray<T>& weight,
              const DenseArray<T>& d_out, DenseArray<T> d_weight,
              OptionalArray<T> d_bias, OptionalArray<T> d_x) {
  const LinearShape shape = linear_shape(x, weight);
  expect_shape("d_out", d_out, {shape.rows, shape.out_features});
  expect_shape("d_weight", d_weight, {shape.out_features, shape.in_features});
  if (d_bias) expect_shape("d_bias", *d_bias, {shape.out_features});
  if (d_x) expect_shape("d_x", *d_x, {shape.rows, shape.in_features});
  T* d_weight_data = d_weight.mutable_data();
  T* d_bias_data = optional_mutable_data(d_bias);
  T* d_x_data = optional_mutable_data(d_x);
  const py::gil_scoped_release unlocked;
  linear_backward(shape, x.data(), weight.data(), d_out.data(), d_weight_data,
                  d_bias_data, d_x_data);
}

template <class T>
void scatter(const Labels& indices, const DenseArray<T>& values, DenseArray<T> table) {
  expect_rank("indices", indices, 1);
  expect_rank("table", table, 2);
  const Index count = indices.shape(0);
  const Index columns = table.shape(1);
  expect_shape("values", values, {count, columns});
  for (Index i = 0; i < count; ++i) {
    const std::int64_t index = indices.data()[i];
    if (index < 0 || index >= table.shape(0)) {
      throw py::index_error("indices[" + std::to_string(i) + "] is " +
                            std::to_string(index) + ", not a row of table");
    }
  }
  T* table_data = table.mutable_data();
  const py::gil_scoped_release unlocked;
  scatter_add(count, columns, indices.data(), values.data(), table_data);
}

template <class T>
void register_for(py::module_& module) {
  module.def("linear_forward", &forward<T>, py::arg("x").noconvert(),
             py::arg("weight").noconvert(), py::arg("bias").noconvert().none(true),
             py::arg("out").noconvert());
  module.def("linear_backward", &backward<T>, py::arg("x").noconvert(),
             py::arg("weight").noconvert(), py::arg("d_out").noconvert(),
             py::arg("d_weight").noconvert(), py::arg("d_bias").noconvert().none(true),
             py::arg("d_x").noconvert().none(true));
  module.def("scatter_add", &scatter<T>, py::arg("indices").noconvert(),
             py::arg("values").noconvert(), py::arg("table").noconvert());
}

}  // namespace

void register_linear(py::module_& module) {
  register_for<float>(module);
  register_for<double>(module);
}

}  // namespace fastlstm::bindings
