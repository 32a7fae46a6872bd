// What the training bindings need of a recurrent layer, whose class is recurrent.cpp's.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "fastlstm/recurrent.hpp"

namespace fastlstm::bindings {

// Lets one training call at a time into a layer; a second one raises.
class TrainingGuard {
 public:
  explicit TrainingGuard(std::atomic<bool>* flag) : flag_(flag) {
    if (flag_ != nullptr && flag_->exchange(true)) {
      flag_ = nullptr;
      throw std::runtime_error("this layer is being trained by another thread");
    }
  }
  ~TrainingGuard() {
    if (flag_ != nullptr) flag_->store(false);
  }
  TrainingGuard(TrainingGuard&& other) noexcept : flag_(other.flag_) {
    other.flag_ = nullptr;
  }
  TrainingGuard(const TrainingGuard&) = delete;
  TrainingGuard& operator=(const TrainingGuard&) = delete;
  TrainingGuard& operator=(TrainingGuard&&) = delete;

 private:
  std::atomic<bool>* flag_;
};

// Pointers live as long as the layer and the arrays.
template <class T>
struct LayerAccess {
  RecurrentConfig config;
  std::vector<LayerArrays<const T>> params;
  std::vector<LayerArrays<T>> grads;
  BufferPool* pool;
  std::atomic<bool>* training;
};

// layer: RecurrentFloat32 or RecurrentFloat64; params and grads: its arrays in order.
template <class T>
LayerAccess<T> access_layer(pybind11::handle layer, const pybind11::sequence& params,
                            const pybind11::sequence& grads);

}  // namespace fastlstm::bindings
