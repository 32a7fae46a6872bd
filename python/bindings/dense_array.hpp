// Dense arguments of heads, losses and optimizers: C-contiguous arrays of one dtype.
// pybind11 refuses other dtypes and layouts by itself; shapes are checked here.
#pragma once

#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <string>

#include "array.hpp"
#include "fastlstm/losses.hpp"

namespace fastlstm::bindings {

template <class T>
using DenseArray = py::array_t<T, py::array::c_style>;
template <class T>
using OptionalArray = std::optional<DenseArray<T>>;
using Labels = DenseArray<std::int64_t>;
using OptionalMask = std::optional<DenseArray<bool>>;

inline void expect_shape(const std::string& name, const py::array& array,
                         const Shape& shape) {
  if (shape_of(array) == shape) return;
  throw py::value_error(name + " must have shape " + to_string(shape) + ", got " +
                        to_string(shape_of(array)));
}

inline void expect_rank(const std::string& name, const py::array& array,
                        py::ssize_t rank) {
  if (array.ndim() == rank) return;
  throw py::value_error(name + " must have " + std::to_string(rank) +
                        (rank == 1 ? " axis" : " axes") + ", got shape " +
                        to_string(shape_of(array)));
}

template <class T>
const T* optional_data(const std::optional<DenseArray<T>>& array) {
  return array ? array->data() : nullptr;
}

template <class T>
T* optional_mutable_data(std::optional<DenseArray<T>>& array) {
  return array ? array->mutable_data() : nullptr;
}

inline ErrorPenalty penalty_named(const std::string& name) {
  if (name == "squared") return ErrorPenalty::squared;
  if (name == "absolute") return ErrorPenalty::absolute;
  if (name == "huber") return ErrorPenalty::huber;
  throw py::value_error("penalty must be squared, absolute or huber, got " + name);
}

}  // namespace fastlstm::bindings
