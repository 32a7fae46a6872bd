// A recurrent network with random parameters, input and output weights, for the tests
// of the public API: runs forward, and backward of loss = <w, (output, h_n, c_n)>.
#pragma once

#include "support.hpp"

namespace fastlstm::testing {

inline RecurrentConfig make_config(CellKind cell, Index input_size, Index hidden_size) {
  RecurrentConfig config;
  config.cell = cell;
  config.input_size = input_size;
  config.hidden_size = hidden_size;
  return config;
}

// What a forward pass gives.
template <class T>
struct Outcome {
  std::vector<T> output, h_n, c_n;
  bool operator==(const Outcome& other) const {
    return same_bits(output, other.output) && same_bits(h_n, other.h_n) &&
           same_bits(c_n, other.c_n);
  }
};

// Arrays of one layer and direction, in the order of LayerArrays; empty ones are null.
template <class T>
using LayerValues = std::vector<std::vector<T>>;

// As LayerArrays<Value>, of values that are const where Value is.
template <class Value, class Values>
LayerArrays<Value> layer_arrays(Values& layer) {
  LayerArrays<Value> arrays;
  Value** const members[] = {
      &arrays.weight_ih, &arrays.weight_hh,       &arrays.bias,    &arrays.bias_hn,
      &arrays.weight_hr, &arrays.weight_peephole, &arrays.gain_ih, &arrays.gain_hh,
      &arrays.gain_c,    &arrays.bias_c};
  for (std::size_t i = 0; i < layer.size(); ++i) {
    *members[i] = layer[i].empty() ? nullptr : layer[i].data();
  }
  return arrays;
}

template <class T>
struct Gradients {
  std::vector<LayerValues<T>> layers;
  std::vector<T> x, h0, c0;
  std::vector<T> flat() const {
    std::vector<T> all;
    const auto append = [&](const std::vector<T>& part) {
      all.insert(all.end(), part.begin(), part.end());
    };
    for (const LayerValues<T>& layer : layers) {
      for (const std::vector<T>& part : layer) append(part);
    }
    append(x);
    append(h0);
    append(c0);
    return all;
  }
};

template <class T>
class Problem {
 public:
  RecurrentConfig config;
  Index seq_len, batch_size;
  std::vector<LayerValues<T>> params;
  std::vector<T> x, h0, c0;                          // (T, N, I), (L*D, N, H)
  std::vector<T> output_weight, h_weight, c_weight;  // of the loss
  std::uint64_t dropout_seed = 11;
  StepMarks marks{};
  Index checkpoint_every = 0;
  WeightCache<T>* cache = nullptr;
  bool check_params = true;
  bool starts_from_zeros = false;  // without h0 and c0
  bool overwrites = false;         // backward: gradients that hold something else
  bool batch_first_d_x = false;    // backward: d_x is (N, T, I)

  Problem(const RecurrentConfig& of, Index steps, Index batch, std::uint64_t seed = 1)
      : config(of), seq_len(steps), batch_size(batch) {
    Random<double> random(seed);
    const auto array = [&](Index size, double scale) {
      std::vector<T> values;
      for (Index i = 0; i < size; ++i)
        values.push_back(static_cast<T>(scale * random.next()));
      return values;
    };
    const double scale = 1 / std::sqrt(static_cast<double>(config.hidden_size));
    for (Index i = 0; i < layers(); ++i) {
      const Index inputs = i < config.directions() ? config.input_size : units();
      const CellOptions& o = config.options;
      const Index hidden = config.hidden_size;
      const Index norm = o.layer_norm ? 1 : 0;
      params.push_back({array(config.gate_rows() * inputs, scale),
                        array(config.gate_rows() * config.output_size(), scale),
                        array(config.gate_rows(), scale),
                        array(config.cell == CellKind::gru ? hidden : 0, scale),
                        array(o.proj_size * hidden, scale),
                        array(o.peepholes ? 3 * hidden : 0, scale),
                        array(norm * config.gate_rows(), 1),
                        array(norm * config.gate_rows(), 1), array(norm * hidden, 1),
                        array(norm * hidden, scale)});
    }
    const bool lstm = config.cell == CellKind::lstm;
    const Index state = layers() * batch * config.output_size();
    const Index c_state = lstm ? layers() * batch * config.hidden_size : 0;
    x = array(steps * batch * config.input_size, 1);
    h0 = array(state, 1);
    c0 = array(c_state, 1);
    output_weight = array(steps * batch * units(), 1);
    h_weight = array(state, 1);
    c_weight = array(c_state, 1);
  }

  Index layers() const { return config.num_layers * config.directions(); }
  Index units() const { return config.directions() * config.output_size(); }

  // The result lives as long as `outcome`; a tape borrows from it and from this.
  void forward(Outcome<T>& outcome, BufferPool& pool, Tape<T>* tape) const {
    outcome.output.assign(output_weight.size(), T(0));
    outcome.h_n.assign(h0.size(), T(0));
    outcome.c_n.assign(c0.size(), T(0));
    const std::vector<LayerArrays<const T>> arrays = parameter_arrays();
    ForwardArgs<T> args{};
    args.seq_len = seq_len;
    args.batch_size = batch_size;
    args.x = {x.data(), batch_size * config.input_size, config.input_size};
    args.h0 = starts_from_zeros ? nullptr : h0.data();
    args.c0 = starts_from_zeros || c0.empty() ? nullptr : c0.data();
    args.params = arrays.data();
    args.output = {outcome.output.data(), batch_size * units(), units()};
    args.h_n = outcome.h_n.data();
    args.c_n = outcome.c_n.empty() ? nullptr : outcome.c_n.data();
    args.dropout_seed = dropout_seed;
    args.marks = marks;
    args.checkpoint_every = checkpoint_every;
    args.cache = cache;
    args.check_params = check_params;
    recurrent_forward(config, args, pool, tape);
  }

  Outcome<T> infer() const {
    BufferPool pool;
    Outcome<T> outcome;
    forward(outcome, pool, nullptr);
    return outcome;
  }

  Gradients<T> backward(BufferPool& pool, Tape<T>& tape) const {
    Gradients<T> d;
    d.layers = params;
    for (LayerValues<T>& layer : d.layers) {
      for (std::vector<T>& part : layer) {
        std::fill(part.begin(), part.end(), T(overwrites ? 7 : 0));
      }
    }
    d.x.assign(x.size(), T(0));
    d.h0.assign(h0.size(), T(0));
    d.c0.assign(c0.size(), T(0));
    std::vector<LayerArrays<T>> grads;
    for (LayerValues<T>& layer : d.layers) {
      grads.push_back(layer_arrays<T>(layer));
    }
    const std::vector<LayerArrays<const T>> arrays = parameter_arrays();
    BackwardArgs<T> args{};
    args.d_output = {output_weight.data(), batch_size * units(), units()};
    args.d_h_n = h_weight.data();
    args.d_c_n = c_weight.empty() ? nullptr : c_weight.data();
    args.params = arrays.data();
    args.grads = grads.data();
    const Index inputs = config.input_size;
    args.d_x = {d.x.data(), batch_first_d_x ? inputs : batch_size * inputs,
                batch_first_d_x ? seq_len * inputs : inputs};
    args.d_h0 = d.h0.data();
    args.d_c0 = d.c0.empty() ? nullptr : d.c0.data();
    args.accumulate = !overwrites;
    recurrent_backward(args, pool, tape);
    return d;
  }

  Gradients<T> gradients() const {
    BufferPool pool;
    Outcome<T> outcome;
    Tape<T> tape;
    forward(outcome, pool, &tape);
    return backward(pool, tape);
  }

  // With a tape, so that dropout is in force.
  double loss() const {
    BufferPool pool;
    Outcome<T> outcome;
    Tape<T> tape;
    forward(outcome, pool, &tape);
    return dot(outcome.output, output_weight) + dot(outcome.h_n, h_weight) +
           dot(outcome.c_n, c_weight);
  }

  // Every array that the loss depends on, in the order of Gradients::flat().
  std::vector<std::vector<T>*> inputs() {
    std::vector<std::vector<T>*> all;
    for (LayerValues<T>& layer : params) {
      for (std::vector<T>& part : layer) all.push_back(&part);
    }
    all.insert(all.end(), {&x, &h0, &c0});
    return all;
  }

  std::vector<LayerArrays<const T>> parameter_arrays() const {
    std::vector<LayerArrays<const T>> arrays;
    for (const LayerValues<T>& layer : params) {
      arrays.push_back(layer_arrays<const T>(layer));
    }
    return arrays;
  }

 private:
  static double dot(const std::vector<T>& a, const std::vector<T>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    return sum;
  }
};

// For the inputs in their order. The truncation error is about kStep^2, the rounding
// error about 1e-16 / kStep.
inline std::vector<double> central_differences(Problem<double> problem) {
  constexpr double kStep = 1e-5;
  std::vector<double> differences;
  for (std::vector<double>* part : problem.inputs()) {
    for (double& value : *part) {
      const double kept = value;
      value = kept + kStep;
      const double above = problem.loss();
      value = kept - kStep;
      differences.push_back((above - problem.loss()) / (2 * kStep));
      value = kept;
    }
  }
  return differences;
}

}  // namespace fastlstm::testing
