// The type _core.Stream: blocks, state and refresh; its step is in stream_step.cpp.
#include <cstddef>
#include <string>

#include "fastlstm/bfloat16.hpp"
#include "stream_object.hpp"

namespace fastlstm::bindings {
namespace {

// Multiply-adds of about 10 us: a step as long as this lets other threads run.
constexpr Index kWorthReleasing = 300000;

template <class T>
PyObject* process(StreamObject* self, py::handle x_object, py::handle out_object) {
  py::array x = typed_array<T>(x_object, "x");
  const bool flat = self->batch == 1 && x.ndim() == 2;
  const Index steps = x.ndim() > 0 ? x.shape(0) : 0;
  const auto shape = [&](Index columns) {
    return flat ? Shape{steps, columns} : Shape{steps, self->batch, columns};
  };
  check_shape(x, "x", self->batch == 1 ? "(T, I) or (T, 1, I)" : "(T, N, I)",
              shape(self->inputs));
  x = contiguous<T>(x);
  py::object out = out_object.is_none()
                       ? py::reinterpret_steal<py::object>(
                             new_array(descr_of<T>(), shape(self->outputs)))
                       : py::reinterpret_borrow<py::object>(out_object);
  T* y = in_place<T>(out, "out", flat ? "(T, O)" : "(T, N, O)", shape(self->outputs),
                     true);
  const py::object overlaps = py::module_::import("numpy").attr("may_share_memory");
  if (overlaps(out, x).template cast<bool>()) {
    throw py::value_error("out must not share memory with x");
  }
  Stream<T>& stream = *stream_in<T>(self);
  const auto* data = static_cast<const T*>(x.data());
  const bool release = stream.work() * steps > kWorthReleasing;
  run(self, release, [&] { stream.process(data, y, steps); });
  return out.release().ptr();
}

// Of h or c: their features differ where h is projected.
template <class T>
Shape state_shape(const Stream<T>& stream, Index features) {
  return {stream.num_layers(), stream.batch_size(), features};
}

template <class T>
PyObject* get_state(StreamObject* self) {
  const Stream<T>& stream = *stream_in<T>(self);
  py::array_t<T> h(state_shape(stream, stream.state_size()));
  if (!stream.has_cell()) {
    stream.get_state(h.mutable_data(), nullptr);
    return h.release().ptr();
  }
  py::array_t<T> c(state_shape(stream, stream.hidden_size()));
  stream.get_state(h.mutable_data(), c.mutable_data());
  return py::make_tuple(h, c).release().ptr();
}

template <class T>
PyObject* set_state(StreamObject* self, py::handle h_object, py::handle c_object) {
  Stream<T>& stream = *stream_in<T>(self);
  const bool projected = stream.state_size() != stream.hidden_size();
  const auto checked = [&](py::handle object, const char* name, const char* symbols,
                           Index features) {
    const py::array array = typed_array<T>(object, name);
    check_shape(array, name, symbols, state_shape(stream, features));
    return contiguous<T>(array);
  };
  const py::array h =
      checked(h_object, "h", projected ? "(L, N, proj_size)" : "(L, N, H)",
              stream.state_size());
  if (stream.has_cell()) {
    const py::array c = checked(c_object, "c", "(L, N, H)", stream.hidden_size());
    stream.set_state(static_cast<const T*>(h.data()), static_cast<const T*>(c.data()));
  } else {
    if (!c_object.is_none()) {
      throw py::type_error("state must be an array h, got a pair");
    }
    stream.set_state(static_cast<const T*>(h.data()), nullptr);
  }
  Py_RETURN_NONE;
}

template <class T>
PyObject* reset_rows(StreamObject* self, py::handle rows) {
  stream_in<T>(self)->reset(mask_data(rows.ptr(), "rows", self->batch));
  Py_RETURN_NONE;
}

// The other methods take a fixed number of positional arguments, from Python code of
// this package alone.
template <class Call>
PyObject* positional(PyObject* object, Py_ssize_t count, Py_ssize_t wanted,
                     const Call& call) {
  if (count != wanted) {
    PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", wanted, count);
    return nullptr;
  }
  return guarded(object, call);
}

PyObject* process_method(PyObject* object, PyObject* const* args, Py_ssize_t count) {
  return positional(object, count, 2, [&](StreamObject* self, auto zero) {
    return process<decltype(zero)>(self, args[0], args[1]);
  });
}

PyObject* get_state_method(PyObject* object, PyObject* const*, Py_ssize_t count) {
  return positional(object, count, 0, [&](StreamObject* self, auto zero) {
    return get_state<decltype(zero)>(self);
  });
}

PyObject* set_state_method(PyObject* object, PyObject* const* args, Py_ssize_t count) {
  return positional(object, count, 2, [&](StreamObject* self, auto zero) {
    return set_state<decltype(zero)>(self, args[0], args[1]);
  });
}

PyObject* reset_rows_method(PyObject* object, PyObject* const* args, Py_ssize_t count) {
  return positional(object, count, 1, [&](StreamObject* self, auto zero) {
    return reset_rows<decltype(zero)>(self, args[0]);
  });
}

void free_stream(PyObject* object) {
  auto* self = reinterpret_cast<StreamObject*>(object);
  delete self->single;
  delete self->twice;
  PyTypeObject* type = Py_TYPE(object);
  type->tp_free(object);
  Py_DECREF(type);
}

template <class Method>
PyCFunction as_function(Method method) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(method));
}

PyMethodDef methods[] = {
    {"step", as_function(step_method), METH_FASTCALL | METH_KEYWORDS,
     "step($self, x, /, *, out=None, active=None, reset=None)\n--\n\n"
     "Advance all streams by one step; see fastlstm.Stream."},
    {"_process", as_function(process_method), METH_FASTCALL, nullptr},
    {"_get_state", as_function(get_state_method), METH_FASTCALL, nullptr},
    {"_set_state", as_function(set_state_method), METH_FASTCALL, nullptr},
    {"_reset_rows", as_function(reset_rows_method), METH_FASTCALL, nullptr},
    {nullptr, nullptr, 0, nullptr}};

PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(free_stream)},
                       {Py_tp_methods, methods},
                       {0, nullptr}};

PyType_Spec spec = {"fastlstm._core.Stream", sizeof(StreamObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

PyTypeObject* stream_type = nullptr;

StreamObject* checked_object(py::handle object) {
  if (PyObject_TypeCheck(object.ptr(), stream_type) == 0) {
    throw py::type_error("a stream must be a _core.Stream, got " + type_name(object));
  }
  return reinterpret_cast<StreamObject*>(object.ptr());
}

}  // namespace

template <class T>
void open_stream(py::handle object, const RecurrentConfig& config,
                 const LayerArrays<const T>* params, const StreamOptions<T>& options) {
  StreamObject* self = checked_object(object);
  if (self->single != nullptr || self->twice != nullptr) {
    throw std::runtime_error("this stream is open already");
  }
  Stream<T>*& stream = stream_in<T>(self);
  stream = new Stream<T>(config, params, options);
  self->batch = stream->batch_size();
  self->inputs = stream->input_size();
  self->outputs = stream->output_size();
  self->release = stream->work() > kWorthReleasing;
}

template <class T>
void refresh_stream(py::handle object, const LayerArrays<const T>* params,
                    const Head<T>& head, const InitialState<T>& initial) {
  StreamObject* self = checked_object(object);
  check_idle(self);
  if (stream_in<T>(self) == nullptr) {
    throw py::type_error("this stream has weights of another dtype");
  }
  stream_in<T>(self)->refresh(params, head, initial);
}

template void open_stream<float>(py::handle, const RecurrentConfig&,
                                 const LayerArrays<const float>*,
                                 const StreamOptions<float>&);
template void open_stream<double>(py::handle, const RecurrentConfig&,
                                  const LayerArrays<const double>*,
                                  const StreamOptions<double>&);
template void refresh_stream<float>(py::handle, const LayerArrays<const float>*,
                                    const Head<float>&, const InitialState<float>&);
template void refresh_stream<double>(py::handle, const LayerArrays<const double>*,
                                     const Head<double>&, const InitialState<double>&);

void register_stream(py::module_& m) {
  look_names_up();
  PyObject* type = PyType_FromSpec(&spec);
  if (type == nullptr) throw py::error_already_set();
  stream_type = reinterpret_cast<PyTypeObject*>(type);
  m.attr("Stream") = py::handle(type);
  m.def(
      "round_to_bfloat16",
      [](py::array_t<float, py::array::c_style> values) {
        round_to_bfloat16(values.size(), values.mutable_data());
      },
      py::arg("values").noconvert());
}

}  // namespace fastlstm::bindings
