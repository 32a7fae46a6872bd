// See model_options.hpp. What a file may leave out, and what it means then, is as in
// nn/variants.py.
#include "model_options.hpp"

#include <array>
#include <cstddef>
#include <string_view>

namespace fastlstm {
namespace {

// Two directions, each a name with its alpha and beta.
constexpr std::size_t kMaxList = 3;
constexpr std::string_view kLists[] = {"recurrent_activation", "cell_activation",
                                       "output_activation", "nonlinearity", "zoneout"};

// A name, how many numbers may follow it, and their defaults.
struct NamedActivation {
  std::string_view name;
  Activation kind;
  std::size_t numbers;
  double alpha, beta;
};
constexpr NamedActivation kActivations[] = {
    {"tanh", Activation::tanh, 0, 0, 0},
    {"relu", Activation::relu, 0, 0, 0},
    {"sigmoid", Activation::sigmoid, 0, 0, 0},
    {"linear", Activation::linear, 0, 0, 0},
    {"affine", Activation::affine, 2, 1, 0},
    {"leaky_relu", Activation::leaky_relu, 1, 0.01, 0},
    {"thresholded_relu", Activation::thresholded_relu, 1, 1, 0},
    {"scaled_tanh", Activation::scaled_tanh, 2, 1, 1},
    {"hard_sigmoid", Activation::hard_sigmoid, 2, 0.2, 0.5},
    {"elu", Activation::elu, 1, 1, 0},
    {"softsign", Activation::softsign, 0, 0, 0},
    {"softplus", Activation::softplus, 0, 0, 0},
};

const NamedActivation& find_activation(const std::string& name) {
  for (const NamedActivation& known : kActivations) {
    if (known.name == name) return known;
  }
  throw FormatError("unknown activation " + shown(name));
}

OptionValue read_list(JsonReader& json, int depth) {
  OptionValue value;
  if (depth == 0 || !json.at_array()) {
    value.scalar = json.scalar();
    return value;
  }
  value.is_list = true;
  json.array([&] {
    if (value.list.size() == kMaxList) throw FormatError("the list is too long");
    value.list.push_back(read_list(json, depth - 1));
  });
  return value;
}

OptionValue read_value(const std::string& key, JsonReader& json) {
  for (const std::string_view name : kLists) {
    if (name == key) return read_list(json, 2);
  }
  return read_list(json, 0);
}

bool is_number(const OptionValue& value) {
  return std::holds_alternative<Index>(value.scalar) ||
         std::holds_alternative<double>(value.scalar);
}

// A name, or a list of it and its numbers.
Nonlinearity nonlinearity(const Options& options, const std::string& key,
                          const OptionValue& value) {
  const char* wanted = "a name of an activation, or a list of it and its numbers";
  if (value.is_list && value.list.empty()) options.fail(key, wanted);
  const OptionValue& first = value.is_list ? value.list[0] : value;
  const auto* name = std::get_if<std::string>(&first.scalar);
  if (name == nullptr || first.is_list) options.fail(key, wanted);
  const NamedActivation& known = find_activation(*name);
  const std::size_t given = value.is_list ? value.list.size() - 1 : 0;
  if (given > known.numbers) {
    options.fail(key, "without numbers that " + shown(*name) + " does not have");
  }
  double numbers[] = {known.alpha, known.beta};
  for (std::size_t i = 0; i < given; ++i) {
    numbers[i] = options.as<double>(key, value.list[i + 1]);
  }
  return {known.kind, numbers[0], numbers[1]};
}

// One for both directions, or a list of two.
std::array<Nonlinearity, 2> both_directions(const Options& options,
                                            const std::string& key,
                                            const OptionValue& value,
                                            bool bidirectional) {
  if (value.is_list && value.list.size() == 2 && !is_number(value.list[1])) {
    if (!bidirectional)
      options.fail(key, "one activation where there is one direction");
    return {nonlinearity(options, key, value.list[0]),
            nonlinearity(options, key, value.list[1])};
  }
  const Nonlinearity one = nonlinearity(options, key, value);
  return {one, one};
}

// A plain name that the fused and pointwise kernels have.
bool fused(CellKind cell, const OptionValue& value) {
  const auto* name = std::get_if<std::string>(&value.scalar);
  if (name == nullptr) return false;
  const Activation kind = find_activation(*name).kind;
  return cell == CellKind::gru ? kind == Activation::tanh : kind <= Activation::linear;
}

OptionValue of_name(const char* name) {
  OptionValue value;
  value.scalar = std::string(name);
  return value;
}

void take_activations(Options& options, RecurrentConfig& config) {
  const bool rnn = config.cell == CellKind::rnn;
  const std::string keys[] = {"recurrent_activation",
                              rnn ? "nonlinearity" : "cell_activation",
                              "output_activation"};
  OptionValue values[] = {of_name("sigmoid"), of_name("tanh"), of_name("tanh")};
  const bool known[] = {!rnn, true, config.cell == CellKind::lstm};
  for (std::size_t i = 0; i < 3; ++i) {
    if (known[i] && options.has(keys[i])) values[i] = options.take_value(keys[i]);
  }
  std::array<Nonlinearity, 2> both[3];
  for (std::size_t i = 0; i < 3; ++i) {
    both[i] = both_directions(options, keys[i], values[i], config.bidirectional);
  }
  const auto* gate = std::get_if<std::string>(&values[0].scalar);
  if (gate != nullptr && *gate == "sigmoid" && fused(config.cell, values[1]) &&
      fused(config.cell, values[2])) {
    config.cell_activation = both[1][0].kind;
    config.output_activation = both[2][0].kind;
    return;
  }
  config.options.own_activations = true;
  for (std::size_t d = 0; d < 2; ++d) {
    config.options.activations[d] = {both[0][d], both[1][d], both[2][d]};
  }
}

// A probability, or a list of those of h and of c.
void take_zoneout(Options& options, CellOptions& cell) {
  if (!options.has("zoneout")) return;
  const OptionValue value = options.take_value("zoneout");
  if (value.is_list && value.list.size() != 2) {
    options.fail("zoneout", "a number or a pair");
  }
  const OptionValue& h = value.is_list ? value.list[0] : value;
  const OptionValue& c = value.is_list ? value.list[1] : value;
  cell.zoneout_h = options.as<double>("zoneout", h);
  cell.zoneout_c = options.as<double>("zoneout", c);
}

}  // namespace

void Options::read(const std::string& part, JsonReader& json) {
  part_ = part;
  bool has_class = false;
  bool has_config = false;
  json.object([&](const std::string& key) {
    if (key == "class") {
      has_class = true;
      class_ = json.string();
    } else if (key == "config") {
      has_config = true;
      json.object([&](const std::string& name) {
        try {
          values_[name] = read_value(name, json);
        } catch (const FormatError& error) {
          throw FormatError(part_ + "." + shown(name) + ": " + error.what());
        }
      });
    } else {
      throw FormatError(part_ + " has the unknown key " + shown(key));
    }
  });
  if (!has_class || !has_config) {
    throw FormatError(part_ + " must have class and config");
  }
}

Index Options::take_size(const std::string& key) {
  const Index size = take<Index>(key);
  if (size < 1 || size > kMaxSize) {
    throw FormatError(part_ + "." + key + " must be from 1 to " +
                      std::to_string(kMaxSize) + ", got " + std::to_string(size));
  }
  return size;
}

OptionValue Options::take_value(const std::string& key) {
  const auto found = values_.find(key);
  OptionValue value = std::move(found->second);
  values_.erase(found);
  return value;
}

void Options::check_all_taken() const {
  if (values_.empty()) return;
  throw FormatError(part_ + " has the option " + shown(values_.begin()->first) +
                    ", which this version does not know");
}

void Options::fail(const std::string& key, const std::string& wanted) const {
  throw FormatError(part_ + "." + key + " must be " + wanted);
}

void Options::fail_class(const char* wanted) const {
  throw FormatError(part_ + " must be " + wanted + ", got " + shown(class_));
}

void take_cell(Options& options, RecurrentConfig& config) {
  const std::string& name = options.class_name();
  CellOptions& cell = config.options;
  if (name == "LSTM") {
    cell.peepholes = options.take_or("peepholes", false);
    cell.coupled = options.take_or("coupled", false);
    cell.cell_clip = options.take_or("cell_clip", 0.0);
    cell.layer_norm = options.take_or("layer_norm", false);
    cell.proj_size = options.take_or("proj_size", Index{0});
    take_zoneout(options, cell);
  } else if (name == "GRU") {
    config.cell = CellKind::gru;
    cell.reset_after = options.take_or("reset_after", true);
  } else if (name == "RNN") {
    config.cell = CellKind::rnn;
  } else {
    options.fail_class("LSTM, GRU or RNN");
  }
  cell.clip = options.take_or("clip", 0.0);
  take_activations(options, config);
}

}  // namespace fastlstm
