// Makes a model of what a safetensors file holds. Called by model.cpp.
#pragma once

#include <vector>

#include "fastlstm/model.hpp"
#include "safetensors.hpp"

namespace fastlstm {

// All weights and what they are for; the pointers point into `arrays`.
template <class T>
struct Model<T>::Body {
  RecurrentConfig config;
  Task task = Task::classification;
  bool return_sequences = false;
  Index num_embeddings = 0;
  const T* embedding = nullptr;
  std::vector<LayerArrays<const T>> params;
  Head<T> head;
  InitialState<T> initial;  // (L*D, ...)
  std::vector<std::vector<T>> arrays;
  mutable BufferPool pool;
  mutable WeightCache<T> cache{true};  // nobody can change the parameters

  // x: (T, N, I) -> y, as in Model::predict
  void run(const T* x, Index seq_len, Index batch_size, T* y) const;
};

// Throws FormatError.
template <class T>
std::shared_ptr<const typename Model<T>::Body> read_model(const ByteSource& source);

}  // namespace fastlstm
