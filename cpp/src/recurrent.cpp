// Stacks of layers: layer by layer over all time steps, both directions of each.
#include "fastlstm/recurrent.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "checkpoints.hpp"
#include "general.hpp"
#include "layer_arrays.hpp"
#include "packed_call.hpp"
#include "stack.hpp"
#include "weight_cache.hpp"

namespace fastlstm {
namespace {

void check_positive(const char* name, Index value) {
  if (value < 1 || value > (Index{1} << 24)) {
    throw std::invalid_argument(std::string(name) +
                                " must be an integer from 1 to 16777216, got " +
                                std::to_string(value));
  }
}

void check_probability(const char* name, double value) {
  if (!(value >= 0.0 && value <= 1.0)) {
    throw std::invalid_argument(std::string(name) +
                                " must be a probability from 0 to 1, got " +
                                std::to_string(value));
  }
}

void check_options(const RecurrentConfig& config) {
  const CellOptions& o = config.options;
  for (const auto& [name, value] :
       {std::pair<const char*, double>{"clip", o.clip}, {"cell_clip", o.cell_clip}}) {
    if (!(value >= 0.0) || std::isinf(value)) {
      throw std::invalid_argument(std::string(name) +
                                  " must be positive, or 0 for none, got " +
                                  std::to_string(value));
    }
  }
  check_probability("zoneout_h", o.zoneout_h);
  check_probability("zoneout_c", o.zoneout_c);
  if (o.proj_size < 0 || o.proj_size >= config.hidden_size) {
    throw std::invalid_argument("proj_size must be from 0 to hidden_size - 1 = " +
                                std::to_string(config.hidden_size - 1) + ", got " +
                                std::to_string(o.proj_size));
  }
  const bool lstm_only = o.peepholes || o.coupled || o.layer_norm || o.cell_clip > 0 ||
                         o.zoneout_h > 0 || o.zoneout_c > 0 || o.proj_size > 0;
  if (lstm_only && config.cell != CellKind::lstm) {
    throw std::invalid_argument(
        "peepholes, coupled, layer_norm, cell_clip, zoneout and proj_size need an "
        "LSTM");
  }
  if (!o.reset_after && config.cell != CellKind::gru) {
    throw std::invalid_argument("reset_after=false needs a GRU");
  }
}

// Of the parameters that backward reads again.
template <class T>
std::uint64_t checksum_to_check(const RecurrentConfig& config, bool keeps_weights,
                                const LayerArrays<const T>* params, int max_threads) {
  std::vector<LayerArrays<const T>> read(
      params, params + config.num_layers * config.directions());
  for (LayerArrays<const T>& layer : read) {
    if (keeps_weights) layer.weight_hh = nullptr;
  }
  return parameter_checksum<T>(config, read.data(), max_threads);
}

template <class T>
void begin_tape(const RecurrentConfig& config, const ForwardArgs<T>& args,
                bool keeps_weights, BufferPool& pool, Tape<T>& tape) {
  const Index layers = config.num_layers * config.directions();
  const Index h_state = layers * args.batch_size * config.output_size();
  const Index c_state = layers * args.batch_size * config.hidden_size;
  tape.config = config;
  tape.seq_len = args.seq_len;
  tape.batch_size = args.batch_size;
  tape.x = args.x;
  if (args.checkpoint_every == 0) tape.output = read_only(args.output);
  tape.has_state = args.h0 != nullptr;
  tape.dropout_seed = args.dropout_seed;
  tape.parameter_checksum.reset();
  if (args.check_params) {
    tape.parameter_checksum =
        checksum_to_check(config, keeps_weights, args.params, args.max_threads);
  }
  // No longer than the sequence, so that sums with it are small.
  tape.checkpoint_every =
      std::min(args.checkpoint_every, std::max<Index>(1, args.seq_len));
  tape.width = kernels<T>().width;
  tape.used = false;
  tape.record_cuts.assign(static_cast<std::size_t>(layers), {});
  if (tape.has_state) {
    tape.state = take<T>(pool, h_state + c_state);
    T* kept = tape.state.template as<T>();
    std::memcpy(kept, args.h0, static_cast<std::size_t>(h_state) * sizeof(T));
    if (args.c0 != nullptr) {
      std::memcpy(kept + h_state, args.c0,
                  static_cast<std::size_t>(c_state) * sizeof(T));
    }
  }
}

}  // namespace

void check_config(const RecurrentConfig& config) {
  check_positive("input_size", config.input_size);
  check_positive("hidden_size", config.hidden_size);
  check_positive("num_layers", config.num_layers);
  check_probability("dropout", config.dropout);
  check_probability("recurrent_dropout", config.recurrent_dropout);
  check_options(config);
}

namespace {

// All layers over arrays whose rows are as `rows` says.
template <class T>
void forward_layers(const RecurrentConfig& config, const ForwardArgs<T>& args,
                    const RowOrder& order, BufferPool& pool, Tape<T>* tape) {
  const SequenceRows rows = rows_of(order, args.batch_size);
  // All layers and directions do, or none.
  const bool keeps_weights =
      tape != nullptr && args.checkpoint_every == 0 &&
      reads_panels(make_plan<T>(config, 0, false, rows), rows.seq_len);
  if (tape != nullptr) {
    begin_tape(config, args, keeps_weights, pool, *tape);
    if (tape->checkpoint_every > 0) return checkpointed_forward(args, pool, *tape);
  }
  const Index directions = config.directions();
  const Index units = directions * config.output_size();
  const Index steps = rows.total();
  const Index h_state = args.batch_size * config.output_size();
  const Index c_state = args.batch_size * config.hidden_size;
  const bool caches = tape == nullptr && args.cache != nullptr;
  const auto cached = caches ? cached_weights(config, args, rows, pool) : nullptr;
  SequenceView<const T> x = args.x;
  Buffer between[2];  // inference: outputs of the two latest layers
  for (Index layer = 0; layer < config.num_layers; ++layer) {
    SequenceView<T> output = args.output;
    if (layer + 1 < config.num_layers) {
      Buffer memory = take<T>(pool, checked_product(steps, units));
      output = time_major(memory.template as<T>(), args.batch_size, units);
      if (tape != nullptr) {
        tape->layer_outputs.push_back(std::move(memory));
      } else {
        between[layer % 2] = std::move(memory);
      }
    }
    std::array<LayerPlan<T>, 2> plans{};
    std::array<LayerForward<T>, 2> passes{};
    std::array<PackedWeights<T>, 2> weights{};
    for (Index direction = 0; direction < directions; ++direction) {
      const Index i = layer * directions + direction;
      LayerPlan<T>& plan = plans[static_cast<std::size_t>(direction)];
      LayerForward<T>& pass = passes[static_cast<std::size_t>(direction)];
      plan = make_plan<T>(config, layer, direction == 1, rows, tape != nullptr);
      plan.max_threads = args.max_threads;
      pass.params = args.params[i];
      if (cached != nullptr) {
        pass.packed = &cached->packed.layers[static_cast<std::size_t>(i)];
      }
      pass.x = x;
      pass.output = columns(output, direction * config.output_size());
      pass.h0 = offset(args.h0, i * h_state);
      pass.c0 = offset(args.c0, i * c_state);
      pass.h_n = args.h_n + i * h_state;
      pass.c_n = offset(args.c_n, i * c_state);
      if (tape != nullptr) {
        tape->records.push_back(take<T>(pool, plan.record_count()));
        pass.records = tape->records.back().template as<T>();
        pass.record_cut = &tape->record_cuts[static_cast<std::size_t>(i)];
        if (keeps_weights) {
          PackedWeights<T>& kept = weights[static_cast<std::size_t>(direction)];
          tape->weights.push_back(acquire_pieces(
              pool, [&](Arena& arena) { kept = take_weights(plan, arena); }));
          pass.packed = &kept;
          pass.packs = true;
        }
        if (!config.options.plain()) {
          tape->vectors.push_back(keep_vectors(plan, args.params[i], pool));
        }
        set_randomness(*tape, i, pass);
      }
    }
    if (config.options.plain() && config.bidirectional) {
      directions_forward<T>(plans, passes, pool);
    } else {
      const auto forward =
          config.options.plain() ? layer_forward<T> : general_forward<T>;
      for (std::size_t i = 0; i < static_cast<std::size_t>(directions); ++i) {
        forward(plans[i], passes[i], pool);
      }
    }
    x = read_only(output);
    if (tape != nullptr && config.dropout > 0.0 && layer + 1 < config.num_layers) {
      tape->dropped_outputs.push_back(take<T>(pool, steps * units));
      T* dropped = tape->dropped_outputs.back().template as<T>();
      dropout_in_parallel(*tape, layer, rows, units, static_cast<const T*>(output.data),
                          dropped);
      x = read_only(time_major(dropped, args.batch_size, units));
    }
  }
}

template <class T>
void backward_layers(const BackwardArgs<T>& args, BufferPool& pool,
                     const Tape<T>& tape) {
  if (tape.checkpoint_every > 0) return checkpointed_backward(args, pool, tape);
  const RecurrentConfig& config = tape.config;
  const SequenceRows rows = rows_of(tape.order, tape.batch_size);
  const Index directions = config.directions();
  const Index units = directions * config.output_size();
  const bool dropped = config.dropout > 0.0;

  SequenceView<const T> d_output = args.d_output;
  Buffer between[2];  // d_x of the two latest layers
  for (Index layer = config.num_layers - 1; layer >= 0; --layer) {
    SequenceView<T> d_x = args.d_x;
    if (layer > 0) {
      between[layer % 2] = take<T>(pool, rows.total() * units);
      d_x = time_major(between[layer % 2].template as<T>(), tape.batch_size, units);
    }
    const auto kept = [&](const std::vector<Buffer>& buffers, Index of_layer) {
      const T* data = buffers[static_cast<std::size_t>(of_layer)].template as<T>();
      return time_major(data, tape.batch_size, units);
    };
    const SequenceView<const T> output =
        layer + 1 < config.num_layers ? kept(tape.layer_outputs, layer) : tape.output;
    const SequenceView<const T> x =
        layer == 0
            ? tape.x
            : kept(dropped ? tape.dropped_outputs : tape.layer_outputs, layer - 1);
    for (Index direction = 0; direction < directions; ++direction) {
      const Index i = layer * directions + direction;
      LayerBackward<T> pass{};
      set_layer_arguments(args, tape, i, pass);
      pass.x = x;
      pass.output = columns(output, direction * config.output_size());
      pass.d_output = columns(d_output, direction * config.output_size());
      pass.h0 = h_before(tape, 0, i);
      pass.c0 = c_before(tape, 0, i);
      pass.records = tape.records[static_cast<std::size_t>(i)].template as<T>();
      pass.record_cut = tape.record_cuts[static_cast<std::size_t>(i)];
      pass.d_x = d_x;
      pass.accumulate_d_x = direction > 0;
      LayerPlan<T> plan = make_plan<T>(config, layer, direction == 1, rows, true);
      plan.max_threads = args.max_threads;
      if (!tape.weights.empty()) {
        Arena arena(tape.weights[static_cast<std::size_t>(i)].data());
        pass.packed_h = take_weights(plan, arena).h;
      }
      (config.options.plain() ? layer_backward<T> : general_backward<T>)(plan, pass,
                                                                         pool);
    }
    if (layer > 0 && dropped) {
      dropout_in_parallel(tape, layer - 1, rows, units, static_cast<const T*>(d_x.data),
                          d_x.data);
    }
    d_output = read_only(d_x);
  }
}

}  // namespace

void check_marks(const RecurrentConfig& config, const StepMarks& marks, Index seq_len,
                 Index batch_size) {
  if (marks.reset.data != nullptr && config.bidirectional) {
    throw std::invalid_argument(
        "reset needs one direction: a second one would see past the reset");
  }
  for (Index n = 0; marks.lengths != nullptr && n < batch_size; ++n) {
    if (marks.lengths[n] < 0 || marks.lengths[n] > seq_len) {
      throw std::invalid_argument(
          "lengths must be from 0 to T = " + std::to_string(seq_len) + ", got " +
          std::to_string(marks.lengths[n]) + " at row " + std::to_string(n));
    }
  }
}

template <class T>
void recurrent_forward(const RecurrentConfig& config, const ForwardArgs<T>& args,
                       BufferPool& pool, Tape<T>* tape) {
  check_marks(config, args.marks, args.seq_len, args.batch_size);
  if (args.checkpoint_every < 0) {
    throw std::invalid_argument(
        "checkpoint_every must be at least 1, or 0 for none, got " +
        std::to_string(args.checkpoint_every));
  }
  checked_product(args.seq_len, args.batch_size);
  RowOrder inference_order;
  RowOrder& order = tape != nullptr ? tape->order : inference_order;
  order = make_order(args.marks, args.seq_len, args.batch_size);
  if (!order.packed) {
    forward_layers(config, args, order, pool, tape);
    return;
  }
  const bool checkpointed = tape != nullptr && args.checkpoint_every > 0;
  const bool sequences = !checkpointed || !packs_segments(config);
  PackedForward<T> packed(config, args, order, sequences, pool);
  forward_layers(config, packed.args, order, pool, tape);
  packed.unpack();
  if (tape != nullptr) {
    tape->packed_x = std::move(packed.x);
    if (!checkpointed) tape->packed_output = std::move(packed.output);
  }
}

template <class T>
void recurrent_backward(const BackwardArgs<T>& args, BufferPool& pool, Tape<T>& tape) {
  if (tape.used)
    throw std::logic_error("tape was used by backward before; run forward again");
  if (tape.width != kernels<T>().width) {
    throw std::logic_error("the instruction set changed between forward and backward");
  }
  if (tape.parameter_checksum &&
      *tape.parameter_checksum != checksum_to_check(tape.config, !tape.weights.empty(),
                                                    args.params, args.max_threads)) {
    throw std::logic_error("params changed between forward and backward of this tape");
  }
  tape.used = true;
  // Variants only add, and without a step nobody writes.
  const Index steps = rows_of(tape.order, tape.batch_size).total();
  if (!args.accumulate && (steps == 0 || !tape.config.options.plain())) {
    for_each_array(tape.config, args.grads,
                   [](T* data, Index count) { std::fill_n(data, count, T(0)); });
  }

  if (!tape.order.packed) {
    backward_layers(args, pool, tape);
    return;
  }
  const bool sequences = tape.checkpoint_every == 0 || !packs_segments(tape.config);
  PackedBackward<T> packed(args, tape, sequences, pool);
  backward_layers(packed.args, pool, tape);
  packed.unpack();
}

template void recurrent_forward<float>(const RecurrentConfig&,
                                       const ForwardArgs<float>&, BufferPool&,
                                       Tape<float>*);
template void recurrent_forward<double>(const RecurrentConfig&,
                                        const ForwardArgs<double>&, BufferPool&,
                                        Tape<double>*);
template void recurrent_backward<float>(const BackwardArgs<float>&, BufferPool&,
                                        Tape<float>&);
template void recurrent_backward<double>(const BackwardArgs<double>&, BufferPool&,
                                         Tape<double>&);

}  // namespace fastlstm
