// The type _core.Stream. A step of a small model takes less time than pybind11 needs to
// convert two arguments, so step is a plain C function that looks into the arrays
// itself; whatever does not fit at first sight goes to the checks of array.hpp.
#include "stream.hpp"

#include <cstddef>
#include <exception>
#include <new>
#include <string>

#include "fastlstm/bfloat16.hpp"

namespace fastlstm::bindings {
namespace {

// Multiply-adds of about 10 us: a step as long as this lets other threads run.
constexpr Index kWorthReleasing = 300000;

struct StreamObject {
  PyObject_HEAD Stream<float>* single;  // one of these, after open_stream
  Stream<double>* twice;
  Index batch, inputs, outputs;
  bool release;  // the GIL, while it works
  bool busy;     // a thread works on it without the GIL
};

template <class T>
Stream<T>*& stream_in(StreamObject* self) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return self->single;
  } else {
    return self->twice;
  }
}

// What NumPy's C interface gives, looked up once.
struct NumPy {
  PyTypeObject* array_type;
  PyObject* float32;
  PyObject* float64;
  PyObject* boolean;
};
NumPy numpy;

struct Names {
  PyObject* out;
  PyObject* active;
  PyObject* reset;
};
Names names;

template <class T>
PyObject* descr_of() {
  return sizeof(T) == sizeof(float) ? numpy.float32 : numpy.float64;
}

constexpr int kReadable = static_cast<int>(py::array::c_style) |
                          static_cast<int>(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
constexpr int kWritable =
    kReadable | static_cast<int>(py::detail::npy_api::NPY_ARRAY_WRITEABLE_);

// The data of an array of this very dtype with these flags and the shape (rows,
// columns), or (columns,) where `flat`; null: look closer.
void* data_at_sight(PyObject* object, PyObject* descr, int flags, bool flat, Index rows,
                    Index columns) {
  if (Py_TYPE(object) != numpy.array_type) return nullptr;
  const auto* array = py::detail::array_proxy(object);
  if (array->descr != descr || (array->flags & flags) != flags) return nullptr;
  if (flat) {
    return array->nd == 1 && array->dimensions[0] == columns ? array->data : nullptr;
  }
  return array->nd == 2 && array->dimensions[0] == rows &&
                 array->dimensions[1] == columns
             ? array->data
             : nullptr;
}

const bool* mask_data(PyObject* object, const char* name, Index rows) {
  if (object == Py_None) return nullptr;
  void* data = data_at_sight(object, numpy.boolean, kReadable, true, 1, rows);
  if (data == nullptr) {
    throw py::value_error(std::string(name) +
                          " must be a C-contiguous array of bool of shape (N,) = (" +
                          std::to_string(rows) + ",)");
  }
  return static_cast<const bool*>(data);
}

// One dimension, so that a single stream may do without the axis N.
bool is_flat(PyObject* object, const StreamObject* self) {
  return self->batch == 1 && Py_TYPE(object) == numpy.array_type &&
         py::detail::array_proxy(object)->nd == 1;
}

Shape shape_of_step(const StreamObject* self, bool flat, Index columns) {
  return flat ? Shape{columns} : Shape{self->batch, columns};
}

// x as it lies, or a copy in `owner`.
template <class T>
const T* input_data(PyObject* object, const StreamObject* self, bool flat,
                    py::array& owner) {
  void* data =
      data_at_sight(object, descr_of<T>(), kReadable, flat, self->batch, self->inputs);
  if (data != nullptr) return static_cast<const T*>(data);
  owner = typed_array<T>(object, "x");
  check_shape(owner, "x", self->batch == 1 ? "(I,) or (1, I)" : "(N, I)",
              shape_of_step(self, flat, self->inputs));
  owner = contiguous<T>(owner);
  return static_cast<const T*>(owner.data());
}

template <class T>
T* output_data(PyObject* object, const StreamObject* self, bool flat) {
  void* data =
      data_at_sight(object, descr_of<T>(), kWritable, flat, self->batch, self->outputs);
  if (data != nullptr) return static_cast<T*>(data);
  return in_place<T>(object, "out", flat ? "(O,)" : "(N, O)",
                     shape_of_step(self, flat, self->outputs), true);
}

PyObject* new_array(PyObject* descr, const Shape& shape) {
  const auto& api = py::detail::npy_api::get();
  Py_INCREF(descr);  // is stolen
  PyObject* array = api.PyArray_NewFromDescr_(
      numpy.array_type, descr, static_cast<int>(shape.size()),
      reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr, nullptr, 0, nullptr);
  if (array == nullptr) throw py::error_already_set();
  return array;
}

void check_idle(const StreamObject* self) {
  if (self->single == nullptr && self->twice == nullptr) {
    throw std::runtime_error("this stream was never opened: use stream() of a layer");
  }
  if (self->busy) {
    throw std::runtime_error("this stream is being stepped by another thread");
  }
}

// Runs work() without the GIL where it takes long enough.
template <class Work>
void run(StreamObject* self, bool release, const Work& work) {
  if (!release) return work();
  self->busy = true;
  PyThreadState* state = PyEval_SaveThread();
  work();
  PyEval_RestoreThread(state);
  self->busy = false;
}

struct StepArguments {
  PyObject* x = nullptr;
  PyObject* out = Py_None;
  PyObject* active = Py_None;
  PyObject* reset = Py_None;
};

bool is_name(PyObject* given, PyObject* wanted) {
  return given == wanted || PyUnicode_Compare(given, wanted) == 0;
}

StepArguments step_arguments(PyObject* const* args, Py_ssize_t count,
                             PyObject* keywords) {
  if (count != 1) {
    throw py::type_error("step takes x and the keywords out, active and reset, got " +
                         std::to_string(count) + " positional arguments");
  }
  StepArguments step;
  step.x = args[0];
  const Py_ssize_t named = keywords == nullptr ? 0 : PyTuple_GET_SIZE(keywords);
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* name = PyTuple_GET_ITEM(keywords, i);
    PyObject* value = args[count + i];
    if (is_name(name, names.out)) {
      step.out = value;
    } else if (is_name(name, names.active)) {
      step.active = value;
    } else if (is_name(name, names.reset)) {
      step.reset = value;
    } else {
      throw py::type_error("step has the keywords out, active and reset, not " +
                           py::handle(name).cast<std::string>());
    }
  }
  return step;
}

template <class T>
PyObject* step(StreamObject* self, const StepArguments& given) {
  const bool flat = is_flat(given.x, self);
  py::array owner = py::reinterpret_steal<py::array>(py::handle());
  const T* x = input_data<T>(given.x, self, flat, owner);
  const bool* active = mask_data(given.active, "active", self->batch);
  const bool* reset = mask_data(given.reset, "reset", self->batch);
  if (given.out == Py_None && active != nullptr) {
    throw py::value_error(
        "active needs out: rows that are not active keep their row of it");
  }
  py::object made;
  if (given.out == Py_None) {
    made = py::reinterpret_steal<py::object>(
        new_array(descr_of<T>(), shape_of_step(self, flat, self->outputs)));
  }
  PyObject* out = made ? made.ptr() : given.out;
  T* y = made ? reinterpret_cast<T*>(py::detail::array_proxy(out)->data)
              : output_data<T>(out, self, flat);
  Stream<T>& stream = *stream_in<T>(self);
  run(self, self->release, [&] { stream.step(x, y, active, reset); });
  Py_INCREF(out);
  return out;
}

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

template <class T>
Shape state_shape(const Stream<T>& stream) {
  return {stream.num_layers(), stream.batch_size(), stream.hidden_size()};
}

template <class T>
PyObject* get_state(StreamObject* self) {
  const Stream<T>& stream = *stream_in<T>(self);
  py::array_t<T> h(state_shape(stream));
  if (!stream.has_cell()) {
    stream.get_state(h.mutable_data(), nullptr);
    return h.release().ptr();
  }
  py::array_t<T> c(state_shape(stream));
  stream.get_state(h.mutable_data(), c.mutable_data());
  return py::make_tuple(h, c).release().ptr();
}

template <class T>
PyObject* set_state(StreamObject* self, py::handle h_object, py::handle c_object) {
  Stream<T>& stream = *stream_in<T>(self);
  const auto checked = [&](py::handle object, const char* name) {
    const py::array array = typed_array<T>(object, name);
    check_shape(array, name, "(L, N, H)", state_shape(stream));
    return contiguous<T>(array);
  };
  const py::array h = checked(h_object, "h");
  if (stream.has_cell()) {
    const py::array c = checked(c_object, "c");
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

// Calls call(T()) for the element type of the stream, and makes Python's errors of what
// it throws.
template <class Call>
PyObject* guarded(PyObject* object, const Call& call) {
  auto* self = reinterpret_cast<StreamObject*>(object);
  try {
    check_idle(self);
    return self->single != nullptr ? call(self, 0.0f) : call(self, 0.0);
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

PyObject* step_method(PyObject* object, PyObject* const* args, Py_ssize_t count,
                      PyObject* keywords) {
  return guarded(object, [&](StreamObject* self, auto zero) {
    return step<decltype(zero)>(self, step_arguments(args, count, keywords));
  });
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
                    const Head<T>& head) {
  StreamObject* self = checked_object(object);
  check_idle(self);
  if (stream_in<T>(self) == nullptr) {
    throw py::type_error("this stream has weights of another dtype");
  }
  stream_in<T>(self)->refresh(params, head);
}

template void open_stream<float>(py::handle, const RecurrentConfig&,
                                 const LayerArrays<const float>*,
                                 const StreamOptions<float>&);
template void open_stream<double>(py::handle, const RecurrentConfig&,
                                  const LayerArrays<const double>*,
                                  const StreamOptions<double>&);
template void refresh_stream<float>(py::handle, const LayerArrays<const float>*,
                                    const Head<float>&);
template void refresh_stream<double>(py::handle, const LayerArrays<const double>*,
                                     const Head<double>&);

void register_stream(py::module_& m) {
  numpy.array_type = py::detail::npy_api::get().PyArray_Type_;
  numpy.float32 = py::dtype::of<float>().release().ptr();
  numpy.float64 = py::dtype::of<double>().release().ptr();
  numpy.boolean = py::dtype::of<bool>().release().ptr();
  names = {PyUnicode_InternFromString("out"), PyUnicode_InternFromString("active"),
           PyUnicode_InternFromString("reset")};
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
