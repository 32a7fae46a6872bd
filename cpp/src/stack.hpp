// What all passes over a stack of layers share: views of arrays, the tape's states, the
// arguments of one layer, dropout between layers. Used by recurrent.cpp,
// checkpoints.cpp and packed_call.hpp.
#pragma once

#include <algorithm>

#include "arena.hpp"
#include "dropout.hpp"
#include "fastlstm/threads.hpp"
#include "layer.hpp"
#include "ragged.hpp"

namespace fastlstm {

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
const Index* source_of(const Tape<T>& tape) {
  return tape.order.packed ? tape.order.source.data() : nullptr;
}

// Between `layer` and the next one, over these rows of `units` values.
template <class T>
void dropout_in_parallel(const Tape<T>& tape, Index layer, const SequenceRows& rows,
                         Index units, const T* in, T* out) {
  parallel_over(rows.total() * units, [&](const Team& team) {
    apply_dropout(tape.config.dropout, tape.dropout_seed, layer, rows, source_of(tape),
                  units, in, out, team);
  });
}

// Sets what is random in a pass through layer and direction i, which depends on the
// tape alone. The number keeps recurrent draws apart from those between layers.
template <class T, class Pass>
void set_randomness(const Tape<T>& tape, Index i, Pass& pass) {
  constexpr std::uint64_t kRecurrent = 0x7265637572726e74u;
  const std::uint64_t key = mix_bits(kRecurrent + static_cast<std::uint64_t>(i));
  pass.dropout = {tape.config.recurrent_dropout, mix_bits(tape.dropout_seed ^ key),
                  source_of(tape), 0};
  pass.zoneout_seed = tape.dropout_seed;
  pass.source = source_of(tape);
  pass.index = i;
}

// Sets all of a way back through layer and direction i but its sequences, records and
// initial state.
template <class T>
void set_layer_arguments(const BackwardArgs<T>& args, const Tape<T>& tape, Index i,
                         LayerBackward<T>& pass) {
  const Index h_state = tape.batch_size * tape.config.output_size();
  const Index c_state = tape.batch_size * tape.config.hidden_size;
  pass.params = args.params[i];
  pass.grads = args.grads[i];
  pass.accumulate_grads = args.accumulate;
  pass.d_h_n = offset(args.d_h_n, i * h_state);
  pass.d_c_n = offset(args.d_c_n, i * c_state);
  pass.d_h0 = offset(args.d_h0, i * h_state);
  pass.d_c0 = offset(args.d_c0, i * c_state);
  set_randomness(tape, i, pass);
}

// Segments that checkpoints cut the steps into; one at least.
template <class T>
Index segment_count(const Tape<T>& tape) {
  const Index k = tape.checkpoint_every;
  return k == 0 ? 1 : std::max<Index>(1, (tape.order.seq_len + k - 1) / k);
}

// Values of h or c of all layers and directions, `units` of each row.
template <class T>
Index state_size(const Tape<T>& tape, Index units) {
  const Index layers = tape.config.num_layers * tape.config.directions();
  return checked_product(layers * tape.batch_size, units);
}

template <class T>
Index checkpoint_size(const Tape<T>& tape) {
  const bool lstm = tape.config.cell == CellKind::lstm;
  return checked_product(segment_count(tape) - 1,
                         state_size(tape, tape.config.output_size()) +
                             (lstm ? state_size(tape, tape.config.hidden_size) : 0));
}

// h of layer and direction i before a segment: (N, O); null: zeros.
template <class T>
T* h_before(const Tape<T>& tape, Index segment, Index i) {
  const Index units = tape.config.output_size();
  T* const first = segment > 0 ? tape.checkpoints.template as<T>() +
                                     (segment - 1) * state_size(tape, units)
                   : tape.has_state ? tape.state.template as<T>()
                                    : nullptr;
  return offset(first, i * tape.batch_size * units);
}

// The same of c: (N, H); null also where there is none.
template <class T>
T* c_before(const Tape<T>& tape, Index segment, Index i) {
  if (tape.config.cell != CellKind::lstm) return nullptr;
  const Index units = tape.config.hidden_size;
  const Index h_state = state_size(tape, tape.config.output_size());
  T* const first = segment > 0 ? tape.checkpoints.template as<T>() +
                                     (segment_count(tape) - 1) * h_state +
                                     (segment - 1) * state_size(tape, units)
                   : tape.has_state ? tape.state.template as<T>() + h_state
                                    : nullptr;
  return offset(first, i * tape.batch_size * units);
}

}  // namespace fastlstm
