// _core.Stream.step. A step of a small model takes less time than pybind11 needs to
// convert two arguments, so it is a plain C function that looks into the arrays itself;
// whatever does not fit at first sight goes to the checks of array.hpp.
#include "stream_object.hpp"

namespace fastlstm::bindings {
namespace {

// Keywords of step.
struct Names {
  PyObject* out;
  PyObject* active;
  PyObject* reset;
};
Names names;

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

// What came in the place of a C-contiguous array.
std::string seen(py::handle object) {
  if (!py::isinstance<py::array>(object)) return type_name(object);
  const auto array = py::reinterpret_borrow<py::array>(object);
  return py::str(array.dtype()).cast<std::string>() + " of shape " +
         to_string(shape_of(array)) + " and strides " +
         to_string(Shape(array.strides(), array.strides() + array.ndim()));
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

}  // namespace

const bool* mask_data(PyObject* object, const char* name, Index rows) {
  if (object == Py_None) return nullptr;
  void* data = data_at_sight(object, numpy.boolean, kReadable, true, 1, rows);
  if (data == nullptr) {
    throw py::value_error(std::string(name) +
                          " must be a C-contiguous array of bool of shape (N,) = (" +
                          std::to_string(rows) + ",), got " + seen(object));
  }
  return static_cast<const bool*>(data);
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

void look_names_up() {
  numpy.array_type = py::detail::npy_api::get().PyArray_Type_;
  numpy.float32 = py::dtype::of<float>().release().ptr();
  numpy.float64 = py::dtype::of<double>().release().ptr();
  numpy.boolean = py::dtype::of<bool>().release().ptr();
  names = {PyUnicode_InternFromString("out"), PyUnicode_InternFromString("active"),
           PyUnicode_InternFromString("reset")};
}

void check_idle(const StreamObject* self) {
  if (self->single == nullptr && self->twice == nullptr) {
    throw std::runtime_error("this stream was never opened: use stream() of a layer");
  }
  if (self->busy) {
    throw std::runtime_error("this stream is being stepped by another thread");
  }
}

PyObject* step_method(PyObject* object, PyObject* const* args, Py_ssize_t count,
                      PyObject* keywords) {
  return guarded(object, [&](StreamObject* self, auto zero) {
    return step<decltype(zero)>(self, step_arguments(args, count, keywords));
  });
}

}  // namespace fastlstm::bindings
