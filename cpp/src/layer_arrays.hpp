// The arrays of the layers of a stack: all of them in turn, and whether a layer has
// what its cell needs, which is checked where objects are made of them: Stream and
// Trainer.
#pragma once

#include <stdexcept>
#include <string>

#include "fastlstm/recurrent.hpp"

namespace fastlstm {

// Calls body(data, count) for every array there is, of all layers and directions.
template <class Value, class Body>
void for_each_array(const RecurrentConfig& config, const LayerArrays<Value>* arrays,
                    const Body& body) {
  const auto visit = [&](Value* data, Index count) {
    if (data != nullptr) body(data, count);
  };
  const Index rows = config.gate_rows();
  for (Index i = 0; i < config.num_layers * config.directions(); ++i) {
    const LayerArrays<Value>& layer = arrays[i];
    const Index input_size = i < config.directions()
                                 ? config.input_size
                                 : config.directions() * config.output_size();
    visit(layer.weight_ih, rows * input_size);
    visit(layer.weight_hh, rows * config.output_size());
    visit(layer.bias, rows);
    visit(layer.bias_hn, config.hidden_size);
    visit(layer.weight_hr, config.output_size() * config.hidden_size);
    visit(layer.weight_peephole, 3 * config.hidden_size);
    visit(layer.gain_ih, rows);
    visit(layer.gain_hh, rows);
    visit(layer.gain_c, config.hidden_size);
    visit(layer.bias_c, config.hidden_size);
  }
}

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
