// Bindings of what belongs to the process: instruction set, threads, build.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>

#include "array.hpp"
#include "fastlstm/fastlstm.hpp"

namespace fastlstm::bindings {

namespace py = pybind11;

namespace {

template <class T>
py::array zeros(const Shape& shape) {
  BufferPool pool(1);  // the array's memory keeps what it needs of it
  py::array array = pooled_array<T>(pool, shape);
  std::fill_n(static_cast<T*>(array.mutable_data()), array.size(), T(0));
  return array;
}

template <class T>
py::array constant(const py::array& values) {
  BufferPool pool(1);
  py::array array = pooled_array<T>(pool, shape_of(values), kConstantOwner);
  const auto copy = contiguous<T>(values);
  std::copy_n(static_cast<const T*>(copy.data()), array.size(),
              static_cast<T*>(array.mutable_data()));
  make_read_only(array);
  return array;
}

}  // namespace

void register_runtime(py::module_& m) {
  m.attr("version") = FASTLSTM_VERSION;
  m.def("available_isas", &available_isas);
  m.def("isa", &isa);
  m.def("set_isa", &set_isa, py::arg("name"));
  m.def("cpu_name", &cpu_name);
  m.def("cache_bytes", &cache_bytes, py::arg("level"));
  m.def("available_cpus", &available_cpus);
  m.def("allow_oversubscription", &allow_oversubscription, py::arg("allow"));
  m.def("num_threads", &num_threads);
  m.def("set_num_threads", &set_num_threads, py::arg("n"));
  // Aligned to cache lines and, where it is large, to huge pages, which are asked for.
  m.def(
      "zeros",
      [](const Shape& shape, const py::dtype& dtype) {
        return dtype.equal(py::dtype::of<double>()) ? zeros<double>(shape)
                                                    : zeros<float>(shape);
      },
      py::arg("shape"), py::arg("dtype"));
  // A read-only copy, see is_constant().
  m.def(
      "constant",
      [](const py::array& values) {
        return values.dtype().equal(py::dtype::of<double>()) ? constant<double>(values)
                                                             : constant<float>(values);
      },
      py::arg("values"));
  using ReleaseGil = py::call_guard<py::gil_scoped_release>;
  m.def("probe_flops", &probe_flops, py::arg("threads"), py::arg("seconds"),
        ReleaseGil());
  m.def("probe_read", &probe_read, py::arg("threads"), py::arg("bytes"),
        py::arg("seconds"), ReleaseGil());
  m.def("build_config", [] {
    py::dict config;
#if defined(__clang__)
    config["compiler"] = "clang " __clang_version__;
#else
    config["compiler"] = "gcc " __VERSION__;
#endif
    config["cxx_standard"] = __cplusplus;
#if defined(__OPTIMIZE__)
    config["optimized"] = true;
#else
    config["optimized"] = false;
#endif
    return config;
  });
}

}  // namespace fastlstm::bindings
