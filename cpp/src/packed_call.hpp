// The caller's arrays of a call whose rows are packed: copies in the order of the rows,
// and back. Sequences whose segments are packed one by one (checkpoints.hpp) stay the
// caller's, and the states alone are copied. Used by recurrent.cpp.
#pragma once

#include "stack.hpp"

namespace fastlstm {

template <class T>
struct PackedForward {
  const RecurrentConfig& config;
  const ForwardArgs<T>& given;
  const RowOrder& order;
  bool sequences;  // false: the states alone
  Buffer x, output, states;
  ForwardArgs<T> args;  // given, with the packed arrays in place of the caller's

  PackedForward(const RecurrentConfig& of, const ForwardArgs<T>& arrays,
                const RowOrder& row_order, bool with_sequences, BufferPool& pool)
      : config(of),
        given(arrays),
        order(row_order),
        sequences(with_sequences),
        args(arrays) {
    if (sequences) {
      const SequenceRows rows = rows_of(order, given.batch_size);
      x = take<T>(pool, checked_product(rows.total(), config.input_size));
      output = take<T>(pool, checked_product(rows.total(), units()));
      args.x =
          time_major<const T>(x.template as<T>(), given.batch_size, config.input_size);
      args.output = time_major(output.template as<T>(), given.batch_size, units());
      parallel_over(rows.total() * config.input_size, [&](const Team& team) {
        gather_steps(order, rows, given.x, config.input_size, true, x.template as<T>(),
                     team);
      });
    }
    states = take<T>(pool, 2 * (h_size() + c_size()));
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
    const Index values = sequences ? given.seq_len * given.batch_size * units() : 0;
    if (values > 0) {
      parallel_over(values, [&](const Team& team) {
        scatter_steps<T>(order, rows_of(order, given.batch_size), args.output.data,
                         units(), false, given.seq_len, given.output, team);
      });
    }
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
  bool sequences;  // false: the states alone
  Buffer d_output, d_x, states;
  BackwardArgs<T> args;

  PackedBackward(const BackwardArgs<T>& arrays, const Tape<T>& of, bool with_sequences,
                 BufferPool& pool)
      : given(arrays), tape(of), sequences(with_sequences), args(arrays) {
    const RecurrentConfig& config = tape.config;
    const SequenceRows steps = rows_of(tape.order, tape.batch_size);
    const Index units = config.directions() * config.output_size();
    if (sequences && given.d_output.data != nullptr) {
      d_output = take<T>(pool, steps.total() * units);
      parallel_over(steps.total() * units, [&](const Team& team) {
        gather_steps(tape.order, steps, given.d_output, units, false,
                     d_output.template as<T>(), team);
      });
      args.d_output =
          time_major<const T>(d_output.template as<T>(), tape.batch_size, units);
    }
    if (sequences && given.d_x.data != nullptr) {
      d_x = take<T>(pool, steps.total() * config.input_size);
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
    if (sequences && given.d_x.data != nullptr) {
      parallel_over(tape.seq_len * tape.batch_size * config.input_size,
                    [&](const Team& team) {
                      scatter_steps<T>(tape.order, rows_of(tape.order, tape.batch_size),
                                       args.d_x.data, config.input_size, true,
                                       tape.seq_len, given.d_x, team);
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

}  // namespace fastlstm
