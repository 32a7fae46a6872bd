// Model: what Python's SequenceModel.save wrote, loaded to run. A recurrent stack with
// a head, perhaps an embedding in front; whole sequences here, step by step in
// stream.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "fastlstm/export.h"
#include "fastlstm/recurrent.hpp"
#include "fastlstm/stream.hpp"
#include "fastlstm/types.hpp"

namespace fastlstm {

// A file is no whole, consistent model of a known version; the message is one line that
// names the file.
class FASTLSTM_API ModelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Task { classification, regression };

// T is the type of the file's weights: float32 is Model<float>. A model never changes;
// copies share it, and any number of threads may use it at a time.
template <class T>
class FASTLSTM_API Model {
 public:
  // Reads a safetensors file. No size in it is believed before it was checked against
  // the file's, so a model takes no more memory than its file has bytes, give or take a
  // header of 1 MiB at most. Throws ModelError, also for options of later versions.
  static Model load(const std::string& path);
  // The same from memory, which may go away afterwards.
  static Model from_bytes(const void* data, std::size_t size);

  const RecurrentConfig& config() const noexcept;
  Task task() const noexcept;
  bool return_sequences() const noexcept;  // an answer a step, or one after the last
  Index output_size() const noexcept;      // O: classes or values of an answer
  Index num_embeddings() const noexcept;   // 0 where there is no embedding
  const T* embedding() const noexcept;     // (num_embeddings, I) or null
  const LayerArrays<const T>* params() const noexcept;  // L*D, as in ForwardArgs
  Head<T> head() const noexcept;  // of D*H features, D*S with a projection
  // (L*D, ...), as in StreamOptions; null where it is not learned.
  InitialState<T> initial_state() const noexcept;

  // Runs whole sequences from the initial state, on as many threads as help.
  // x: (T, N, I), row-major; read. With an embedding: (T, N) indices of its rows
  // y: (T, N, O) with return_sequences(), else (N, O); written. Logits, where the task
  //    is classification: softmax() of losses.hpp makes probabilities of them
  // Throws std::invalid_argument where x is of the wrong kind, a size is negative, an
  // array is missing or an index has no row; std::bad_alloc, std::length_error.
  void predict(const T* x, Index seq_len, Index batch_size, T* y) const;
  void predict(const std::int64_t* x, Index seq_len, Index batch_size, T* y) const;

  // Streams of this model, each answering at every step, head included. They keep a
  // copy of the weights. Precision and threads are those of StreamOptions. Throws as
  // Stream does.
  Stream<T> stream(Index batch_size = 1, Precision precision = Precision::full,
                   int threads = 1) const;

  struct Body;

 private:
  explicit Model(std::shared_ptr<const Body> body);
  std::shared_ptr<const Body> body_;
};

}  // namespace fastlstm
