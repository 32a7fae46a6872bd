// Bindings of layer stacks: one class for each element type, holding the configuration
// and the buffer pool. Parameters come with every call, in the order
// weight_ih, weight_hh[, bias[, bias_hn]] for layer 0, layer 0 reverse, layer 1, ...
#include "fastlstm/recurrent.hpp"

#include <atomic>
#include <memory>
#include <optional>

#include "array.hpp"
#include "layer_access.hpp"
#include "stream.hpp"

namespace fastlstm::bindings {
namespace {

template <class T>
struct PyTape {
  Tape<T> tape;
  py::array x;  // borrowed by the tape
  py::array output;
  bool batched;
  bool batch_first;
};

CellKind cell_kind(const std::string& name) {
  if (name == "lstm") return CellKind::lstm;
  if (name == "gru") return CellKind::gru;
  if (name == "rnn") return CellKind::rnn;
  throw py::value_error("cell must be lstm, gru or rnn, got \"" + name + "\"");
}

Activation activation(const std::string& name, const char* argument) {
  if (name == "tanh") return Activation::tanh;
  if (name == "relu") return Activation::relu;
  if (name == "sigmoid") return Activation::sigmoid;
  if (name == "linear") return Activation::linear;
  throw py::value_error(std::string(argument) +
                        " must be tanh, relu, sigmoid or linear, got \"" + name + "\"");
}

// (code, alpha, beta), made by nn/variants.py.
Nonlinearity nonlinearity(py::handle object) {
  const auto parts = object.cast<std::tuple<int, double, double>>();
  return {static_cast<Activation>(std::get<0>(parts)), std::get<1>(parts),
          std::get<2>(parts)};
}

// What Python hands over by name; what it leaves out stays as it is.
CellOptions cell_options(const py::dict& given) {
  CellOptions options;
  const auto read = [&](const char* name, auto& value) {
    if (given.contains(name)) {
      value = given[name].template cast<std::decay_t<decltype(value)>>();
    }
  };
  read("reset_after", options.reset_after);
  read("clip", options.clip);
  read("peepholes", options.peepholes);
  read("coupled", options.coupled);
  read("cell_clip", options.cell_clip);
  read("layer_norm", options.layer_norm);
  read("zoneout_h", options.zoneout_h);
  read("zoneout_c", options.zoneout_c);
  read("proj_size", options.proj_size);
  if (given.contains("activations")) {  // of both directions: gate, cell, output
    options.own_activations = true;
    const auto both = given["activations"].cast<py::sequence>();
    for (std::size_t d = 0; d < 2; ++d) {
      const auto three = both[d].cast<py::sequence>();
      options.activations[d] = {nonlinearity(three[0]), nonlinearity(three[1]),
                                nonlinearity(three[2])};
    }
  }
  return options;
}

// Parameters that are constant, and their weights as kernels read them. Holds the
// arrays, so that no other one can come to lie in their place.
template <class T>
struct Constants {
  std::vector<py::object> params;
  WeightCache<T> weights{true};
};

template <class T>
class Recurrent {
 public:
  Recurrent(const std::string& cell, Index input_size, Index hidden_size,
            Index num_layers, bool bidirectional, bool bias,
            const std::string& cell_activation, const std::string& output_activation,
            double dropout, double recurrent_dropout, const py::dict& options)
      : bias_(bias) {
    config_.cell = cell_kind(cell);
    config_.input_size = input_size;
    config_.hidden_size = hidden_size;
    config_.num_layers = num_layers;
    config_.bidirectional = bidirectional;
    config_.cell_activation = activation(cell_activation, "cell_activation");
    config_.output_activation = activation(output_activation, "output_activation");
    config_.dropout = dropout;
    config_.recurrent_dropout = recurrent_dropout;
    config_.options = cell_options(options);
    check_config(config_);
  }

  py::tuple forward(const py::sequence& params, py::handle x_object,
                    py::handle h0_object, py::handle c0_object, py::handle out_object,
                    py::handle lengths_object, py::handle mask_object,
                    py::handle reset_object, bool batch_first, bool keep,
                    Index checkpoint_every, std::uint64_t seed) {
    const py::array x = sequence(x_object, "x", config_.input_size, batch_first);
    const Axes axes = axes_of(x, batch_first);
    const auto arrays = parameters<const T>(params, "");
    ForwardArgs<T> args{};
    args.seq_len = axes.seq_len;
    args.batch_size = axes.batch_size;
    args.x = view<const T>(x, axes);
    const py::array h0 = state(h0_object, "h0", h_shape(axes));
    const py::array c0 = state(c0_object, "c0", c_shape(axes));
    if (lstm() && h0.is_none() != c0.is_none()) {
      throw py::type_error("state must be a pair (h0, c0) of arrays, got one None");
    }
    args.h0 = data_or_null(h0);
    args.c0 = data_or_null(c0);
    args.params = arrays.data();
    args.dropout_seed = seed;
    args.checkpoint_every = checkpoint_every;
    const auto constants = keep ? nullptr : constants_of(params);
    args.cache = keep ? nullptr : constants != nullptr ? &constants->weights : &cache_;
    const std::vector<Index> lengths = lengths_of(lengths_object, axes);
    const py::array mask = marked_steps(mask_object, "mask", axes);
    const py::array reset = marked_steps(reset_object, "reset", axes);
    args.marks = {lengths_object.is_none() ? nullptr : lengths.data(),
                  mark_view(mask, axes), mark_view(reset, axes)};
    check_marks(config_, args.marks, axes.seq_len, axes.batch_size);

    const Shape shape = output_shape(axes);
    py::array output = out_object.is_none() ? pooled_array<T>(pool_, shape)
                                            : checked_out(out_object, shape, x);
    py::array h_n = new_array(h_shape(axes));
    py::array c_n = lstm() ? new_array(c_shape(axes)) : py::array();
    args.output = view<T>(output, axes);
    args.h_n = writable(h_n);
    args.c_n = lstm() ? writable(c_n) : nullptr;

    std::unique_ptr<PyTape<T>> tape;
    if (keep) {
      tape = std::make_unique<PyTape<T>>();
      tape->x = x;
      tape->batched = axes.batched;
      tape->batch_first = batch_first;
    }
    {
      const TrainingGuard guard(keep ? &training_ : nullptr);
      const py::gil_scoped_release release;
      recurrent_forward(config_, args, pool_, keep ? &tape->tape : nullptr);
    }
    if (keep && checkpoint_every == 0) {
      // The tape borrows the output: a change of it would silently change gradients.
      make_read_only(output);
      tape->output = output;
    }
    return py::make_tuple(output, h_n, lstm() ? py::object(c_n) : py::none(),
                          keep ? py::cast(std::move(tape)) : py::none());
  }

  py::tuple backward(const py::sequence& params, const py::sequence& grads,
                     py::handle d_output_object, py::handle tape_object,
                     py::handle d_h_n_object, py::handle d_c_n_object, bool need_d_x,
                     bool need_d_state, bool accumulate) {
    if (!py::isinstance<PyTape<T>>(tape_object)) {
      throw py::type_error(std::string("tape must come from forward of a ") +
                           dtype_name<T>() + " layer, got " + type_name(tape_object));
    }
    auto& tape = tape_object.cast<PyTape<T>&>();
    const Axes axes = {tape.tape.seq_len, tape.tape.batch_size, tape.batched,
                       tape.batch_first};
    const auto arrays = parameters<const T>(params, "");
    const auto grad_arrays = parameters<T>(grads, "grads of ");
    BackwardArgs<T> args{};
    py::array d_output;
    if (!d_output_object.is_none()) {
      d_output =
          sequence(d_output_object, "d_output",
                   config_.directions() * config_.output_size(), tape.batch_first);
      check_shape(d_output, "d_output", "output's", output_shape(axes));
      args.d_output = view<const T>(d_output, axes);
    }
    const py::array d_h_n = state(d_h_n_object, "d_h_n", h_shape(axes));
    const py::array d_c_n = state(d_c_n_object, "d_c_n", c_shape(axes));
    args.d_h_n = data_or_null(d_h_n);
    args.d_c_n = data_or_null(d_c_n);
    args.params = arrays.data();
    args.grads = grad_arrays.data();
    args.accumulate = accumulate;
    py::array d_x;
    if (need_d_x) {
      d_x = pooled_array<T>(pool_, shape_of(tape.x));
      args.d_x = view<T>(d_x, axes);
    }
    const bool need_d_c = need_d_state && lstm();
    py::array d_h0 = need_d_state ? new_array(h_shape(axes)) : py::array();
    py::array d_c0 = need_d_c ? new_array(c_shape(axes)) : py::array();
    args.d_h0 = need_d_state ? writable(d_h0) : nullptr;
    args.d_c0 = need_d_c ? writable(d_c0) : nullptr;
    {
      const TrainingGuard guard(&training_);
      const py::gil_scoped_release release;
      recurrent_backward(args, pool_, tape.tape);
    }
    return py::make_tuple(need_d_x ? py::object(d_x) : py::none(),
                          need_d_state ? py::object(d_h0) : py::none(),
                          need_d_c ? py::object(d_c0) : py::none());
  }

  // Fills a new object of _core.Stream. head: (weight, bias or None), or None; h0 and
  // c0: the initial state (L, ...) of a stream, or None.
  void open(py::handle stream, const py::sequence& params, py::handle head,
            py::handle h0_object, py::handle c0_object, Index batch_size, bool bfloat16,
            int threads) const {
    StreamOptions<T> options;
    options.batch_size = batch_size;
    options.precision = bfloat16 ? Precision::bfloat16 : Precision::full;
    options.threads = threads;
    options.head = head_arrays(head);
    const py::array h0 = state(h0_object, "h0", initial_shape(config_.output_size()));
    const py::array c0 = state(c0_object, "c0", initial_shape(config_.hidden_size));
    options.initial = {data_or_null(h0), data_or_null(c0)};
    open_stream<T>(stream, config_, parameters<const T>(params, "").data(), options);
  }

  void refresh(py::handle stream, const py::sequence& params, py::handle head,
               py::handle h0_object, py::handle c0_object) const {
    const py::array h0 = state(h0_object, "h0", initial_shape(config_.output_size()));
    const py::array c0 = state(c0_object, "c0", initial_shape(config_.hidden_size));
    refresh_stream<T>(stream, parameters<const T>(params, "").data(), head_arrays(head),
                      {data_or_null(h0), data_or_null(c0)});
  }

  void trim() {
    constants_.reset();
    cache_.clear();
    pool_.trim();
  }

  LayerAccess<T> access(const py::sequence& params, const py::sequence& grads) {
    return {config_, parameters<const T>(params, ""), parameters<T>(grads, "grads of "),
            &pool_, &training_};
  }

 private:
  struct Axes {
    Index seq_len, batch_size;
    bool batched, batch_first;
  };

  // Those of the last call where they are the same, else new ones; null where a
  // parameter is not constant. A call in another thread goes on with its own.
  std::shared_ptr<Constants<T>> constants_of(const py::sequence& params) {
    const auto all = [&](const auto& holds) {
      for (std::size_t i = 0; i < params.size(); ++i) {
        if (!holds(i, py::object(params[i]))) return false;
      }
      return true;
    };
    const bool same = constants_ != nullptr &&
                      params.size() == constants_->params.size() &&
                      all([&](std::size_t i, const py::object& p) {
                        return p.is(constants_->params[i]);
                      });
    if (same) return constants_;
    constants_.reset();
    if (!all([](std::size_t, const py::object& p) { return is_constant(p); })) {
      return nullptr;
    }
    cache_.clear();
    constants_ = std::make_shared<Constants<T>>();
    for (const py::handle p : params) {
      constants_->params.push_back(py::reinterpret_borrow<py::object>(p));
    }
    return constants_;
  }

  bool lstm() const { return config_.cell == CellKind::lstm; }
  Index state_count() const { return config_.num_layers * config_.directions(); }

  // (T, N, size), (N, T, size) or (T, size), its last axis contiguous.
  py::array sequence(py::handle object, const char* name, Index size,
                     bool batch_first) {
    py::array array = typed_array<T>(object, name);
    if ((array.ndim() != 2 && array.ndim() != 3) ||
        array.shape(array.ndim() - 1) != size) {
      const std::string n = std::to_string(size);
      throw py::value_error(std::string(name) + " must have shape " +
                            (batch_first ? "(N, T, " : "(T, N, ") + n + ") or (T, " +
                            n + "), got " + to_string(shape_of(array)));
    }
    const Index item = sizeof(T);
    bool direct = is_aligned(array);
    for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
      direct = direct && array.strides(axis) % item == 0;
    }
    const py::ssize_t last = array.ndim() - 1;
    direct = direct && (array.strides(last) == item || size == 1);
    return direct ? array : contiguous<T>(array);
  }

  static Axes axes_of(const py::array& x, bool batch_first) {
    if (x.ndim() == 2) return {x.shape(0), 1, false, batch_first};
    return {x.shape(batch_first ? 1 : 0), x.shape(batch_first ? 0 : 1), true,
            batch_first};
  }

  template <class Value>
  static SequenceView<Value> view(const py::array& array, const Axes& axes) {
    const Index item = sizeof(T);
    auto* data = data_of<Value>(array);
    if (!axes.batched) return {data, array.strides(0) / item, 0};
    const int t = axes.batch_first ? 1 : 0;
    return {data, array.strides(t) / item, array.strides(1 - t) / item};
  }

  // An array of what is given; whether of integers is not seen yet.
  static py::array integers_of(py::handle object) try {
    return py::module_::import("numpy").attr("asarray")(object);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_ValueError)) throw;  // lists of different lengths
    throw py::type_error("lengths must be integers, got " +
                         py::repr(object).cast<std::string>());
  }

  // Integers (N,), or one integer of an unbatched sequence.
  static std::vector<Index> lengths_of(py::handle object, const Axes& axes) {
    if (object.is_none()) return {};
    const py::array given = integers_of(object);
    const char kind = given.dtype().kind();
    if (kind != 'i' && kind != 'u' && given.size() > 0) {
      throw py::type_error("lengths must be integers, got " +
                           py::str(given.dtype()).cast<std::string>());
    }
    if (axes.batched || given.ndim() != 0) {
      check_shape(given, "lengths", "(N,)", {axes.batch_size});
    }
    const auto array =
        py::array_t<Index, py::array::c_style | py::array::forcecast>(given);
    // One more than there are, so that data() is not null where N is 0.
    std::vector<Index> lengths(array.data(), array.data() + axes.batch_size);
    lengths.reserve(lengths.size() + 1);
    return lengths;
  }

  // Booleans (T, N), (N, T) or (T,).
  static py::array marked_steps(py::handle object, const char* name, const Axes& axes) {
    if (object.is_none()) return py::reinterpret_borrow<py::array>(object);
    if (!py::isinstance<py::array>(object)) {
      throw py::type_error(std::string(name) +
                           " must be a numpy.ndarray of bool, got " +
                           type_name(object));
    }
    auto array = py::reinterpret_borrow<py::array>(object);
    if (array.dtype().kind() != 'b') {
      throw py::type_error(std::string(name) + " must be bool, got " +
                           py::str(array.dtype()).cast<std::string>() + ": call " +
                           name + ".astype(bool)");
    }
    const Shape shape = !axes.batched      ? Shape{axes.seq_len}
                        : axes.batch_first ? Shape{axes.batch_size, axes.seq_len}
                                           : Shape{axes.seq_len, axes.batch_size};
    check_shape(array, name,
                !axes.batched      ? "(T,)"
                : axes.batch_first ? "(N, T)"
                                   : "(T, N)",
                shape);
    return array;
  }

  static SequenceView<const bool> mark_view(const py::array& array, const Axes& axes) {
    if (array.is_none()) return {nullptr, 0, 0};
    const auto* data = static_cast<const bool*>(array.data());
    if (!axes.batched) return {data, array.strides(0), 0};
    const int t = axes.batch_first ? 1 : 0;
    return {data, array.strides(t), array.strides(1 - t)};
  }

  Shape output_shape(const Axes& axes) const {
    const Index units = config_.directions() * config_.output_size();
    if (!axes.batched) return {axes.seq_len, units};
    if (axes.batch_first) return {axes.batch_size, axes.seq_len, units};
    return {axes.seq_len, axes.batch_size, units};
  }

  Shape state_shape(const Axes& axes, Index units) const {
    if (!axes.batched) return {state_count(), units};
    return {state_count(), axes.batch_size, units};
  }
  Shape initial_shape(Index units) const { return {state_count(), units}; }
  Shape h_shape(const Axes& axes) const {
    return state_shape(axes, config_.output_size());
  }
  Shape c_shape(const Axes& axes) const {
    return state_shape(axes, config_.hidden_size);
  }

  py::array state(py::handle object, const char* name, const Shape& shape) const {
    if (object.is_none()) return py::reinterpret_borrow<py::array>(object);
    const py::array array = typed_array<T>(object, name);
    const bool projected = shape.back() != config_.hidden_size;
    check_shape(array, name,
                std::string(shape.size() == 3 ? "(L*D, N, " : "(L*D, ") +
                    (projected ? "proj_size)" : "H)"),
                shape);
    return contiguous<T>(array);
  }

  static const T* data_or_null(const py::array& array) {
    return array.is_none() ? nullptr : static_cast<const T*>(array.data());
  }

  static py::array new_array(const Shape& shape) { return py::array_t<T>(shape); }
  static T* writable(py::array& array) { return static_cast<T*>(array.mutable_data()); }

  static py::array checked_out(py::handle object, const Shape& shape,
                               const py::array& x) {
    in_place<T>(object, "out", "output's", shape, true);
    const py::object overlaps = py::module_::import("numpy").attr("may_share_memory");
    if (overlaps(object, x).cast<bool>()) {
      throw py::value_error("out must not share memory with x");
    }
    return py::reinterpret_borrow<py::array>(object);
  }

  Head<T> head_arrays(py::handle head) const {
    if (head.is_none()) return {};
    const auto pair = py::reinterpret_borrow<py::sequence>(head);
    const Index units = config_.directions() * config_.output_size();
    const py::array weight = typed_array<T>(pair[0], "head weight");
    const Index outputs = weight.ndim() == 2 ? weight.shape(0) : 1;
    const py::object bias = pair[1];
    return {in_place<T>(weight, "head weight", "(O, D*H)", {outputs, units}, false),
            bias.is_none() ? nullptr
                           : in_place<T>(bias, "head bias", "(O,)", {outputs}, false),
            outputs};
  }

  // In the symbols G stands for the rows of the gates.
  template <class Value>
  std::vector<LayerArrays<Value>> parameters(const py::sequence& list,
                                             const char* prefix) const {
    constexpr bool kWrites = !std::is_const_v<Value>;
    const CellOptions& options = config_.options;
    const Index rows = config_.gate_rows();
    const Index hidden = config_.hidden_size;
    const Index outputs = config_.output_size();
    const bool projects = outputs != hidden;
    std::vector<LayerArrays<Value>> arrays;
    std::size_t next = 0;
    Index i = 0;
    const auto take = [&](const char* name, std::string symbols,
                          std::initializer_list<Index> shape) -> Value* {
      const auto full_name = [&] {
        return prefix + std::string(name) + "_l" +
               std::to_string(i / config_.directions()) +
               (i % config_.directions() == 1 ? "_reverse" : "");
      };
      if (next >= list.size()) throw py::value_error(full_name() + " is missing");
      const py::object object = list[next++];
      if (fits_in_place<T>(object, shape, kWrites)) {
        return data_of<T>(py::reinterpret_borrow<py::array>(object));
      }
      if (symbols[1] == 'G') symbols.replace(1, 1, gate_symbol());
      return in_place<T>(object, full_name(), symbols, shape, kWrites);
    };
    for (; i < state_count(); ++i) {
      const bool first = i < config_.directions();
      LayerArrays<Value> a{};
      a.weight_ih =
          take("weight_ih", first ? "(G, I)" : "(G, D*H)",
               {rows, first ? config_.input_size : config_.directions() * outputs});
      a.weight_hh =
          take("weight_hh", projects ? "(G, proj_size)" : "(G, H)", {rows, outputs});
      if (bias_) {
        a.bias = take("bias", "(G,)", {rows});
        if (config_.cell == CellKind::gru)
          a.bias_hn = take("bias_hn", "(H,)", {hidden});
      }
      if (projects)
        a.weight_hr = take("weight_hr", "(proj_size, H)", {outputs, hidden});
      if (options.peepholes) {
        a.weight_peephole = take("weight_peephole", "(3*H,)", {3 * hidden});
      }
      if (options.layer_norm) {
        a.gain_ih = take("gain_ih", "(G,)", {rows});
        a.gain_hh = take("gain_hh", "(G,)", {rows});
        a.gain_c = take("gain_c", "(H,)", {hidden});
        if (bias_) a.bias_c = take("bias_c", "(H,)", {hidden});
      }
      arrays.push_back(a);
    }
    return arrays;
  }

  const char* gate_symbol() const {
    return lstm() ? "4*H" : config_.cell == CellKind::gru ? "3*H" : "H";
  }

  RecurrentConfig config_;
  bool bias_;
  BufferPool pool_;
  WeightCache<T> cache_;
  std::shared_ptr<Constants<T>> constants_;
  std::atomic<bool> training_{false};
};

// What a tape kept of one layer; a negative layer counts from the last.
template <class T>
struct TapeReader {
  const PyTape<T>& py_tape;

  const RecurrentConfig& config() const { return py_tape.tape.config; }
  Index layer(Index given) const {
    return given < 0 ? given + config().num_layers : given;
  }
  Shape shape() const {
    const Tape<T>& tape = py_tape.tape;
    const Index units = config().directions() * config().hidden_size;
    if (!py_tape.batched) return {tape.seq_len, units};
    if (py_tape.batch_first) return {tape.batch_size, tape.seq_len, units};
    return {tape.seq_len, tape.batch_size, units};
  }
  SequenceView<T> view(T* data) const {
    const Tape<T>& tape = py_tape.tape;
    const Index units = config().directions() * config().hidden_size;
    if (py_tape.batched && py_tape.batch_first)
      return {data, units, tape.seq_len * units};
    return {data, tape.batch_size * units, units};
  }

  py::array cell(Index of_layer) const {
    py::array_t<T> out(shape());
    tape_cell(py_tape.tape, layer(of_layer), view(out.mutable_data()));
    return out;
  }
  py::array gates(Index of_layer) const {
    Shape all = shape();
    const Index gates = config().gate_rows() / config().hidden_size;
    all.insert(all.begin(), gates);
    py::array_t<T> out(all);
    for (Index g = 0; g < gates; ++g) {
      T* data = out.mutable_data() + g * (out.size() / gates);
      tape_gate(py_tape.tape, layer(of_layer), g, view(data));
    }
    return out;
  }
};

template <class T>
void register_type(py::module_& m, const char* name, const char* tape_name) {
  py::class_<PyTape<T>>(m, tape_name, py::dynamic_attr())
      .def_property_readonly("seq_len",
                             [](const PyTape<T>& t) { return t.tape.seq_len; })
      .def_property_readonly("batch_size",
                             [](const PyTape<T>& t) { return t.tape.batch_size; })
      .def_property_readonly("batch_first",
                             [](const PyTape<T>& t) { return t.batch_first; })
      .def_property_readonly(
          "nbytes", [](const PyTape<T>& t) { return tape_bytes(t.tape); },
          "Bytes that the tape holds, beside x and the output")
      .def_property_readonly("used", [](const PyTape<T>& t) { return t.tape.used; })
      .def_property_readonly(
          "cell", [](const PyTape<T>& t) { return TapeReader<T>{t}.cell(-1); },
          "c of the last layer at every step, laid out as the output")
      .def_property_readonly(
          "gates", [](const PyTape<T>& t) { return TapeReader<T>{t}.gates(-1); },
          "The activated gates of the last layer, stacked: (4, T, N, D*H) for an LSTM")
      .def(
          "cell_of",
          [](const PyTape<T>& t, Index layer) { return TapeReader<T>{t}.cell(layer); },
          py::arg("layer"), "As cell, of any layer")
      .def(
          "gates_of",
          [](const PyTape<T>& t, Index layer) { return TapeReader<T>{t}.gates(layer); },
          py::arg("layer"), "As gates, of any layer");
  py::class_<Recurrent<T>>(m, name)
      .def(py::init<const std::string&, Index, Index, Index, bool, bool,
                    const std::string&, const std::string&, double, double,
                    const py::dict&>(),
           py::arg("cell"), py::arg("input_size"), py::arg("hidden_size"),
           py::arg("num_layers"), py::arg("bidirectional"), py::arg("bias"),
           py::arg("cell_activation"), py::arg("output_activation"), py::arg("dropout"),
           py::arg("recurrent_dropout"), py::arg("options"))
      .def("forward", &Recurrent<T>::forward, py::arg("params"), py::arg("x"),
           py::arg("h0"), py::arg("c0"), py::arg("out"), py::arg("lengths"),
           py::arg("mask"), py::arg("reset"), py::arg("batch_first"), py::arg("keep"),
           py::arg("checkpoint_every"), py::arg("seed"))
      .def("backward", &Recurrent<T>::backward, py::arg("params"), py::arg("grads"),
           py::arg("d_output"), py::arg("tape"), py::arg("d_h_n"), py::arg("d_c_n"),
           py::arg("need_d_x"), py::arg("need_d_state"), py::arg("accumulate"))
      .def("open", &Recurrent<T>::open, py::arg("stream"), py::arg("params"),
           py::arg("head"), py::arg("h0"), py::arg("c0"), py::arg("batch_size"),
           py::arg("bfloat16"), py::arg("threads"))
      .def("refresh", &Recurrent<T>::refresh, py::arg("stream"), py::arg("params"),
           py::arg("head"), py::arg("h0"), py::arg("c0"))
      .def("trim", &Recurrent<T>::trim);
}

}  // namespace

template <class T>
LayerAccess<T> access_layer(py::handle layer, const py::sequence& params,
                            const py::sequence& grads) {
  return layer.cast<Recurrent<T>&>().access(params, grads);
}
template LayerAccess<float> access_layer<float>(py::handle, const py::sequence&,
                                                const py::sequence&);
template LayerAccess<double> access_layer<double>(py::handle, const py::sequence&,
                                                  const py::sequence&);

void register_recurrent(py::module_& m) {
  register_type<float>(m, "RecurrentFloat32", "TapeFloat32");
  register_type<double>(m, "RecurrentFloat64", "TapeFloat64");
}

}  // namespace fastlstm::bindings
