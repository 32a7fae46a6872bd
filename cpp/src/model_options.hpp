// The options of a layer as a model file holds them: the arguments of its constructor
// in Python, each taken once. Called by model_reader.cpp.
#pragma once

#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "fastlstm/recurrent.hpp"
#include "json.hpp"

namespace fastlstm {

constexpr Index kMaxSize = Index{1} << 24;  // that of check_config

// A scalar, or a short list of scalars and lists: activations and zoneout alone.
struct OptionValue {
  JsonScalar scalar;
  bool is_list = false;
  std::vector<OptionValue> list;
};

class Options {
 public:
  // part: what to call it in errors.
  void read(const std::string& part, JsonReader& json);

  bool given() const { return !part_.empty(); }
  const std::string& class_name() const { return class_; }
  bool has(const std::string& key) const { return values_.count(key) > 0; }

  // The value of a key, or `otherwise`; null: the key must be there.
  template <class Value>
  Value take(const std::string& key, const Value* otherwise = nullptr) {
    if (!has(key)) {
      if (otherwise == nullptr) throw FormatError(part_ + " lacks " + key);
      return *otherwise;
    }
    return as<Value>(key, take_value(key));
  }
  template <class Value>
  Value take_or(const std::string& key, Value otherwise) {
    return take<Value>(key, &otherwise);
  }
  Index take_size(const std::string& key);
  // The value of a key that is there, whatever it is.
  OptionValue take_value(const std::string& key);

  // As the C++ type; 1 is a double too.
  template <class Value>
  Value as(const std::string& key, const OptionValue& value) const {
    if constexpr (std::is_same_v<Value, double>) {
      if (const auto* integer = std::get_if<Index>(&value.scalar)) {
        return static_cast<double>(*integer);
      }
    }
    const auto* right = std::get_if<Value>(&value.scalar);
    if (right != nullptr && !value.is_list) return *right;
    fail(key, kind<Value>());
  }

  // Whoever wrote an option that is left over meant something by it.
  void check_all_taken() const;

  [[noreturn]] void fail(const std::string& key, const std::string& wanted) const;
  [[noreturn]] void fail_class(const char* wanted) const;

 private:
  template <class Value>
  static const char* kind() {
    return std::is_same_v<Value, bool>     ? "true or false"
           : std::is_same_v<Value, Index>  ? "an integer"
           : std::is_same_v<Value, double> ? "a number"
                                           : "a string";
  }

  std::string part_;
  std::string class_;
  std::map<std::string, OptionValue> values_;
};

// Takes what makes the cell of an LSTM, GRU or RNN: activations and variants.
void take_cell(Options& options, RecurrentConfig& config);

}  // namespace fastlstm
