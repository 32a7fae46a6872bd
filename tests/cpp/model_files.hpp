// Model files made in memory, as training/saving.py writes them, for the tests of the
// reader: a description that tests may change, then the bytes.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <map>

#include "support.hpp"

namespace fastlstm::testing {

// A folder of its own, removed with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = std::filesystem::temp_directory_path() / "fastlstm-XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    folder_ = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(folder_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path(const std::string& name) const { return folder_ / name; }

 private:
  std::filesystem::path folder_;
};

inline void replace(std::string& text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE_MESSAGE(at != std::string::npos, from);
  text.replace(at, from.size(), to);
}

// The text as it stands within a JSON string.
inline std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

inline std::vector<char> file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  const std::string prefix(reinterpret_cast<const char*>(&length), sizeof(length));
  const std::string all = prefix + header + data;
  return {all.begin(), all.end()};
}

template <class T>
class ModelFile {
 public:
  std::string version = "1";
  std::string format = "fastlstm";
  std::string config;
  std::map<std::string, std::vector<T>> tensors;

  void add(const std::string& name, const std::vector<Index>& shape,
           const std::vector<T>& values) {
    std::string text;
    for (const Index size : shape) {
      text += (text.empty() ? "" : ",") + std::to_string(size);
    }
    shapes_[name] = "[" + text + "]";
    tensors[name] = values;
  }

  std::string header() const {
    std::string text = "{\"__metadata__\":{\"format\":" + quoted(format) +
                       ",\"format_version\":" + quoted(version) +
                       ",\"config\":" + quoted(config) + ",\"training\":\"{}\"}";
    std::size_t position = 0;
    for (const auto& [name, values] : tensors) {
      const std::size_t end = position + values.size() * sizeof(T);
      text += "," + quoted(name) +
              ":{\"dtype\":" + (sizeof(T) == 4 ? "\"F32\"" : "\"F64\"") +
              ",\"shape\":" + shapes_.at(name) + ",\"data_offsets\":[" +
              std::to_string(position) + "," + std::to_string(end) + "]}";
      position = end;
    }
    return text + "}";
  }

  std::string data() const {
    std::string bytes;
    for (const auto& [name, values] : tensors) {
      bytes.append(reinterpret_cast<const char*>(values.data()),
                   values.size() * sizeof(T));
    }
    return bytes;
  }

  std::vector<char> bytes() const { return file_of(header(), data()); }

 private:
  std::map<std::string, std::string> shapes_;
};

// {"class": ..., "config": ...}
inline std::string part(const std::string& name, const std::string& config) {
  return "{\"class\":\"" + name + "\",\"config\":{" + config + "}}";
}

// Two layers in two directions, head with bias: I = 3, H = 2, O = 2.
template <class T>
ModelFile<T> lstm_file() {
  constexpr Index kInputs = 3, kUnits = 2, kOutputs = 2;
  const std::string dtype =
      std::string("\"dtype\":\"") + (sizeof(T) == 4 ? "float32\"" : "float64\"");
  ModelFile<T> file;
  file.config =
      "{\"embedding\":null,\"recurrent\":" +
      part("LSTM",
           "\"input_size\":3,\"hidden_size\":2,\"num_layers\":2,\"bias\":true,"
           "\"batch_first\":false,\"dropout\":0.5,\"bidirectional\":true," +
               dtype + ",\"cell_activation\":\"tanh\",\"output_activation\":\"tanh\"") +
      ",\"head\":" +
      part("Linear", "\"in_features\":4,\"out_features\":2,\"bias\":true," + dtype) +
      ",\"task\":\"regression\",\"return_sequences\":true,\"loss\":" + part("MSE", "") +
      "}";
  Random<T> random(1);
  const auto add = [&](const std::string& name, const std::vector<Index>& shape) {
    Index count = 1;
    for (const Index size : shape) count *= size;
    file.add(name, shape, random.array(count));
  };
  for (const std::string end : {"_l0", "_l0_reverse", "_l1", "_l1_reverse"}) {
    add("recurrent.weight_ih" + end,
        {4 * kUnits, end[2] == '0' ? kInputs : 2 * kUnits});
    add("recurrent.weight_hh" + end, {4 * kUnits, kUnits});
    add("recurrent.bias_ih" + end, {4 * kUnits});
    add("recurrent.bias_hh" + end, {4 * kUnits});
  }
  add("head.weight", {kOutputs, 2 * kUnits});
  add("head.bias", {kOutputs});
  return file;
}

}  // namespace fastlstm::testing
