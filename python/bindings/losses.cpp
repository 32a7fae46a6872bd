// Losses and softmax: shapes and labels are checked here, pointers go to the core.
#include "fastlstm/losses.hpp"

#include "dense_array.hpp"

namespace fastlstm::bindings {
namespace {

template <class T>
LossShape loss_shape(const char* name, const DenseArray<T>& rows) {
  expect_rank(name, rows, 2);
  if (rows.shape(1) == 0) {
    throw py::value_error(std::string(name) + " must have columns");
  }
  return {rows.shape(0), rows.shape(1)};
}

const std::uint8_t* mask_data(const OptionalMask& mask, Index rows) {
  if (!mask) return nullptr;
  expect_shape("mask", *mask, {rows});
  return reinterpret_cast<const std::uint8_t*>(mask->data());
}

template <class T>
LossRows<T> loss_rows(const OptionalArray<T>& weight, const OptionalMask& mask,
                      Index rows) {
  if (weight) expect_shape("weight", *weight, {rows});
  return {optional_data(weight), mask_data(mask, rows)};
}

template <class T>
void softmax_rows(const DenseArray<T>& logits, DenseArray<T> out) {
  const LossShape shape = loss_shape("logits", logits);
  expect_shape("out", out, {shape.rows, shape.columns});
  T* out_data = out.mutable_data();
  const py::gil_scoped_release unlocked;
  softmax(shape, logits.data(), out_data);
}

Index bad_label(const Labels& labels, const OptionalMask& mask, Index classes) {
  expect_rank("labels", labels, 1);
  const LossShape shape{labels.shape(0), classes};
  return find_bad_label(shape, labels.data(), mask_data(mask, shape.rows));
}

template <class T>
double cross_entropy_rows(const DenseArray<T>& logits, const Labels& labels,
                          const OptionalArray<T>& weight, const OptionalMask& mask,
                          OptionalArray<T> d_logits) {
  const LossShape shape = loss_shape("logits", logits);
  expect_shape("labels", labels, {shape.rows});
  if (d_logits) expect_shape("d_logits", *d_logits, {shape.rows, shape.columns});
  const LossRows<T> which = loss_rows<T>(weight, mask, shape.rows);
  const Index bad = find_bad_label(shape, labels.data(), which.mask);
  if (bad >= 0) {
    throw py::value_error(
        "labels[" + std::to_string(bad) + "] is " + std::to_string(labels.data()[bad]) +
        "; labels must be in 0.." + std::to_string(shape.columns - 1));
  }
  T* d_data = optional_mutable_data(d_logits);
  const py::gil_scoped_release unlocked;
  return cross_entropy(shape, logits.data(), labels.data(), which, d_data);
}

template <class T>
double regression_rows(const std::string& penalty, double delta,
                       const DenseArray<T>& prediction, const DenseArray<T>& target,
                       const OptionalArray<T>& weight, const OptionalMask& mask,
                       OptionalArray<T> d_prediction) {
  const ErrorPenalty kind = penalty_named(penalty);
  const LossShape shape = loss_shape("prediction", prediction);
  expect_shape("target", target, {shape.rows, shape.columns});
  if (d_prediction) {
    expect_shape("d_prediction", *d_prediction, {shape.rows, shape.columns});
  }
  const LossRows<T> which = loss_rows<T>(weight, mask, shape.rows);
  T* d_data = optional_mutable_data(d_prediction);
  const py::gil_scoped_release unlocked;
  return regression_loss(shape, kind, delta, prediction.data(), target.data(), which,
                         d_data);
}

template <class T>
void register_for(py::module_& module) {
  module.def("softmax", &softmax_rows<T>, py::arg("logits").noconvert(),
             py::arg("out").noconvert());
  module.def("cross_entropy", &cross_entropy_rows<T>, py::arg("logits").noconvert(),
             py::arg("labels").noconvert(), py::arg("weight").noconvert().none(true),
             py::arg("mask").noconvert().none(true),
             py::arg("d_logits").noconvert().none(true));
  module.def("regression_loss", &regression_rows<T>, py::arg("penalty"),
             py::arg("delta"), py::arg("prediction").noconvert(),
             py::arg("target").noconvert(), py::arg("weight").noconvert().none(true),
             py::arg("mask").noconvert().none(true),
             py::arg("d_prediction").noconvert().none(true));
}

}  // namespace

void register_losses(py::module_& module) {
  module.def("find_bad_label", &bad_label, py::arg("labels").noconvert(),
             py::arg("mask").noconvert().none(true), py::arg("classes"));
  register_for<float>(module);
  register_for<double>(module);
}

}  // namespace fastlstm::bindings
