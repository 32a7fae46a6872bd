// Stacks of layers: layer by layer over all time steps, both directions of each.
#include "fastlstm/recurrent.hpp"

#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

#include "dropout.hpp"
#include "fastlstm/threads.hpp"
#include "general.hpp"
#include "layer.hpp"
#include "ragged.hpp"

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
                                 : config.directions() * config.output_size();
    add(params[i].weight_ih, rows * input_size);
    add(params[i].weight_hh, rows * config.output_size());
    add(params[i].bias, rows);
    add(params[i].bias_hn, config.hidden_size);
    add(params[i].weight_hr, config.output_size() * config.hidden_size);
    add(params[i].weight_peephole, 3 * config.hidden_size);
    add(params[i].gain_ih, rows);
    add(params[i].gain_hh, rows);
    add(params[i].gain_c, config.hidden_size);
    add(params[i].bias_c, config.hidden_size);
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

// Runs body(team) on all threads if it moves so many values that this pays: one costs
// about a nanosecond, and a thread is worth waking for 100 us of them.
template <class Body>
void parallel_over(Index values, Body body) {
  constexpr Index kMinValues = 200000;
  parallel(values > kMinValues ? useful_threads() : 1, body);
}

template <class T>
void dropout_in_parallel(const Tape<T>& tape, Index layer, const T* in, T* out) {
  const Index units = tape.config.directions() * tape.config.output_size();
  const SequenceRows rows = rows_of(tape.order, tape.batch_size);
  const Index* source = tape.order.packed ? tape.order.source.data() : nullptr;
  parallel_over(rows.total() * units, [&](const Team& team) {
    apply_dropout(tape.config.dropout, tape.dropout_seed, layer, rows, source, units,
                  in, out, team);
  });
}

// Of one layer and direction; the number keeps its draws apart from those between
// layers.
template <class T>
RecurrentDropout recurrent_dropout(const Tape<T>& tape, Index i) {
  constexpr std::uint64_t kRecurrent = 0x7265637572726e74u;
  const std::uint64_t key = mix_bits(kRecurrent + static_cast<std::uint64_t>(i));
  return {tape.config.recurrent_dropout, mix_bits(tape.dropout_seed ^ key),
          tape.order.packed ? tape.order.source.data() : nullptr, 0};
}

template <class T>
void begin_tape(const RecurrentConfig& config, const ForwardArgs<T>& args,
                BufferPool& pool, Tape<T>& tape) {
  const Index layers = config.num_layers * config.directions();
  const Index h_state = layers * args.batch_size * config.output_size();
  const Index c_state = layers * args.batch_size * config.hidden_size;
  tape.config = config;
  tape.seq_len = args.seq_len;
  tape.batch_size = args.batch_size;
  tape.x = args.x;
  tape.output = read_only(args.output);
  tape.has_state = args.h0 != nullptr;
  tape.dropout_seed = args.dropout_seed;
  tape.parameter_checksum = parameter_checksum(config, args.params);
  tape.checkpoint_every = args.checkpoint_every;
  tape.width = kernels<T>().width;
  tape.used = false;
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
  const Index directions = config.directions();
  const Index units = directions * config.output_size();
  const Index steps = rows.total();
  const Index h_state = args.batch_size * config.output_size();
  const Index c_state = args.batch_size * config.hidden_size;
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
      const LayerPlan<T> plan = make_plan<T>(config, layer, direction == 1, rows);
      LayerForward<T> pass{};
      pass.params = args.params[i];
      pass.x = x;
      pass.output = columns(output, direction * config.output_size());
      pass.h0 = offset(args.h0, i * h_state);
      pass.c0 = offset(args.c0, i * c_state);
      pass.h_n = args.h_n + i * h_state;
      pass.c_n = offset(args.c_n, i * c_state);
      if (tape != nullptr) {
        const Index k = args.checkpoint_every;
        const Index kept = k > 0 ? plan.checkpoint_count(k) : plan.record_count();
        tape->records.push_back(take<T>(pool, kept));
        T* const memory = tape->records.back().template as<T>();
        (k > 0 ? pass.checkpoints : pass.records) = memory;
        pass.checkpoint_every = k;
        pass.dropout = recurrent_dropout(*tape, i);
      }
      pass.zoneout_seed = args.dropout_seed;
      pass.source = order.packed ? order.source.data() : nullptr;
      pass.index = i;
      (config.options.plain() ? layer_forward<T> : general_forward<T>)(plan, pass,
                                                                       pool);
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
void backward_layers(const BackwardArgs<T>& args, const SequenceRows& rows,
                     BufferPool& pool, Tape<T>& tape) {
  const RecurrentConfig& config = tape.config;
  const Index directions = config.directions();
  const Index units = directions * config.output_size();
  const Index h_state = tape.batch_size * config.output_size();
  const Index c_state = tape.batch_size * config.hidden_size;
  const T* h0 = tape.has_state ? tape.state.template as<T>() : nullptr;
  const T* c0 =
      tape.has_state ? h0 + config.num_layers * directions * h_state : nullptr;
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
      pass.params = args.params[i];
      pass.grads = args.grads[i];
      pass.x = x;
      pass.output = columns(output, direction * config.output_size());
      pass.d_output = columns(d_output, direction * config.output_size());
      pass.h0 = offset(h0, i * h_state);
      pass.c0 = offset(c0, i * c_state);
      pass.d_h_n = offset(args.d_h_n, i * h_state);
      pass.d_c_n = offset(args.d_c_n, i * c_state);
      const T* const records =
          tape.records[static_cast<std::size_t>(i)].template as<T>();
      (tape.checkpoint_every > 0 ? pass.checkpoints : pass.records) = records;
      pass.checkpoint_every = tape.checkpoint_every;
      pass.dropout = recurrent_dropout(tape, i);
      pass.d_x = d_x;
      pass.accumulate_d_x = direction > 0;
      pass.d_h0 = offset(args.d_h0, i * h_state);
      pass.d_c0 = offset(args.d_c0, i * c_state);
      pass.zoneout_seed = tape.dropout_seed;
      pass.source = tape.order.packed ? tape.order.source.data() : nullptr;
      pass.index = i;
      const LayerPlan<T> plan = make_plan<T>(config, layer, direction == 1, rows);
      (config.options.plain() ? layer_backward<T> : general_backward<T>)(plan, pass,
                                                                         pool);
    }
    if (layer > 0 && dropped) {
      dropout_in_parallel(tape, layer - 1, static_cast<const T*>(d_x.data), d_x.data);
    }
    d_output = read_only(d_x);
  }
}

// The caller's arrays of a forward call, packed by the order of its rows.
template <class T>
struct PackedForward {
  const RecurrentConfig& config;
  const ForwardArgs<T>& given;
  const RowOrder& order;
  Buffer x, output, states;
  ForwardArgs<T> args;  // given, with the packed arrays in place of the caller's

  PackedForward(const RecurrentConfig& of, const ForwardArgs<T>& arrays,
                const RowOrder& rows, BufferPool& pool)
      : config(of), given(arrays), order(rows), args(arrays) {
    const Index steps = rows_of(order, given.batch_size).total();
    x = take<T>(pool, checked_product(steps, config.input_size));
    output = take<T>(pool, checked_product(steps, units()));
    states = take<T>(pool, 2 * (h_size() + c_size()));
    args.x =
        time_major<const T>(x.template as<T>(), given.batch_size, config.input_size);
    args.output = time_major(output.template as<T>(), given.batch_size, units());
    parallel_over(steps * config.input_size, [&](const Team& team) {
      gather_steps(order, given.batch_size, given.x, config.input_size, true,
                   x.template as<T>(), team);
    });
    T* next = states.template as<T>();
    const auto sorted = [&](const T* state, Index of_units) -> const T* {
      if (state == nullptr) return nullptr;
      const T* const first = next;
      gather_states(order, layers(), of_units, state, next);
      next += layers() * given.batch_size * of_units;
      return first;
    };
    args.h0 = sorted(given.h0, config.output_size());
    args.c0 = sorted(given.c0, config.hidden_size);
    args.h_n = next;
    args.c_n = given.c_n != nullptr ? next + h_size() : nullptr;
  }

  void unpack() const {
    parallel_over(given.seq_len * given.batch_size * units(), [&](const Team& team) {
      scatter_steps<T>(order, given.batch_size, args.output.data, units(), false,
                       given.seq_len, given.output, team);
    });
    scatter_states<T>(order, layers(), config.output_size(), args.h_n, given.h_n);
    if (given.c_n != nullptr) {
      scatter_states<T>(order, layers(), config.hidden_size, args.c_n, given.c_n);
    }
  }

  Index layers() const { return config.num_layers * config.directions(); }
  Index units() const { return config.directions() * config.output_size(); }
  Index h_size() const { return layers() * given.batch_size * config.output_size(); }
  Index c_size() const { return layers() * given.batch_size * config.hidden_size; }
};

// The same for backward.
template <class T>
struct PackedBackward {
  const BackwardArgs<T>& given;
  const Tape<T>& tape;
  Buffer d_output, d_x, states;
  BackwardArgs<T> args;

  PackedBackward(const BackwardArgs<T>& arrays, const Tape<T>& of, BufferPool& pool)
      : given(arrays), tape(of), args(arrays) {
    const RecurrentConfig& config = tape.config;
    const Index steps = rows_of(tape.order, tape.batch_size).total();
    const Index units = config.directions() * config.output_size();
    if (given.d_output.data != nullptr) {
      d_output = take<T>(pool, steps * units);
      parallel_over(steps * units, [&](const Team& team) {
        gather_steps(tape.order, tape.batch_size, given.d_output, units, false,
                     d_output.template as<T>(), team);
      });
      args.d_output =
          time_major<const T>(d_output.template as<T>(), tape.batch_size, units);
    }
    if (given.d_x.data != nullptr) {
      d_x = take<T>(pool, steps * config.input_size);
      args.d_x = time_major(d_x.template as<T>(), tape.batch_size, config.input_size);
    }
    const Index rows = layers() * tape.batch_size;
    states = take<T>(pool, 2 * rows * (config.output_size() + config.hidden_size));
    T* next = states.template as<T>();
    const auto sorted = [&](const T* state, Index of_units) -> const T* {
      if (state == nullptr) return nullptr;
      const T* const first = next;
      gather_states(tape.order, layers(), of_units, state, next);
      next += rows * of_units;
      return first;
    };
    args.d_h_n = sorted(given.d_h_n, config.output_size());
    args.d_c_n = sorted(given.d_c_n, config.hidden_size);
    if (given.d_h0 != nullptr) args.d_h0 = next;
    if (given.d_c0 != nullptr) args.d_c0 = next + rows * config.output_size();
  }

  void unpack() const {
    const RecurrentConfig& config = tape.config;
    if (given.d_x.data != nullptr) {
      parallel_over(
          tape.seq_len * tape.batch_size * config.input_size, [&](const Team& team) {
            scatter_steps<T>(tape.order, tape.batch_size, args.d_x.data,
                             config.input_size, true, tape.seq_len, given.d_x, team);
          });
    }
    if (given.d_h0 != nullptr) {
      scatter_states<T>(tape.order, layers(), config.output_size(), args.d_h0,
                        given.d_h0);
    }
    if (given.d_c0 != nullptr) {
      scatter_states<T>(tape.order, layers(), config.hidden_size, args.d_c0,
                        given.d_c0);
    }
  }

  Index layers() const { return tape.config.num_layers * tape.config.directions(); }
};

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
  if (args.checkpoint_every > 0 && !config.options.plain()) {
    throw std::invalid_argument(
        "checkpoint_every needs a plain cell: variants keep every step");
  }
  checked_product(args.seq_len, args.batch_size);
  RowOrder inference_order;
  RowOrder& order = tape != nullptr ? tape->order : inference_order;
  order = make_order(args.marks, args.seq_len, args.batch_size);
  if (!order.packed) {
    forward_layers(config, args, order, pool, tape);
    return;
  }
  PackedForward<T> packed(config, args, order, pool);
  forward_layers(config, packed.args, order, pool, tape);
  packed.unpack();
  if (tape != nullptr) {
    tape->packed_x = std::move(packed.x);
    tape->packed_output = std::move(packed.output);
  }
}

template <class T>
void recurrent_backward(const BackwardArgs<T>& args, BufferPool& pool, Tape<T>& tape) {
  if (tape.used)
    throw std::logic_error("tape was used by backward before; run forward again");
  if (tape.width != kernels<T>().width) {
    throw std::logic_error("the instruction set changed between forward and backward");
  }
  if (tape.parameter_checksum != parameter_checksum(tape.config, args.params)) {
    throw std::logic_error("params changed between forward and backward of this tape");
  }
  tape.used = true;

  const SequenceRows rows = rows_of(tape.order, tape.batch_size);
  if (!tape.order.packed) {
    backward_layers(args, rows, pool, tape);
    return;
  }
  PackedBackward<T> packed(args, tape, pool);
  backward_layers(packed.args, rows, pool, tape);
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
