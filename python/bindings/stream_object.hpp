// The object behind _core.Stream, and what its methods share: NumPy's types, arrays
// made and looked into, errors. stream.cpp has the class, stream_step.cpp the step.
#pragma once

#include <exception>
#include <new>
#include <string>

#include "stream.hpp"

namespace fastlstm::bindings {

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
inline NumPy numpy;

template <class T>
PyObject* descr_of() {
  return sizeof(T) == sizeof(float) ? numpy.float32 : numpy.float64;
}

// Fills `numpy` and what step needs to find its keywords.
void look_names_up();

PyObject* new_array(PyObject* descr, const Shape& shape);

const bool* mask_data(PyObject* object, const char* name, Index rows);

void check_idle(const StreamObject* self);

// Looks into the arrays at first sight; see stream_step.cpp.
PyObject* step_method(PyObject* object, PyObject* const* args, Py_ssize_t count,
                      PyObject* keywords);

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

}  // namespace fastlstm::bindings
