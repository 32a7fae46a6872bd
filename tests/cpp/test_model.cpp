// Model: files as Python writes them, run and refused, and damaged in every byte.
#include <fstream>

#include "model_files.hpp"

using namespace fastlstm;
using namespace fastlstm::testing;

namespace {

template <class T>
Model<T> load(const std::vector<char>& bytes) {
  return Model<T>::from_bytes(bytes.data(), bytes.size());
}

std::string refusal(const ModelFile<float>& file) {
  const std::vector<char> bytes = file.bytes();
  return error_of([&] { load<float>(bytes); });
}

// The refusal of the LSTM's file with a text in its config replaced.
std::string refusal(const std::string& from, const std::string& to) {
  ModelFile<float> file = lstm_file<float>();
  replace(file.config, from, to);
  return refusal(file);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

template <class T>
std::vector<T> sum(std::vector<T> a, const std::vector<T>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

// predict() by hand: the layers of the file over x, then its head.
template <class T>
std::vector<T> by_hand(const ModelFile<T>& file, const RecurrentConfig& config,
                       const std::vector<T>& x, Index steps, Index batch) {
  std::vector<LayerArrays<const T>> params;
  std::vector<std::vector<T>> biases;
  biases.reserve(8);
  for (const std::string end : {"_l0", "_l0_reverse", "_l1", "_l1_reverse"}) {
    const auto array = [&](const std::string& name) -> const std::vector<T>& {
      return file.tensors.at("recurrent." + name + end);
    };
    biases.push_back(sum(array("bias_ih"), array("bias_hh")));
    LayerArrays<const T> layer{};
    layer.weight_ih = array("weight_ih").data();
    layer.weight_hh = array("weight_hh").data();
    layer.bias = biases.back().data();
    params.push_back(layer);
  }
  const Index units = 2 * config.hidden_size;
  std::vector<T> output(static_cast<std::size_t>(steps * batch * units));
  std::vector<T> h_n(static_cast<std::size_t>(2 * units * batch)), c_n(h_n.size());
  ForwardArgs<T> args{};
  args.seq_len = steps;
  args.batch_size = batch;
  args.x = {x.data(), batch * config.input_size, config.input_size};
  args.params = params.data();
  args.output = {output.data(), batch * units, units};
  args.h_n = h_n.data();
  args.c_n = c_n.data();
  BufferPool pool;
  recurrent_forward<T>(config, args, pool, nullptr);
  std::vector<T> y(static_cast<std::size_t>(steps * batch * 2));
  linear_forward<T>({steps * batch, units, 2}, output.data(),
                    file.tensors.at("head.weight").data(),
                    file.tensors.at("head.bias").data(), y.data());
  return y;
}

template <class T>
void check_predicts() {
  constexpr Index kSteps = 5, kBatch = 3;
  const ModelFile<T> file = lstm_file<T>();
  const Model<T> model = load<T>(file.bytes());
  CHECK(model.config().cell == CellKind::lstm);
  CHECK(model.config().num_layers == 2);
  CHECK(model.config().bidirectional);
  CHECK(model.task() == Task::regression);
  CHECK(model.return_sequences());
  CHECK(model.output_size() == 2);
  CHECK(model.num_embeddings() == 0);
  const std::vector<T> x = Random<T>(2).array(kSteps * kBatch * 3);
  std::vector<T> y(kSteps * kBatch * 2);
  model.predict(x.data(), kSteps, kBatch, y.data());
  CHECK(same_bits(y, by_hand(file, model.config(), x, kSteps, kBatch)));

  // The answer after the last step: forward's state from there, backward's from the
  // first step.
  ModelFile<T> last = file;
  replace(last.config, "\"return_sequences\":true", "\"return_sequences\":false");
  std::vector<T> y_last(kBatch * 2);
  load<T>(last.bytes()).predict(x.data(), kSteps, kBatch, y_last.data());
  const std::vector<T> one_step(x.begin(), x.begin() + kBatch * 3);
  std::vector<T> y_one(kBatch * 2);
  load<T>(last.bytes()).predict(one_step.data(), 1, kBatch, y_one.data());
  std::vector<T> y_whole(kBatch * 2);
  model.predict(one_step.data(), 1, kBatch, y_whole.data());
  CHECK(same_bits(y_one, y_whole));
  CHECK(!same_bits(y_one, y_last));
}

}  // namespace

TEST_CASE("model: predicts what its layers do, in both precisions") {
  for_each_isa([] {
    check_predicts<float>();
    check_predicts<double>();
  });
}

TEST_CASE("model: loads from a file, and names it in errors") {
  const TemporaryFolder folder;
  const std::string path = folder.path("model.safetensors");
  const std::vector<char> bytes = lstm_file<float>().bytes();
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  CHECK(Model<float>::load(path).output_size() == 2);
  CHECK(error_of([&] { Model<double>::load(path); }) ==
        path + ": its weights are 'float32', but it is read as float64");
  const std::string nowhere = folder.path("nowhere");
  CHECK(error_of([&] { Model<float>::load(nowhere); }) ==
        nowhere + ": No such file or directory");
}

TEST_CASE("model: wrong calls") {
  const Model<float> model = load<float>(lstm_file<float>().bytes());
  const std::int64_t index = 0;
  const float x = 0;
  float y = 0;
  CHECK(error_of([&] { model.predict(&index, 1, 1, &y); }) ==
        "x must be values: the model has no embedding");
  CHECK(error_of([&] { model.predict(&x, -1, 1, &y); }) ==
        "seq_len must not be negative, got -1");
  const float* const none = nullptr;
  CHECK(error_of([&] { model.predict(none, 2, 1, &y); }) ==
        "x must have 6 values, got null");
  CHECK(error_of([&] { model.predict(&x, 1, 1, nullptr); }) ==
        "y must have 2 values, got null");
  CHECK_NOTHROW(model.predict(none, 1, 0, nullptr));
  CHECK(contains(error_of([&] { model.stream(); }), "a stream runs in one direction"));
  model.predict(&x, 0, 0, &y);  // nothing to do
}

TEST_CASE("model: what this version does not know is refused by name") {
  CHECK(contains(refusal("\"num_layers\":2", "\"num_layers\":2,\"magic\":true"),
                 "recurrent has the option 'magic', which this version does not know"));
  CHECK(contains(refusal("\"out_features\":2", "\"out_features\":2,\"magic\":1"),
                 "head has the option 'magic'"));
  CHECK(contains(refusal("{\"embedding\"", "{\"magic\":[1],\"embedding\""),
                 "config has 'magic', which this version does not know"));
  CHECK(contains(refusal("\"LSTM\"", "\"Magic\""),
                 "recurrent must be LSTM, GRU or RNN, got 'Magic'"));
  CHECK(contains(refusal("\"Linear\"", "\"Magic\""), "head must be Linear"));
  CHECK(contains(refusal("\"cell_activation\":\"tanh\"", "\"cell_activation\":\"sin\""),
                 "unknown activation 'sin'"));
  CHECK(contains(refusal("regression", "ranking"), "task must be classification"));
  ModelFile<float> file = lstm_file<float>();
  file.version = "2";
  CHECK(refusal(file) ==
        "model in memory: format version '2' is not known here, only '1'");
  file.format = "other";
  CHECK(contains(refusal(file), "another format"));
}

TEST_CASE("model: a config that does not fit") {
  CHECK(contains(refusal("\"hidden_size\":2", "\"hidden_size\":3"), "must have shape"));
  CHECK(contains(refusal("\"hidden_size\":2", "\"hidden_size\":16777217"),
                 "must be from 1 to 16777216"));
  CHECK(contains(refusal("\"hidden_size\":2", "\"hidden_size\":16777216"),
                 "must have shape (67108864, 3)"));
  CHECK(contains(refusal("\"hidden_size\":2", "\"hidden_size\":0"), "from 1 to"));
  CHECK(contains(refusal("\"hidden_size\":2", "\"hidden_size\":2.0"), "an integer"));
  CHECK(contains(refusal("\"hidden_size\":2", "\"hidden_size\":[2]"), "'hidden_size'"));
  CHECK(contains(refusal("\"hidden_size\":2,", ""), "lacks hidden_size"));
  CHECK(contains(refusal("\"num_layers\":2", "\"num_layers\":16777216"),
                 "tensor 'recurrent.weight_ih_l2' is missing"));
  CHECK(contains(refusal("\"num_layers\":2", "\"num_layers\":1"),
                 "unexpected tensor 'recurrent."));
  CHECK(contains(refusal("\"in_features\":4", "\"in_features\":2"), "D*H = 4"));
  CHECK(contains(refusal("\"dropout\":0.5", "\"dropout\":1.5"), "dropout must be"));
  CHECK(contains(refusal("\"return_sequences\":true", "\"return_sequences\":1"),
                 "return_sequences must be"));
  CHECK(contains(refusal(",\"loss\":{\"class\":\"MSE\",\"config\":{}}", ""),
                 "must have recurrent, head and loss"));
  CHECK(contains(
      refusal("{\"embedding\":null", "{\"embedding\":{\"class\":\"Embedding\"}"),
      "embedding must have class and config"));
  ModelFile<float> file = lstm_file<float>();
  file.tensors.erase("head.bias");
  CHECK(contains(refusal(file), "tensor 'head.bias' is missing"));
  file = lstm_file<float>();
  file.add("extra", {1}, {0.0f});
  CHECK(contains(refusal(file), "unexpected tensor 'extra'"));
  std::string header = lstm_file<float>().header();
  replace(header, "F32\",\"shape\":[2]", "I32\",\"shape\":[2]");
  const std::vector<char> bytes = file_of(header, lstm_file<float>().data());
  CHECK(contains(error_of([&] { load<float>(bytes); }),
                 "tensor 'head.bias' must be float32, got I32"));
}

// Every damaged file is either refused or, where a weight or a name that nobody reads
// was hit, loads; sanitizers see to the rest.
TEST_CASE("model: every bit of the header damaged, and every cut") {
  const std::vector<char> good = lstm_file<float>().bytes();
  const std::size_t header = lstm_file<float>().header().size() + 8;
  int refused = 0;
  const auto attempt = [&](const std::vector<char>& bytes) {
    const std::string error = error_of([&] { load<float>(bytes); });
    CHECK(error.find('\n') == error.npos);
    refused += error != "";
    return error;
  };
  for (std::size_t at = 0; at < header; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::vector<char> bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      attempt(bytes);
    }
  }
  CHECK(refused > static_cast<int>(header) * 7);
  for (std::size_t size = 0; size < good.size(); ++size) {
    CHECK(attempt({good.begin(), good.begin() + static_cast<Index>(size)}) != "");
  }
}

TEST_CASE("model: random damage") {
  const std::vector<char> good = lstm_file<float>().bytes();
  const std::size_t header = lstm_file<float>().header().size() + 8;
  const std::string alphabet = "\"{}[],:0123456789-.eE\\u tfn\x80\xFF";
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    std::vector<char> bytes = good;
    for (std::uint64_t edits = random() % 4 + 1; edits > 0; --edits) {
      const auto at = static_cast<Index>(random() % header);
      const char c = alphabet[random() % alphabet.size()];
      switch (random() % 4) {
        case 0:
          bytes[static_cast<std::size_t>(at)] = c;
          break;
        case 1:
          bytes.insert(bytes.begin() + at, c);
          break;
        case 2:
          bytes.erase(bytes.begin() + at);
          break;
        default: {  // a piece once more
          const std::vector<char> piece(
              bytes.begin() + at,
              bytes.begin() + at + static_cast<Index>(random() % 40));
          bytes.insert(bytes.begin() + static_cast<Index>(random() % header),
                       piece.begin(), piece.end());
        }
      }
    }
    const std::uint64_t length = header - 8 + bytes.size() - good.size();
    if (round % 2 == 0) std::memcpy(bytes.data(), &length, sizeof(length));
    const std::string error = error_of([&] { load<float>(bytes); });
    CHECK(error.find('\n') == error.npos);
  }
}
