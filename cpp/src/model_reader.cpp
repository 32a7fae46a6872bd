// From a safetensors file to a model: version, architecture, then the tensors that the
// architecture asks for, all of them and no others. What this version does not know is
// refused by name. The counterpart in Python is training/saving.py.
#include "model_reader.hpp"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>

#include "arena.hpp"
#include "model_options.hpp"

namespace fastlstm {
namespace {

constexpr std::string_view kVersion = "1";
// The architecture as it stands in the metadata.
struct Description {
  Options embedding, recurrent, head;
  std::string task;
  JsonScalar return_sequences;
};

Description read_description(const std::string& text) {
  Description all;
  Options loss;  // says how the model was trained; here only well-formed
  JsonReader json(text);
  json.object([&](const std::string& key) {
    if (key == "embedding") {
      if (!json.null()) all.embedding.read(key, json);
    } else if (key == "recurrent") {
      all.recurrent.read(key, json);
    } else if (key == "head") {
      all.head.read(key, json);
    } else if (key == "loss") {
      loss.read(key, json);
    } else if (key == "task") {
      all.task = json.string();
    } else if (key == "return_sequences") {
      all.return_sequences = json.scalar();
    } else {
      throw FormatError("config has " + shown(key) +
                        ", which this version does not know");
    }
  });
  json.end();
  if (!all.recurrent.given() || !all.head.given() || !loss.given()) {
    throw FormatError("config must have recurrent, head and loss");
  }
  return all;
}

const std::string& metadata_of(const SafetensorsHeader& header, const char* key) {
  const auto found = header.metadata.find(key);
  if (found == header.metadata.end()) {
    throw FormatError(std::string("not a fastlstm model: its metadata have no ") + key);
  }
  return found->second;
}

const char* dtype_name(std::size_t bytes) { return bytes == 4 ? "float32" : "float64"; }

template <class T>
class ModelReader {
 public:
  explicit ModelReader(const ByteSource& source)
      : source_(source), header_(read_safetensors_header(source)) {}

  std::shared_ptr<const typename Model<T>::Body> read() {
    if (metadata_of(header_, "format") != "fastlstm") {
      throw FormatError("not a fastlstm model: its metadata say another format");
    }
    const std::string& version = metadata_of(header_, "format_version");
    if (version != kVersion) {
      throw FormatError("format version " + shown(version) +
                        " is not known here, only " + shown(kVersion));
    }
    Description all = read_description(metadata_of(header_, "config"));
    read_recurrent(all.recurrent);
    read_head(all.head);
    if (all.embedding.given()) read_embedding(all.embedding);
    read_task(all);
    if (!header_.tensors.empty()) {
      throw FormatError("unexpected tensor " + shown(header_.tensors.begin()->first));
    }
    return body_;
  }

 private:
  void check_dtype(Options& options) {
    const std::string name = options.take_or<std::string>("dtype", "float32");
    if (name != dtype_name(sizeof(T))) {
      throw FormatError("its weights are " + shown(name) + ", but it is read as " +
                        dtype_name(sizeof(T)));
    }
  }

  // Takes a tensor of the file, which must have this shape.
  const std::vector<T>& tensor(const std::string& name,
                               const std::vector<Index>& shape) {
    const auto found = header_.tensors.find(name);
    if (found == header_.tensors.end()) {
      throw FormatError("tensor " + shown(name) + " is missing");
    }
    const TensorEntry entry = std::move(found->second);
    header_.tensors.erase(found);
    if (entry.dtype != (sizeof(T) == 4 ? "F32" : "F64")) {
      throw FormatError("tensor " + shown(name) + " must be " + dtype_name(sizeof(T)) +
                        ", got " + entry.dtype);
    }
    if (entry.shape != shape) {
      std::string wanted;
      for (const Index size : shape) {
        wanted += (wanted.empty() ? "" : ", ") + std::to_string(size);
      }
      throw FormatError("tensor " + shown(name) + " must have shape (" + wanted + ")");
    }
    // As large as its bytes in the file, which the header's check has counted.
    const Index bytes = entry.end - entry.begin;
    std::vector<T>& values =
        body_->arrays.emplace_back(static_cast<std::size_t>(bytes) / sizeof(T));
    source_.read(entry.begin, values.data(), bytes);
    return values;
  }

  void read_recurrent(Options& options) {
    RecurrentConfig& config = body_->config;
    config.input_size = options.take_size("input_size");
    config.hidden_size = options.take_size("hidden_size");
    config.num_layers = options.take_size("num_layers");
    config.bidirectional = options.take<bool>("bidirectional");
    config.dropout = options.take_or("dropout", 0.0);
    config.recurrent_dropout = options.take_or("recurrent_dropout", 0.0);
    const bool bias = options.take_or("bias", true);
    options.take_or("batch_first", false);  // of Python's arrays
    const bool learned = options.take_or("learn_initial_state", false);
    check_dtype(options);
    take_cell(options, config);
    options.check_all_taken();
    try {
      check_config(config);
    } catch (const std::invalid_argument& error) {
      throw FormatError(std::string("recurrent: ") + error.what());
    }
    for (Index layer = 0; layer < config.num_layers; ++layer) {
      for (Index direction = 0; direction < config.directions(); ++direction) {
        read_layer(layer, direction, bias);
      }
    }
    if (!learned) return;
    body_->initial.h = read_initial("h0", config.output_size());
    if (config.cell == CellKind::lstm) {
      body_->initial.c = read_initial("c0", config.hidden_size);
    }
  }

  static std::string suffix(Index layer, Index direction) {
    return "_l" + std::to_string(layer) + (direction == 1 ? "_reverse" : "");
  }

  void read_layer(Index layer, Index direction, bool bias) {
    const RecurrentConfig& config = body_->config;
    const CellOptions& cell = config.options;
    const Index rows = config.gate_rows();
    const Index hidden = config.hidden_size;
    const Index outputs = config.output_size();
    const Index inputs = layer == 0 ? config.input_size : config.directions() * outputs;
    const auto array = [&](const char* name, const std::vector<Index>& shape) {
      return tensor("recurrent." + (name + suffix(layer, direction)), shape).data();
    };
    LayerArrays<const T> params{};
    params.weight_ih = array("weight_ih", {rows, inputs});
    params.weight_hh = array("weight_hh", {rows, outputs});
    if (bias) {
      params.bias = array("bias_ih", {rows});
      const T* bias_hh = array("bias_hh", {rows});
      // The core keeps one bias, the sum; but the GRU's last third of bias_hh stands
      // inside the product with r.
      std::vector<T>& sum = body_->arrays[body_->arrays.size() - 2];
      const Index summed = config.cell == CellKind::gru ? 2 * hidden : rows;
      for (Index i = 0; i < summed; ++i) {
        sum[static_cast<std::size_t>(i)] += bias_hh[i];
      }
      if (config.cell == CellKind::gru) params.bias_hn = bias_hh + summed;
    }
    if (cell.proj_size > 0) params.weight_hr = array("weight_hr", {outputs, hidden});
    if (cell.peepholes) params.weight_peephole = array("weight_peephole", {3 * hidden});
    if (cell.layer_norm) {
      params.gain_ih = array("gain_ih", {rows});
      params.gain_hh = array("gain_hh", {rows});
      params.gain_c = array("gain_c", {hidden});
      if (bias) params.bias_c = array("bias_c", {hidden});
    }
    body_->params.push_back(params);
  }

  // (L*D, units): the rows of all layers and directions, one tensor each.
  const T* read_initial(const char* name, Index units) {
    const RecurrentConfig& config = body_->config;
    std::vector<T> all;
    for (Index layer = 0; layer < config.num_layers; ++layer) {
      for (Index direction = 0; direction < config.directions(); ++direction) {
        const std::vector<T>& row =
            tensor("recurrent." + (name + suffix(layer, direction)), {units});
        all.insert(all.end(), row.begin(), row.end());
        body_->arrays.pop_back();
      }
    }
    return body_->arrays.emplace_back(std::move(all)).data();
  }

  void read_head(Options& options) {
    if (options.class_name() != "Linear") options.fail_class("Linear");
    const RecurrentConfig& config = body_->config;
    const Index features = config.directions() * config.output_size();
    if (options.take_size("in_features") != features) {
      throw FormatError("head.in_features must be D*H = " + std::to_string(features) +
                        ", the features of the recurrent layer");
    }
    Head<T>& head = body_->head;
    head.out_features = options.take_size("out_features");
    const bool bias = options.take_or("bias", true);
    check_dtype(options);
    options.check_all_taken();
    head.weight = tensor("head.weight", {head.out_features, features}).data();
    if (bias) head.bias = tensor("head.bias", {head.out_features}).data();
  }

  void read_embedding(Options& options) {
    if (options.class_name() != "Embedding") options.fail_class("Embedding");
    const Index columns = body_->config.input_size;
    if (options.take_size("embedding_dim") != columns) {
      throw FormatError("embedding.embedding_dim must be input_size = " +
                        std::to_string(columns));
    }
    body_->num_embeddings = options.take_size("num_embeddings");
    check_dtype(options);
    options.check_all_taken();
    body_->embedding =
        tensor("embedding.weight", {body_->num_embeddings, columns}).data();
  }

  void read_task(const Description& all) {
    if (all.task != "classification" && all.task != "regression") {
      throw FormatError("task must be classification or regression, got " +
                        shown(all.task));
    }
    body_->task = all.task == "regression" ? Task::regression : Task::classification;
    const auto* sequences = std::get_if<bool>(&all.return_sequences);
    if (sequences == nullptr) {
      throw FormatError("return_sequences must be true or false");
    }
    body_->return_sequences = *sequences;
  }

  const ByteSource& source_;
  SafetensorsHeader header_;  // the tensors that nobody has taken yet
  std::shared_ptr<typename Model<T>::Body> body_ =
      std::make_shared<typename Model<T>::Body>();
};

}  // namespace

template <class T>
std::shared_ptr<const typename Model<T>::Body> read_model(const ByteSource& source) {
  return ModelReader<T>(source).read();
}

template std::shared_ptr<const Model<float>::Body> read_model<float>(const ByteSource&);
template std::shared_ptr<const Model<double>::Body> read_model<double>(
    const ByteSource&);

}  // namespace fastlstm
