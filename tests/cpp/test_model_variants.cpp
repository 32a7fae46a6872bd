// Model files of variants and of learned initial states: the bits of the layers they
// describe, streams that go back to the learned state, and options that do not fit.
#include "fastlstm/trainer.hpp"
#include "model_files.hpp"
#include "variant_configs.hpp"

using namespace fastlstm;
using namespace fastlstm::testing;

namespace {

constexpr Index kSteps = 4, kOutputs = 2;

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.17g", value);
  return text;
}

// As nn/variants.py writes it, with all its numbers.
std::string json_of(const Nonlinearity& given) {
  switch (given.kind) {
    case Activation::scaled_tanh:
      return "[\"scaled_tanh\"," + number(given.alpha) + "," + number(given.beta) + "]";
    case Activation::elu:
      return "[\"elu\"," + number(given.alpha) + "]";
    case Activation::softsign:
      return "\"softsign\"";
    case Activation::softplus:
      return "[\"softplus\"]";
    case Activation::sigmoid:
      return "\"sigmoid\"";
    default:
      return "\"tanh\"";
  }
}

std::string options_of(const RecurrentConfig& config, bool learned) {
  const CellOptions& o = config.options;
  std::string text;
  const auto add = [&](const std::string& name, const std::string& value) {
    text += ",\"" + name + "\":" + value;
  };
  const auto flag = [&](const std::string& name, bool value) {
    if (value) add(name, "true");
  };
  flag("peepholes", o.peepholes);
  flag("coupled", o.coupled);
  flag("layer_norm", o.layer_norm);
  flag("learn_initial_state", learned);
  if (o.clip > 0) add("clip", number(o.clip));
  if (o.cell_clip > 0) add("cell_clip", number(o.cell_clip));
  if (o.proj_size > 0) add("proj_size", std::to_string(o.proj_size));
  if (!o.reset_after) add("reset_after", "false");
  if (o.zoneout_h > 0) {
    add("zoneout", "[" + number(o.zoneout_h) + "," + number(o.zoneout_c) + "]");
  }
  if (!o.own_activations) return text;
  const auto activation = [&](const std::string& name,
                              Nonlinearity GateActivations::*a) {
    const std::string first = json_of(o.activations[0].*a);
    const std::string pair = "[" + first + "," + json_of(o.activations[1].*a) + "]";
    add(name, config.bidirectional ? pair : first);
  };
  if (config.cell == CellKind::rnn) {
    activation("nonlinearity", &GateActivations::cell);
    return text;
  }
  activation("recurrent_activation", &GateActivations::gate);
  activation("cell_activation", &GateActivations::cell);
  activation("output_activation", &GateActivations::output);
  return text;
}

// The problem's layers with a head as a file. Of its initial state the first row; a
// problem for this has a batch of one.
template <class T>
ModelFile<T> file_of(const Problem<T>& problem, const std::vector<T>& head,
                     bool learned) {
  const RecurrentConfig& config = problem.config;
  const std::string dtype =
      std::string("\"dtype\":\"") + (sizeof(T) == 4 ? "float32\"" : "float64\"");
  const char* name = config.cell == CellKind::lstm  ? "LSTM"
                     : config.cell == CellKind::gru ? "GRU"
                                                    : "RNN";
  const Index hidden = config.hidden_size, outputs = config.output_size();
  ModelFile<T> file;
  file.config =
      "{\"recurrent\":" +
      part(name, "\"input_size\":" + std::to_string(config.input_size) +
                     ",\"hidden_size\":" + std::to_string(hidden) +
                     ",\"num_layers\":" + std::to_string(config.num_layers) +
                     ",\"bidirectional\":" + (config.bidirectional ? "true" : "false") +
                     "," + dtype + options_of(config, learned)) +
      ",\"head\":" +
      part("Linear", "\"in_features\":" + std::to_string(problem.units()) +
                         ",\"out_features\":2,\"bias\":false," + dtype) +
      ",\"task\":\"regression\",\"return_sequences\":true,\"loss\":" + part("MSE", "") +
      "}";
  file.add("head.weight", {kOutputs, problem.units()}, head);
  const Index rows = config.gate_rows();
  for (Index i = 0; i < problem.layers(); ++i) {
    const LayerValues<T>& params = problem.params[static_cast<std::size_t>(i)];
    const Index layer = i / config.directions();
    const std::string end =
        "_l" + std::to_string(layer) + (i % config.directions() == 1 ? "_reverse" : "");
    const auto add = [&](const std::string& tensor, const std::vector<Index>& shape,
                         const std::vector<T>& values) {
      if (!values.empty()) file.add("recurrent." + tensor + end, shape, values);
    };
    add("weight_ih", {rows, layer == 0 ? config.input_size : problem.units()},
        params[0]);
    add("weight_hh", {rows, outputs}, params[1]);
    add("bias_ih", {rows}, params[2]);
    std::vector<T> bias_hh(static_cast<std::size_t>(rows));
    std::copy(params[3].begin(), params[3].end(),
              bias_hh.end() - static_cast<Index>(params[3].size()));
    add("bias_hh", {rows}, bias_hh);
    add("weight_hr", {outputs, hidden}, params[4]);
    add("weight_peephole", {3 * hidden}, params[5]);
    add("gain_ih", {rows}, params[6]);
    add("gain_hh", {rows}, params[7]);
    add("gain_c", {hidden}, params[8]);
    add("bias_c", {hidden}, params[9]);
    if (!learned) continue;
    const auto row = [&](const std::vector<T>& state, Index units) {
      return std::vector<T>(state.begin() + i * units, state.begin() + (i + 1) * units);
    };
    add("h0", {outputs}, row(problem.h0, outputs));
    if (!problem.c0.empty()) add("c0", {hidden}, row(problem.c0, hidden));
  }
  return file;
}

template <class T>
Model<T> load(const ModelFile<T>& file) {
  const std::vector<char> bytes = file.bytes();
  return Model<T>::from_bytes(bytes.data(), bytes.size());
}

template <class T>
std::vector<T> head_weights(const Problem<T>& problem) {
  return Random<T>(5).array(kOutputs * problem.units());
}

// Answers of the layers and the head at every step.
template <class T>
std::vector<T> answers(const Problem<T>& problem) {
  const std::vector<T> weight = head_weights(problem);
  std::vector<T> y(kSteps * kOutputs);
  linear_forward<T>({kSteps, problem.units(), kOutputs}, problem.infer().output.data(),
                    weight.data(), nullptr, y.data());
  return y;
}

// Three streams that all get the problem's x.
template <class T>
void check_streams(const Model<T>& model, const Problem<T>& problem,
                   const std::vector<T>& wanted) {
  constexpr Index kRows = 3;
  const Index inputs = problem.config.input_size;
  Stream<T> stream = model.stream(kRows);
  for (const bool again : {false, true}) {
    for (Index t = 0; t < kSteps; ++t) {
      std::vector<T> x, y(kRows * kOutputs);
      for (Index n = 0; n < kRows; ++n) {
        const auto begin = problem.x.begin() + t * inputs;
        x.insert(x.end(), begin, begin + inputs);
      }
      stream.step(x.data(), y.data());
      for (Index n = 0; n < kRows; ++n) {
        CHECK(std::equal(y.begin() + n * kOutputs, y.begin() + (n + 1) * kOutputs,
                         wanted.begin() + t * kOutputs));
      }
    }
    const bool rows[kRows] = {true, false, true};
    if (!again) {
      stream.reset(rows);
      stream.reset();
    }
  }
}

template <class T>
void check_models() {
  std::vector<RecurrentConfig> configs = variants(3, 5);
  for (const CellKind cell : kCells) configs.push_back(make_config(cell, 3, 5));
  for (RecurrentConfig config : configs) {
    for (const bool bidirectional : {false, true}) {
      for (const bool learned : {false, true}) {
        config.num_layers = 2;
        config.bidirectional = bidirectional;
        Problem<T> problem(config, kSteps, 1);
        const Model<T> model = load(file_of(problem, head_weights(problem), learned));
        CHECK((model.initial_state().h != nullptr) == learned);
        if (!learned) {
          std::fill(problem.h0.begin(), problem.h0.end(), T(0));
          std::fill(problem.c0.begin(), problem.c0.end(), T(0));
        }
        const std::vector<T> wanted = answers(problem);
        std::vector<T> y(wanted.size());
        model.predict(problem.x.data(), kSteps, 1, y.data());
        CHECK(same_bits(y, wanted));
        if (!bidirectional) check_streams(model, problem, wanted);
      }
    }
  }
}

// The refusal of the file of a variant with a text in its config replaced.
std::string refusal(const std::string& from, const std::string& to) {
  const Problem<float> problem(lstm_variant(3, 5), kSteps, 1);
  ModelFile<float> file = file_of(problem, head_weights(problem), true);
  replace(file.config, from, to);
  return error_of([&] { load(file); });
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("model: variants and learned initial states") {
  for_each_isa([] {
    check_models<float>();
    check_models<double>();
  });
}

TEST_CASE(
    "model: a stream's reset mask zeroes a learned state, reset() returns to it") {
  const Problem<float> problem(make_config(CellKind::lstm, 3, 5), kSteps, 1);
  const Model<float> model = load(file_of(problem, head_weights(problem), true));
  Stream<float> stream = model.stream();
  std::vector<float> h(5), c(5), y(kOutputs), zeroed(kOutputs);
  stream.step(problem.x.data(), y.data());
  stream.reset();
  stream.get_state(h.data(), c.data());
  CHECK(same_bits(h, problem.h0));
  CHECK(same_bits(c, problem.c0));
  const bool reset = true;
  stream.step(problem.x.data(), y.data(), nullptr, &reset);
  stream.set_state(nullptr, nullptr);
  stream.step(problem.x.data(), zeroed.data());
  CHECK(same_bits(y, zeroed));
  CHECK(contains(error_of([&] { stream.refresh(model.params(), model.head()); }),
                 "refresh must be given an initial state"));
  stream.refresh(model.params(), model.head(), model.initial_state());
  CHECK(contains(error_of([&] { Trainer<float>(model, {}); }),
                 "a learned initial state"));
}

TEST_CASE("model: options of a variant that do not fit") {
  CHECK(refusal("true", "true") == "");
  const std::string gate = "\"recurrent_activation\":[\"scaled_tanh\"";
  CHECK(contains(refusal(gate, "\"recurrent_activation\":[\"sin\""),
                 "unknown activation 'sin'"));
  CHECK(contains(refusal(gate, "\"recurrent_activation\":[1"),
                 "recurrent_activation must be a name of an activation"));
  CHECK(contains(refusal("\"softsign\"", "[]"), "cell_activation must be a name"));
  CHECK(contains(refusal("\"softsign\"", "[[\"tanh\"]]"), "must be a name"));
  CHECK(contains(refusal("\"softsign\"", "{}"), "'cell_activation'"));
  CHECK(contains(refusal("\"softsign\"", "[\"tanh\",0.5]"),
                 "without numbers that 'tanh' does not have"));
  CHECK(contains(refusal("\"softsign\"", "[\"elu\",true]"),
                 "must be one activation where there is one direction"));
  CHECK(contains(refusal("\"softsign\"", "[\"tanh\",\"relu\"]"),
                 "must be one activation where there is one direction"));
  CHECK(contains(refusal("\"softsign\"", "[1,2,3,4]"), "the list is too long"));
  CHECK(contains(refusal("\"softsign\"", "[[[\"tanh\"]]]"), "'cell_activation'"));
  CHECK(contains(refusal("\"peepholes\":true", "\"peepholes\":[true]"), "'peepholes'"));
  CHECK(contains(refusal("\"peepholes\":true", "\"peepholes\":1"), "true or false"));
  CHECK(contains(refusal("\"peepholes\":true", "\"peepholes\":false"),
                 "unexpected tensor 'recurrent.weight_peephole_l0'"));
  CHECK(contains(refusal("\"proj_size\":4", "\"proj_size\":3"),
                 "must have shape (20, 3)"));
  CHECK(contains(refusal("\"proj_size\":4", "\"proj_size\":5"),
                 "proj_size must be from"));
  CHECK(contains(refusal("\"proj_size\":4", "\"proj_size\":-1"),
                 "proj_size must be from"));
  CHECK(contains(refusal("\"learn_initial_state\":true", "\"coupled\":true"),
                 "unexpected tensor 'recurrent.c0_l0'"));
  CHECK(contains(refusal("\"peepholes\"", "\"clip\":1e999,\"peepholes\""), "64 bits"));
  CHECK(
      contains(refusal("\"peepholes\"", "\"clip\":-1,\"peepholes\""), "clip must be"));
  CHECK(contains(refusal("\"peepholes\"", "\"reset_after\":true,\"peepholes\""),
                 "the option 'reset_after', which this version does not know"));
  const std::string zoneout = "\"zoneout\":[";
  CHECK(contains(refusal(zoneout, zoneout + "0.1,"),
                 "zoneout must be a number or a pair"));
  CHECK(contains(refusal(zoneout, "\"zoneout\":[7,0.1],\"x\":["), "'x'"));
  const Problem<float> problem(lstm_variant(3, 5), kSteps, 1);
  for (const char* name : {"weight_hr", "weight_peephole", "gain_c", "bias_c", "h0"}) {
    ModelFile<float> file = file_of(problem, head_weights(problem), true);
    file.tensors.erase("recurrent." + std::string(name) + "_l0");
    CHECK(
        contains(error_of([&] { load(file); }), std::string(name) + "_l0' is missing"));
  }
}

TEST_CASE("model: every bit of a variant's header damaged") {
  const Problem<float> problem(lstm_variant(3, 5), kSteps, 1);
  const ModelFile<float> file = file_of(problem, head_weights(problem), true);
  const std::vector<char> good = file.bytes();
  const std::size_t header = file.header().size() + 8;
  int refused = 0;
  for (std::size_t at = 0; at < header; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<char> bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      const std::string error =
          error_of([&] { Model<float>::from_bytes(bytes.data(), bytes.size()); });
      CHECK(error.find('\n') == error.npos);
      refused += error != "";
    }
  }
  CHECK(refused > static_cast<int>(header) * 6);
}
