// Dense arguments of heads, losses and optimizers: C-contiguous arrays of one dtype.
// pybind11 refuses other dtypes and layouts by itself; shapes are checked here.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fastlstm/types.hpp"

namespace fastlstm::bindings {

template <class T>
using DenseArray = pybind11::array_t<T, pybind11::array::c_style>;
template <class T>
using OptionalArray = std::optional<DenseArray<T>>;
using Labels = DenseArray<std::int64_t>;
using OptionalMask = std::optional<DenseArray<bool>>;

inline std::string shape_text(const pybind11::ssize_t* shape, std::size_t rank) {
  std::string text = "(";
  for (std::size_t i = 0; i < rank; ++i) {
    text += std::to_string(shape[i]) + (i + 1 < rank ? ", " : rank == 1 ? "," : "");
  }
  return text + ")";
}

inline void expect_shape(const char* name, const pybind11::array& array,
                         const std::vector<pybind11::ssize_t>& shape) {
  const std::size_t rank = static_cast<std::size_t>(array.ndim());
  if (std::vector<pybind11::ssize_t>(array.shape(), array.shape() + rank) == shape) {
    return;
  }
  throw std::invalid_argument(std::string(name) + " must have shape " +
                              shape_text(shape.data(), shape.size()) + ", got " +
                              shape_text(array.shape(), rank));
}

inline void expect_rank(const char* name, const pybind11::array& array,
                        pybind11::ssize_t rank) {
  if (array.ndim() == rank) return;
  throw std::invalid_argument(
      std::string(name) + " must have " + std::to_string(rank) +
      (rank == 1 ? " axis" : " axes") + ", got shape " +
      shape_text(array.shape(), static_cast<std::size_t>(array.ndim())));
}

template <class T>
const T* optional_data(const std::optional<DenseArray<T>>& array) {
  return array ? array->data() : nullptr;
}

template <class T>
T* optional_mutable_data(std::optional<DenseArray<T>>& array) {
  return array ? array->mutable_data() : nullptr;
}

}  // namespace fastlstm::bindings
