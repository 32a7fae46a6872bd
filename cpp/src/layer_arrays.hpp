// The arrays that each layer must be given, checked where objects are made of them:
// Stream and Trainer.
#pragma once

#include <stdexcept>
#include <string>

#include "fastlstm/recurrent.hpp"

namespace fastlstm {

// params: num_layers, of one direction. Throws std::invalid_argument where one lacks an
// array that the cell needs.
template <class T>
void check_arrays(const RecurrentConfig& config, const LayerArrays<const T>* params) {
  const CellOptions& options = config.options;
  if (params == nullptr) throw std::invalid_argument("params must not be null");
  for (Index i = 0; i < config.num_layers; ++i) {
    const LayerArrays<const T>& given = params[i];
    if (given.weight_ih == nullptr || given.weight_hh == nullptr) {
      throw std::invalid_argument("params of layer " + std::to_string(i) +
                                  " must have weight_ih and weight_hh, got null");
    }
    const bool norm =
        given.gain_ih != nullptr && given.gain_hh != nullptr && given.gain_c != nullptr;
    if ((options.proj_size > 0 && given.weight_hr == nullptr) ||
        (options.peepholes && given.weight_peephole == nullptr) ||
        (options.layer_norm && !norm)) {
      throw std::invalid_argument("params of layer " + std::to_string(i) +
                                  " must have the arrays of the cell's options");
    }
  }
}

}  // namespace fastlstm
