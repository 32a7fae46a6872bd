// Stacks of layers: layer by layer over all time steps, both directions of each.
#include "fastlstm/recurrent.hpp"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "dropout.hpp"
#include "fastlstm/threads.hpp"
#include "layer.hpp"

namespace fastlstm {
namespace {

void check_positive(const char* name, Index value) {
  if (value < 1 || value > (Index{1} << 24)) {
    throw std::invalid_argument(std::string(name) +
                                " must be an integer from 1 to 16777216, got " +
                                std::to_string(value));
  }
}

template <class T>
std::uint64_t parameter_checksum(const RecurrentConfig& config,
                                 const LayerArrays<const T>* params) {
  std::uint64_t sums[kChecksumLanes] = {};
  const auto add = [&](const T* data, Index count) {
    if (data == nullptr) return;
    kernels<T>().checksum(data, static_cast<std::size_t>(count) * sizeof(T), sums);
  };
  const Index rows = config.gate_rows();
  for (Index i = 0; i < config.num_layers * config.directions(); ++i) {
    const Index input_size = i < config.directions()
                                 ? config.input_size
                                 : config.directions() * config.hidden_size;
    add(params[i].weight_ih, rows * input_size);
    add(params[i].weight_hh, rows * config.hidden_size);
    add(params[i].bias, rows);
    add(params[i].bias_hn, config.hidden_size);
  }
  std::uint64_t sum = 0;
  for (const std::uint64_t lane : sums) sum = mix_bits(sum ^ lane);
  return sum;
}

template <class T>
Buffer take(BufferPool& pool, Index count) {
  return pool.acquire(static_cast<std::size_t>(checked_product(count, sizeof(T))));
}

template <class T>
T* offset(T* data, Index count) {
  return data == nullptr ? nullptr : data + count;
}

template <class T>
SequenceView<T> time_major(T* data, Index batch_size, Index units) {
  return {data, batch_size * units, units};
}

template <class T>
SequenceView<T> columns(const SequenceView<T>& view, Index first) {
  return {offset(view.data, first), view.stride_t, view.stride_n};
}

template <class T>
SequenceView<const T> read_only(const SequenceView<T>& view) {
  return {view.data, view.stride_t, view.stride_n};
}

template <class T>
void dropout_in_parallel(const Tape<T>& tape, Index layer, const T* in, T* out) {
  const Index units = tape.config.directions() * tape.config.hidden_size;
  // A value costs about a nanosecond; a thread is worth waking for 100 us of them.
  const bool large = tape.seq_len * tape.batch_size * units > 200000;
  auto body = [&](const Team& team) {
    apply_dropout(tape.config.dropout, tape.dropout_seed, layer, tape.seq_len,
                  tape.batch_size, units, in, out, team);
  };
  parallel(large ? num_threads() : 1, body);
}

template <class T>
void begin_tape(const RecurrentConfig& config, const ForwardArgs<T>& args,
                BufferPool& pool, Tape<T>& tape) {
  const Index layers = config.num_layers * config.directions();
  const Index state = layers * args.batch_size * config.hidden_size;
  tape.config = config;
  tape.seq_len = args.seq_len;
  tape.batch_size = args.batch_size;
  tape.x = args.x;
  tape.output = read_only(args.output);
  tape.has_state = args.h0 != nullptr;
  tape.dropout_seed = args.dropout_seed;
  tape.parameter_checksum = parameter_checksum(config, args.params);
  tape.width = kernels<T>().width;
  tape.used = false;
  if (tape.has_state) {
    tape.state = take<T>(pool, 2 * state);
    T* kept = tape.state.template as<T>();
    std::memcpy(kept, args.h0, static_cast<std::size_t>(state) * sizeof(T));
    if (args.c0 != nullptr) {
      std::memcpy(kept + state, args.c0, static_cast<std::size_t>(state) * sizeof(T));
    }
  }
}

}  // namespace

void check_config(const RecurrentConfig& config) {
  check_positive("input_size", config.input_size);
  check_positive("hidden_size", config.hidden_size);
  check_positive("num_layers", config.num_layers);
  if (!(config.dropout >= 0.0 && config.dropout <= 1.0)) {
    throw std::invalid_argument("dropout must be a probability from 0 to 1, got " +
                                std::to_string(config.dropout));
  }
}

template <class T>
void recurrent_forward(const RecurrentConfig& config, const ForwardArgs<T>& args,
                       BufferPool& pool, Tape<T>* tape) {
  const Index directions = config.directions();
  const Index units = directions * config.hidden_size;
  const Index steps = checked_product(args.seq_len, args.batch_size);
  const Index state = args.batch_size * config.hidden_size;
  if (tape != nullptr) begin_tape(config, args, pool, *tape);

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
    for (Index direction = 0; direction < directions; ++direction) {
      const Index i = layer * directions + direction;
      const LayerPlan<T> plan =
          make_plan<T>(config, layer, direction == 1, {args.seq_len, args.batch_size});
      LayerForward<T> pass{};
      pass.params = args.params[i];
      pass.x = x;
      pass.output = columns(output, direction * config.hidden_size);
      pass.h0 = offset(args.h0, i * state);
      pass.c0 = offset(args.c0, i * state);
      pass.h_n = args.h_n + i * state;
      pass.c_n = offset(args.c_n, i * state);
      if (tape != nullptr) {
        tape->records.push_back(take<T>(pool, plan.record_count()));
        pass.records = tape->records.back().template as<T>();
      }
      layer_forward(plan, pass, pool);
    }
    x = read_only(output);
    if (tape != nullptr && config.dropout > 0.0 && layer + 1 < config.num_layers) {
      tape->dropped_outputs.push_back(take<T>(pool, steps * units));
      T* dropped = tape->dropped_outputs.back().template as<T>();
      dropout_in_parallel(*tape, layer, static_cast<const T*>(output.data), dropped);
      x = read_only(time_major(dropped, args.batch_size, units));
    }
  }
}

template <class T>
void recurrent_backward(const BackwardArgs<T>& args, BufferPool& pool, Tape<T>& tape) {
  const RecurrentConfig& config = tape.config;
  if (tape.used)
    throw std::logic_error("tape was used by backward before; run forward again");
  if (tape.width != kernels<T>().width) {
    throw std::logic_error("the instruction set changed between forward and backward");
  }
  if (tape.parameter_checksum != parameter_checksum(config, args.params)) {
    throw std::logic_error("params changed between forward and backward of this tape");
  }
  tape.used = true;

  const Index directions = config.directions();
  const Index units = directions * config.hidden_size;
  const Index state = tape.batch_size * config.hidden_size;
  const Index states = config.num_layers * directions * state;
  const T* h0 = tape.has_state ? tape.state.template as<T>() : nullptr;
  const T* c0 = tape.has_state ? h0 + states : nullptr;
  const bool dropped = config.dropout > 0.0;

  SequenceView<const T> d_output = args.d_output;
  Buffer between[2];  // d_x of the two latest layers
  for (Index layer = config.num_layers - 1; layer >= 0; --layer) {
    SequenceView<T> d_x = args.d_x;
    if (layer > 0) {
      between[layer % 2] = take<T>(pool, tape.seq_len * tape.batch_size * units);
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
      pass.params = args.params[i];
      pass.grads = args.grads[i];
      pass.x = x;
      pass.output = columns(output, direction * config.hidden_size);
      pass.d_output = columns(d_output, direction * config.hidden_size);
      pass.h0 = offset(h0, i * state);
      pass.c0 = offset(c0, i * state);
      pass.d_h_n = offset(args.d_h_n, i * state);
      pass.d_c_n = offset(args.d_c_n, i * state);
      pass.records = tape.records[static_cast<std::size_t>(i)].template as<T>();
      pass.d_x = d_x;
      pass.accumulate_d_x = direction > 0;
      pass.d_h0 = offset(args.d_h0, i * state);
      pass.d_c0 = offset(args.d_c0, i * state);
      layer_backward(
          make_plan<T>(config, layer, direction == 1, {tape.seq_len, tape.batch_size}),
          pass, pool);
    }
    if (layer > 0 && dropped) {
      dropout_in_parallel(tape, layer - 1, static_cast<const T*>(d_x.data), d_x.data);
    }
    d_output = read_only(d_x);
  }
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
