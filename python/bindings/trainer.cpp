// Bindings of online learning: one class for each element type.
#include "fastlstm/trainer.hpp"

#include <algorithm>
#include <optional>

#include "array.hpp"
#include "dense_array.hpp"
#include "layer_access.hpp"

namespace fastlstm::bindings {
namespace {

template <class T>
class OnlineTrainer {
 public:
  // params: the layer's arrays; bias: of the head, or None. All are copied.
  OnlineTrainer(const py::object& layer, const py::sequence& params,
                const DenseArray<T>& weight, const std::optional<DenseArray<T>>& bias,
                bool classification, const UpdateRule& rule, double lr, Index tbptt,
                double clip_norm)
      : trainer_(make(layer, params, weight, bias, classification, rule, lr, tbptt,
                      clip_norm)) {}

  double learn_values(const DenseArray<T>& x, const DenseArray<T>& y) {
    check_size("x", x, trainer_.input_size());
    check_size("y", y, trainer_.output_size());
    return trainer_.learn(x.data(), y.data());
  }

  double learn_label(const DenseArray<T>& x, std::int64_t label) {
    check_size("x", x, trainer_.input_size());
    const Index labels = trainer_.output_size();
    if (label < 0 || label >= labels) {
      throw py::value_error("label must be from 0 to " + std::to_string(labels - 1) +
                            ", got " + std::to_string(label));
    }
    return trainer_.learn(x.data(), label);
  }

  DenseArray<T> predict(const DenseArray<T>& x) {
    check_size("x", x, trainer_.input_size());
    DenseArray<T> y(trainer_.output_size());
    trainer_.predict(x.data(), y.mutable_data());
    return y;
  }

  void reset() { trainer_.reset(); }

  // Copies what was learned into arrays such as the constructor took.
  void store(const py::object& layer, const py::sequence& params, DenseArray<T> weight,
             std::optional<DenseArray<T>> bias) const {
    const LayerAccess<T> to = access_layer<T>(layer, params, params);
    const RecurrentConfig& config = trainer_.config();
    for (Index i = 0; i < config.num_layers; ++i) {
      const LayerArrays<const T>& from = trainer_.params()[i];
      const LayerArrays<T>& arrays = to.grads[static_cast<std::size_t>(i)];
      const Index rows = config.gate_rows();
      const Index hidden = config.hidden_size;
      const Index outputs = config.output_size();
      copy(from.weight_ih, rows * (i == 0 ? config.input_size : outputs),
           arrays.weight_ih);
      copy(from.weight_hh, rows * outputs, arrays.weight_hh);
      copy(from.bias, rows, arrays.bias);
      copy(from.bias_hn, hidden, arrays.bias_hn);
      copy(from.weight_hr, outputs * hidden, arrays.weight_hr);
      copy(from.weight_peephole, 3 * hidden, arrays.weight_peephole);
      copy(from.gain_ih, rows, arrays.gain_ih);
      copy(from.gain_hh, rows, arrays.gain_hh);
      copy(from.gain_c, hidden, arrays.gain_c);
      copy(from.bias_c, hidden, arrays.bias_c);
    }
    const Head<T> head = trainer_.head();
    copy(head.weight, weight.size(), weight.mutable_data());
    if (bias) copy(head.bias, bias->size(), bias->mutable_data());
  }

 private:
  static Trainer<T> make(const py::object& layer, const py::sequence& params,
                         const DenseArray<T>& weight,
                         const std::optional<DenseArray<T>>& bias, bool classification,
                         const UpdateRule& rule, double lr, Index tbptt,
                         double clip_norm) {
    const LayerAccess<T> access = access_layer<T>(layer, params, params);
    TrainerOptions options;
    options.task = classification ? Task::classification : Task::regression;
    options.tbptt = tbptt;
    options.rule = rule;
    options.lr = lr;
    options.clip_norm = clip_norm;
    options.max_threads = 0;
    const Head<T> head = {weight.data(), bias ? bias->data() : nullptr,
                          static_cast<Index>(weight.shape(0))};
    return Trainer<T>(access.config, access.params.data(), head, options);
  }

  static void check_size(const char* name, const DenseArray<T>& array, Index size) {
    if (array.ndim() == 1 && array.shape(0) == size) return;
    throw py::value_error(std::string(name) + " must have shape (" +
                          std::to_string(size) + ",)");
  }

  static void copy(const T* from, Index size, T* to) {
    if (from != nullptr) std::copy_n(from, size, to);
  }

  Trainer<T> trainer_;
};

template <class T>
void register_for(py::module_& module, const char* name) {
  using Class = OnlineTrainer<T>;
  py::class_<Class>(module, name)
      .def(py::init<const py::object&, const py::sequence&, const DenseArray<T>&,
                    const std::optional<DenseArray<T>>&, bool, const UpdateRule&,
                    double, Index, double>(),
           py::arg("layer"), py::arg("params"), py::arg("weight").noconvert(),
           py::arg("bias").noconvert().none(true), py::kw_only(),
           py::arg("classification"), py::arg("rule"), py::arg("lr"), py::arg("tbptt"),
           py::arg("clip_norm"))
      .def("learn_values", &Class::learn_values, py::arg("x").noconvert(),
           py::arg("y").noconvert())
      .def("learn_label", &Class::learn_label, py::arg("x").noconvert(),
           py::arg("label"))
      .def("predict", &Class::predict, py::arg("x").noconvert())
      .def("reset", &Class::reset)
      .def("store", &Class::store, py::arg("layer"), py::arg("params"),
           py::arg("weight").noconvert(), py::arg("bias").noconvert().none(true));
}

}  // namespace

void register_trainer(py::module_& module) {
  register_for<float>(module, "TrainerFloat32");
  register_for<double>(module, "TrainerFloat64");
}

}  // namespace fastlstm::bindings
