// Cells that differ from the plain ones, between them with every option, for the tests
// of the general path and of streams.
#pragma once

#include "recurrent_problem.hpp"

namespace fastlstm::testing {

// A set of options that has every smooth part of an LSTM's general path in it.
inline RecurrentConfig lstm_variant(Index input_size, Index hidden_size) {
  RecurrentConfig config = make_config(CellKind::lstm, input_size, hidden_size);
  config.options.peepholes = true;
  config.options.layer_norm = true;
  config.options.proj_size = hidden_size > 1 ? hidden_size - 1 : 0;
  config.options.zoneout_h = 0.3;
  config.options.zoneout_c = 0.2;
  config.options.own_activations = true;
  config.options.activations[0] = {{Activation::scaled_tanh, 0.8, 1.2},
                                   {Activation::softsign, 0, 0},
                                   {Activation::softplus, 0, 0}};
  config.options.activations[1].cell = {Activation::elu, 0.7, 0};
  return config;
}

// All with a clip that lets through what small numbers make.
inline std::vector<RecurrentConfig> variants(Index input_size, Index hidden_size) {
  std::vector<RecurrentConfig> all = {lstm_variant(input_size, hidden_size)};
  RecurrentConfig config = make_config(CellKind::lstm, input_size, hidden_size);
  config.options.coupled = true;
  config.options.clip = 50;
  config.options.cell_clip = 50;
  all.push_back(config);
  for (const bool reset_after : {false, true}) {
    config = make_config(CellKind::gru, input_size, hidden_size);
    config.options.reset_after = reset_after;
    config.options.clip = 50;
    all.push_back(config);
  }
  config = make_config(CellKind::rnn, input_size, hidden_size);
  config.options.own_activations = true;
  config.options.activations[0].cell = {Activation::softsign, 0, 0};
  all.push_back(config);
  return all;
}

}  // namespace fastlstm::testing
