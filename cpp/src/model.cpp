// Model: loading, with the file named in errors, and whole sequences; see model.hpp.
#include "fastlstm/model.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "arena.hpp"
#include "fastlstm/linear.hpp"
#include "fastlstm/losses.hpp"
#include "json.hpp"
#include "model_reader.hpp"

namespace fastlstm {
namespace {

// check(): throws FormatError without the name of the file.
template <class Check>
auto named(const std::string& name, const Check& check) {
  try {
    return check();
  } catch (const FormatError& error) {
    throw ModelError(name + ": " + error.what());
  }
}

void check_size(const char* name, Index size) {
  if (size >= 0) return;
  throw std::invalid_argument(std::string(name) + " must not be negative, got " +
                              std::to_string(size));
}

template <class Value>
void check_array(const char* name, const Value* array, Index size) {
  if (array != nullptr || size == 0) return;
  throw std::invalid_argument(std::string(name) + " must have " + std::to_string(size) +
                              " values, got null");
}

// The state after the last step of both directions side by side, as the head takes it.
// h_n: (L*D, N, H) -> (N, D*H)
template <class T>
void join_directions(const RecurrentConfig& config, Index batch_size, const T* h_n,
                     T* features) {
  const Index units = config.output_size();
  const Index directions = config.directions();
  for (Index d = 0; d < directions; ++d) {
    const T* h = h_n + ((config.num_layers - 1) * directions + d) * batch_size * units;
    for (Index n = 0; n < batch_size; ++n) {
      std::copy_n(h + n * units, units, features + (n * directions + d) * units);
    }
  }
}

// (layers, units) -> (layers, N, units); null stays null.
template <class T>
const T* repeated(const T* rows, Index layers, Index batch_size, Index units, T* all) {
  if (rows == nullptr) return nullptr;
  for (Index i = 0; i < layers * batch_size; ++i) {
    std::copy_n(rows + i / batch_size * units, units, all + i * units);
  }
  return all;
}

}  // namespace

template <class T>
Model<T>::Model(std::shared_ptr<const Body> body) : body_(std::move(body)) {}

template <class T>
Model<T> Model<T>::load(const std::string& path) {
  return Model(named(path, [&] { return read_model<T>(open_file(path)); }));
}

template <class T>
Model<T> Model<T>::from_bytes(const void* data, std::size_t size) {
  check_array("data", static_cast<const char*>(data), static_cast<Index>(size));
  return Model(named("model in memory", [&] {
    return read_model<T>(open_memory(data, static_cast<Index>(size)));
  }));
}

template <class T>
const RecurrentConfig& Model<T>::config() const noexcept {
  return body_->config;
}

template <class T>
Task Model<T>::task() const noexcept {
  return body_->task;
}

template <class T>
bool Model<T>::return_sequences() const noexcept {
  return body_->return_sequences;
}

template <class T>
Index Model<T>::output_size() const noexcept {
  return body_->head.out_features;
}

template <class T>
Index Model<T>::num_embeddings() const noexcept {
  return body_->num_embeddings;
}

template <class T>
const T* Model<T>::embedding() const noexcept {
  return body_->embedding;
}

template <class T>
const LayerArrays<const T>* Model<T>::params() const noexcept {
  return body_->params.data();
}

template <class T>
Head<T> Model<T>::head() const noexcept {
  return body_->head;
}

template <class T>
InitialState<T> Model<T>::initial_state() const noexcept {
  return body_->initial;
}

template <class T>
void Model<T>::predict(const std::int64_t* x, Index seq_len, Index batch_size,
                       T* y) const {
  check_size("seq_len", seq_len);
  check_size("batch_size", batch_size);
  const Index rows = body_->num_embeddings;
  if (rows == 0) {
    throw std::invalid_argument("x must be values: the model has no embedding");
  }
  const Index steps = checked_product(seq_len, batch_size);
  check_array("x", x, steps);
  const Index bad = find_bad_label({steps, rows}, x, nullptr);
  if (bad >= 0) {
    throw std::invalid_argument("indices must be in 0.." + std::to_string(rows - 1) +
                                ", got " + std::to_string(x[bad]));
  }
  const Index columns = body_->config.input_size;
  const Index bytes = checked_product(checked_product(steps, columns), sizeof(T));
  const Buffer vectors = body_->pool.acquire(static_cast<std::size_t>(bytes));
  for (Index i = 0; i < steps; ++i) {
    std::copy_n(body_->embedding + x[i] * columns, columns,
                vectors.as<T>() + i * columns);
  }
  body_->run(vectors.as<T>(), seq_len, batch_size, y);
}

template <class T>
void Model<T>::predict(const T* x, Index seq_len, Index batch_size, T* y) const {
  check_size("seq_len", seq_len);
  check_size("batch_size", batch_size);
  if (body_->num_embeddings > 0) {
    throw std::invalid_argument("x must be indices: the model has an embedding");
  }
  const Index steps = checked_product(seq_len, batch_size);
  check_array("x", x, checked_product(steps, body_->config.input_size));
  body_->run(x, seq_len, batch_size, y);
}

template <class T>
void Model<T>::Body::run(const T* x, Index seq_len, Index batch_size, T* y) const {
  const Index units = config.directions() * config.output_size();
  const Index layers = config.num_layers * config.directions();
  const Index steps = checked_product(seq_len, batch_size);
  check_array(
      "y", y,
      checked_product(return_sequences ? steps : batch_size, head.out_features));
  const Index h_size = checked_product(layers * config.output_size(), batch_size);
  const Index c_size = checked_product(layers * config.hidden_size, batch_size);
  T *output = nullptr, *h_n = nullptr, *c_n = nullptr, *features = nullptr;
  T *h0 = nullptr, *c0 = nullptr;
  const Buffer memory = acquire_pieces(pool, [&](Arena& arena) {
    output = arena.take<T>(checked_product(steps, units));
    h_n = arena.take<T>(h_size);
    c_n = arena.take<T>(c_size);
    h0 = arena.take<T>(initial.h != nullptr ? h_size : 0);
    c0 = arena.take<T>(initial.c != nullptr ? c_size : 0);
    features = arena.take<T>(batch_size * units);
  });
  ForwardArgs<T> args{};
  args.seq_len = seq_len;
  args.batch_size = batch_size;
  args.x = {x, batch_size * config.input_size, config.input_size};
  args.params = params.data();
  args.h0 = repeated(initial.h, layers, batch_size, config.output_size(), h0);
  args.c0 = repeated(initial.c, layers, batch_size, config.hidden_size, c0);
  args.output = {output, batch_size * units, units};
  args.h_n = h_n;
  args.c_n = c_n;
  args.cache = &cache;
  recurrent_forward<T>(config, args, pool, nullptr);
  if (!return_sequences) join_directions(config, batch_size, h_n, features);
  linear_forward<T>({return_sequences ? steps : batch_size, units, head.out_features},
                    return_sequences ? output : features, head.weight, head.bias, y);
}

template <class T>
Stream<T> Model<T>::stream(Index batch_size, Precision precision, int threads) const {
  if (body_->num_embeddings > 0) {
    throw std::invalid_argument(
        "a stream takes vectors, and this model begins with an embedding: make a "
        "Stream of params() and head(), and look rows up in embedding()");
  }
  StreamOptions<T> options;
  options.batch_size = batch_size;
  options.precision = precision;
  options.threads = threads;
  options.head = body_->head;
  options.initial = body_->initial;
  return Stream<T>(body_->config, body_->params.data(), options);
}

template class Model<float>;
template class Model<double>;

}  // namespace fastlstm
