// Bindings of whole epochs: one class for each element type holds a model's pointers,
// its data and its progress; train() goes on with one run or several.
#include "fastlstm/training.hpp"

#include <cmath>

#include "layer_access.hpp"
#include "optim.hpp"

namespace fastlstm::bindings {
namespace {

TrainedLoss loss_named(const std::string& name, double delta) {
  if (name == "cross_entropy") return {true, ErrorPenalty::squared, delta};
  return {false, penalty_named(name), delta};
}

template <class T>
class Run {
 public:
  // params and grads: the layer's arrays, then the head's weight and, if there is one,
  // its bias; state: as of update().
  Run(const py::object& layer, const Arrays<T>& params, const Arrays<T>& grads,
      const StateArrays<T>& state, bool head_bias, bool return_sequences,
      bool batch_first) {
    const std::size_t head = params.size() - (head_bias ? 2 : 1);
    model().parameters = parameter_list(params, grads, state);
    const LayerAccess<T> access =
        access_layer<T>(layer, first_of(params, head), first_of(grads, head));
    model().config = access.config;
    model().params = access.params;
    model().grads = access.grads;
    model().head_weight = model().parameters[head].param;
    model().d_head_weight = model().parameters[head].grad;
    if (head_bias) {
      model().head_bias = model().parameters[head + 1].param;
      model().d_head_bias = model().parameters[head + 1].grad;
    }
    model().outputs = params[head].shape(0);
    model().features = params[head].shape(1);
    model().return_sequences = return_sequences;
    model().batch_first = batch_first;
    run_.pool = access.pool;
    training_ = access.training;
    keep_ = py::make_tuple(layer, params, grads, state);
  }

  // x: (N, T, I), its last axis contiguous; target: labels (N, R) or values (N, R, O);
  // weight: (N, R).
  void set_data(const py::array& x, const py::array& target,
                const OptionalArray<T>& weight) {
    const Index item = sizeof(T);
    TrainingData<T>& data = run_.data;
    data.count = x.shape(0);
    data.seq_len = x.shape(1);
    data.x = {data_of<const T>(x), x.strides(1) / item, x.strides(0) / item};
    data.labels = nullptr;
    data.targets = nullptr;
    if (run_.loss.cross_entropy) {
      data.labels = data_of<const std::int64_t>(target);
    } else {
      data.targets = data_of<const T>(target);
    }
    data.weight = optional_data(weight);
    data_ = py::make_tuple(x, target, weight);
  }

  void set_goal(const std::string& loss, double delta, const UpdateRule& rule,
                double clip_norm) {
    run_.loss = loss_named(loss, delta);
    run_.rule = rule;
    run_.clip_norm = clip_norm;
  }

  void begin(Index batch_size, const std::optional<Labels>& order,
             const std::optional<DenseArray<double>>& lr,
             const std::optional<DenseArray<std::uint64_t>>& dropout_seed,
             Index updates_before) {
    run_.epoch = {batch_size, optional_data(order), optional_data(lr),
                  optional_data(dropout_seed), updates_before};
    run_.progress = {};
    epoch_ = py::make_tuple(order, lr, dropout_seed);
  }

  TrainingRun<T>* core() { return &run_; }
  std::atomic<bool>* training() const { return training_; }
  const Progress& progress() const { return run_.progress; }
  bool finished() const { return run_.finished(); }
  bool failed() const { return run_.failed(); }

 private:
  TrainedModel<T>& model() { return run_.model; }

  static py::list first_of(const Arrays<T>& arrays, std::size_t count) {
    py::list list;
    for (std::size_t i = 0; i < count; ++i) list.append(arrays[i]);
    return list;
  }

  TrainingRun<T> run_;
  std::atomic<bool>* training_ = nullptr;
  py::object keep_, data_, epoch_;  // what the pointers point to
};

template <class T>
void train_runs(const std::vector<Run<T>*>& runs, double seconds) {
  std::vector<TrainingRun<T>*> list;
  std::vector<TrainingGuard> guards;
  for (Run<T>* run : runs) {
    guards.emplace_back(run->training());
    list.push_back(run->core());
  }
  const py::gil_scoped_release unlocked;
  train(list.data(), static_cast<Index>(list.size()), seconds);
}

// Names of the phases, in the order of Phase.
py::dict seconds_of(const Progress& progress) {
  constexpr const char* kNames[phase_count] = {"gather", "forward",  "head",
                                               "loss",   "backward", "optimizer"};
  py::dict seconds;
  for (int i = 0; i < phase_count; ++i) seconds[kNames[i]] = progress.seconds[i];
  return seconds;
}

template <class T>
void register_type(py::module_& m, const char* name) {
  using Class = Run<T>;
  const auto get = [](auto member) {
    return [member](const Class& run) { return run.progress().*member; };
  };
  py::class_<Class>(m, name)
      .def(py::init<const py::object&, const Arrays<T>&, const Arrays<T>&,
                    const StateArrays<T>&, bool, bool, bool>(),
           py::arg("layer"), py::arg("params").noconvert(),
           py::arg("grads").noconvert(), py::arg("state").noconvert(), py::kw_only(),
           py::arg("head_bias"), py::arg("return_sequences"), py::arg("batch_first"))
      .def("set_goal", &Class::set_goal, py::arg("loss"), py::arg("delta"),
           py::arg("rule"), py::arg("clip_norm"))
      .def("set_data", &Class::set_data, py::arg("x"), py::arg("target"),
           py::arg("weight").noconvert().none(true))
      .def("begin", &Class::begin, py::arg("batch_size"),
           py::arg("order").noconvert().none(true), py::arg("lr").none(true),
           py::arg("dropout_seed").noconvert().none(true), py::arg("updates_before"))
      .def_property_readonly("finished", &Class::finished)
      .def_property_readonly("failed", &Class::failed)
      .def_property_readonly("step", get(&Progress::step))
      .def_property_readonly("loss", get(&Progress::loss))
      .def_property_readonly("score", get(&Progress::score))
      .def_property_readonly("norm", get(&Progress::norm))
      .def_property_readonly("last_norm", get(&Progress::last_norm))
      .def_property_readonly(
          "seconds", [](const Class& run) { return seconds_of(run.progress()); });
  m.def("train", &train_runs<T>, py::arg("runs"), py::arg("seconds"));
}

}  // namespace

void register_training(py::module_& m) {
  register_type<float>(m, "TrainingRunFloat32");
  register_type<double>(m, "TrainingRunFloat64");
}

}  // namespace fastlstm::bindings
