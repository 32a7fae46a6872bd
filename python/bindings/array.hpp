// All checks of NumPy arguments: type, dtype, rank, shape, layout. A message names the
// argument, what was expected and what came. Used by every register_* file.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "fastlstm/buffer.hpp"
#include "fastlstm/types.hpp"

namespace fastlstm::bindings {

namespace py = pybind11;
using Shape = std::vector<Index>;

inline Shape shape_of(const py::array& array) {
  return {array.shape(), array.shape() + array.ndim()};
}

// (3, 4), and (3,) for one dimension, as Python prints it.
inline std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

template <class T>
const char* dtype_name();
template <>
inline const char* dtype_name<float>() {
  return "float32";
}
template <>
inline const char* dtype_name<double>() {
  return "float64";
}

inline std::string type_name(py::handle object) {
  return py::type::handle_of(object).attr("__name__").cast<std::string>();
}

// An ndarray of exactly T; another dtype is an error, never a conversion.
template <class T>
py::array typed_array(py::handle object, const std::string& name) {
  if (!py::isinstance<py::array>(object)) {
    throw py::type_error(name + " must be a numpy.ndarray of " + dtype_name<T>() +
                         ", got " + type_name(object));
  }
  auto array = py::reinterpret_borrow<py::array>(object);
  if (!array.dtype().is(py::dtype::of<T>()) &&
      !py::dtype::of<T>().equal(array.dtype())) {
    throw py::type_error(name + " must be " + dtype_name<T>() + ", got " +
                         py::str(array.dtype()).cast<std::string>() + ": call " + name +
                         ".astype(np." + dtype_name<T>() + ")");
  }
  return array;
}

inline void check_shape(const py::array& array, const std::string& name,
                        const std::string& symbols, const Shape& expected) {
  if (shape_of(array) != expected) {
    throw py::value_error(name + " must have shape " + symbols + " = " +
                          to_string(expected) + ", got " + to_string(shape_of(array)));
  }
}

inline bool is_aligned(const py::array& array) {
  return (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}

// C-contiguous, aligned: the array itself, or a copy of the same dtype.
template <class T>
py::array contiguous(const py::array& array) {
  constexpr int kFlags = static_cast<int>(py::array::c_style) |
                         static_cast<int>(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
  return py::array::ensure(array, kFlags);
}

// The array's memory; the caller has seen to it that writing is allowed where T is not
// const.
template <class T>
T* data_of(const py::array& array) {
  const void* data = array.data();
  return const_cast<T*>(static_cast<const T*>(data));
}

// Whether in_place takes the array. To ask first saves putting names together, which
// takes longer than all else that a small call does outside of the core.
template <class T, class Sizes>
bool fits_in_place(py::handle object, const Sizes& expected, bool writes) {
  if (!py::isinstance<py::array_t<T>>(object)) return false;
  const auto array = py::reinterpret_borrow<py::array>(object);
  return (array.flags() & py::array::c_style) != 0 && is_aligned(array) &&
         (array.writeable() || !writes) &&
         array.ndim() == static_cast<py::ssize_t>(expected.size()) &&
         std::equal(expected.begin(), expected.end(), array.shape());
}

// An array of parameters or gradients that the core uses in place.
template <class T>
T* in_place(py::handle object, const std::string& name, const std::string& symbols,
            const Shape& expected, bool writes) {
  py::array array = typed_array<T>(object, name);
  if (fits_in_place<T>(object, expected, writes)) return data_of<T>(array);
  check_shape(array, name, symbols, expected);
  if ((array.flags() & py::array::c_style) == 0 || !is_aligned(array)) {
    throw py::value_error(
        name + " must be C-contiguous, got strides " +
        to_string(Shape(array.strides(), array.strides() + array.ndim())));
  }
  throw py::value_error(name + " must be writeable, got a read-only array");
}

// What owns the memory of constant arrays, see is_constant().
constexpr const char* kConstantOwner = "fastlstm constant";

// A new array over a pooled buffer, which goes back to the pool with the array.
template <class T>
py::array pooled_array(BufferPool& pool, const Shape& shape,
                       const char* owner_name = nullptr) {
  std::size_t bytes = sizeof(T);
  for (const Index n : shape) bytes *= static_cast<std::size_t>(n);
  auto buffer = std::make_unique<Buffer>(pool.acquire(bytes));
  T* data = buffer->as<T>();
  py::capsule owner(buffer.get(), owner_name,
                    [](void* p) { delete static_cast<Buffer*>(p); });
  std::ignore = buffer.release();
  return py::array_t<T>(shape, data, owner);
}

// Forbids writing to the array.
inline void make_read_only(py::array& array) {
  py::detail::array_proxy(array.ptr())->flags &=
      ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}

// Whether _core.constant made the array. Nobody can write to it: NumPy makes a
// read-only array writeable again if it or an array that it is a view of owns the
// memory, but not if a capsule does.
inline bool is_constant(py::handle object) {
  if (!py::isinstance<py::array>(object)) return false;
  const py::object owner = py::reinterpret_borrow<py::array>(object).base();
  return PyCapsule_IsValid(owner.ptr(), kConstantOwner) != 0;
}

}  // namespace fastlstm::bindings
