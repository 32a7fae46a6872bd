// See checkpoints.hpp.
#include "checkpoints.hpp"

#include <algorithm>
#include <vector>

#include "general.hpp"
#include "layer.hpp"
#include "ragged.hpp"
#include "stack.hpp"
#include "weight_cache.hpp"

namespace fastlstm {
namespace {

// The steps [begin, end) between two checkpoints, and what lies at their times.
struct Segment {
  Index number, begin, end;
  Index first_time;
  SequenceRows rows;
};

// The layers that take a segment together, in one direction, and their memory for it.
template <class T>
struct Column {
  const Tape<T>& tape;
  const LayerArrays<const T>* params;
  BufferPool& pool;
  Index layer, count, direction;
  bool back;  // to go back through them: keeps all that a segment leaves
  const RecurrentConfig& config = tape.config;
  SequenceRows rows = rows_of(tape.order, tape.batch_size);
  std::vector<LayerPlan<T>> plans;
  PackedLayers<T> packed;
  std::vector<T*> outputs, dropped, records;  // by layer: of a segment
  T* x = nullptr;                             // of a segment, where it packs its own
  T* d_output = nullptr;
  T* d_x = nullptr;
  T* d_between[2] = {};                        // d_x of the two latest layers
  mutable std::vector<RecordCut> record_cuts;  // by layer, as run_layer leaves them
  T* h_n = nullptr;                            // (N, O) and (N, H), which nobody wants
  T* c_n = nullptr;
  Buffer memory;

  Column(const Tape<T>& of, const LayerArrays<const T>* arrays, BufferPool& blocks,
         Index first, Index layers, Index in_direction, bool backward)
      : tape(of),
        params(arrays),
        pool(blocks),
        layer(first),
        count(layers),
        direction(in_direction),
        back(backward) {
    for (Index l = 0; l < count; ++l) {
      plans.push_back(make_plan<T>(config, layer + l, direction == 1, rows, true));
    }
    std::vector<LayerArrays<const T>> own;
    for (Index l = 0; l < count; ++l) own.push_back(params[index(l)]);
    packed = pack_layers(plans, own, pool);
    const auto layer_count = static_cast<std::size_t>(count);
    outputs.resize(layer_count);
    dropped.resize(layer_count);
    records.resize(layer_count);
    record_cuts.resize(layer_count);
    memory = acquire_pieces(pool, [&](Arena& arena) { take(arena); });
  }
  Column(const Column&) = delete;
  Column& operator=(const Column&) = delete;

  // The caller's rows are packed a segment at a time.
  bool packs() const { return tape.order.packed && packs_segments(config); }
  bool drops(Index l) const { return config.dropout > 0.0 && l + 1 < count; }
  Index index(Index l) const { return (layer + l) * config.directions() + direction; }

  void take(Arena& arena) {
    Index steps = 0;  // (t, n) of the largest segment
    for (Index s = 0; s < segment_count(tape); ++s) {
      steps = std::max(steps, segment(s).rows.total());
    }
    const auto take = [&](bool wanted, Index units) {
      return arena.take<T>(wanted ? checked_product(steps, units) : 0);
    };
    const Index units = config.output_size();
    for (Index l = 0; l < count; ++l) {
      const auto at = static_cast<std::size_t>(l);
      outputs[at] = take(back || packs() || l + 1 < count, units);
      dropped[at] = take(drops(l), units);
      records[at] = take(back, plans[at].panels * plans[at].record);
    }
    x = take(packs(), config.input_size);
    d_output = take(back && packs(), units);
    d_x = take(back && packs(), config.input_size);
    for (T*& d : d_between) d = take(back && count > 1, units);
    h_n = arena.take<T>(tape.batch_size * config.output_size());
    c_n = arena.take<T>(tape.batch_size * config.hidden_size);
  }

  Segment segment(Index number) const {
    Segment s{};
    s.number = number;
    s.begin = number * tape.checkpoint_every;
    s.end = std::min(s.begin + tape.checkpoint_every, rows.seq_len);
    s.first_time = plans[0].first_time(s.begin, s.end);
    s.rows = rows.piece(s.first_time, s.first_time + s.end - s.begin);
    return s;
  }

  SequenceView<T> own(T* data, Index units) const {
    return time_major(data, tape.batch_size, units);
  }

  template <class Value>
  SequenceView<Value> part_of(const SequenceView<Value>& view, const Segment& s) const {
    if (view.data == nullptr) return view;
    return {rows.at(view, s.first_time, 0), view.stride_t, view.stride_n};
  }

  SequenceView<const T> packed_part_of(const SequenceView<const T>& view,
                                       const Segment& s, Index units, bool clean,
                                       T* to) const {
    if (!packs() || view.data == nullptr) return part_of(view, s);
    parallel_over(s.rows.total() * units, [&](const Team& team) {
      gather_steps(tape.order, s.rows, view, units, clean, to, team);
    });
    return read_only(own(to, units));
  }

  // The inverse; the last segment also has the times that no row reaches.
  void unpack(const Segment& s, const T* from, Index units, bool clean,
              const SequenceView<T>& view) const {
    const Index end = s.end == rows.seq_len ? tape.seq_len : s.end;
    const Index times = end - s.begin;
    parallel_over(times * tape.batch_size * units, [&](const Team& team) {
      scatter_steps(tape.order, s.rows, from, units, clean, times, view, team);
    });
  }

  // Runs one layer over a segment; returns what the next one takes.
  SequenceView<const T> run_layer(Index l, const Segment& s,
                                  const SequenceView<const T>& input,
                                  const SequenceView<T>& output, T* to_h,
                                  T* to_c) const {
    const auto at = static_cast<std::size_t>(l);
    const Index i = index(l);
    LayerForward<T> pass{};
    pass.params = params[i];
    pass.x = input;
    pass.output = output;
    pass.h0 = h_before(tape, s.number, i);
    pass.c0 = c_before(tape, s.number, i);
    pass.h_n = to_h;
    pass.c_n = to_c;
    pass.records = back ? records[at] : nullptr;
    pass.record_cut = &record_cuts[at];
    pass.packed = &packed.layers[at];
    set_randomness(tape, i, pass);
    const LayerPlan<T> plan = plans[at].piece(s.begin, s.end);
    (config.options.plain() ? layer_forward<T> : general_forward<T>)(plan, pass, pool);
    if (!drops(l)) return read_only(output);
    dropout_in_parallel(tape, layer + l, s.rows, config.output_size(),
                        static_cast<const T*>(output.data), dropped[at]);
    return read_only(own(dropped[at], config.output_size()));
  }

  // Forward through all segments. last_h, last_c: of the whole stack, the latter null
  // where there is no c.
  void run(const SequenceView<const T>& all_x, const SequenceView<T>& all_output,
           T* last_h, T* last_c) const {
    const Index h_state = tape.batch_size * config.output_size();
    const Index c_state = tape.batch_size * config.hidden_size;
    for (Index number = 0; number < segment_count(tape); ++number) {
      const Segment s = segment(number);
      const bool last = number + 1 == segment_count(tape);
      SequenceView<const T> input =
          packed_part_of(all_x, s, config.input_size, true, x);
      for (Index l = 0; l < count; ++l) {
        const Index i = index(l);
        const bool direct = l + 1 == count && !packs();
        input = run_layer(
            l, s, input,
            direct ? part_of(all_output, s)
                   : own(outputs[static_cast<std::size_t>(l)], config.output_size()),
            last ? last_h + i * h_state : h_before(tape, number + 1, i),
            last ? offset(last_c, i * c_state) : c_before(tape, number + 1, i));
      }
      if (packs()) unpack(s, input.data, config.output_size(), false, all_output);
    }
  }

  // Back through all segments, each run forward again first.
  void run_back(const BackwardArgs<T>& args, const SequenceView<const T>& all_x,
                const SequenceView<const T>& all_d_output,
                const SequenceView<T>& all_d_x) const {
    std::vector<PieceBackward<T>> passes(static_cast<std::size_t>(count));
    for (Index number = segment_count(tape) - 1; number >= 0; --number) {
      const Segment s = segment(number);
      std::vector<SequenceView<const T>> inputs = {
          packed_part_of(all_x, s, config.input_size, true, x)};
      for (Index l = 0; l < count; ++l) {
        inputs.push_back(run_layer(
            l, s, inputs.back(),
            own(outputs[static_cast<std::size_t>(l)], config.output_size()), h_n, c_n));
      }
      SequenceView<const T> d =
          packed_part_of(all_d_output, s, config.output_size(), false, d_output);
      for (Index l = count - 1; l >= 0; --l) {
        SequenceView<T> below = all_d_x;
        if (l > 0) {
          below = own(d_between[l % 2], config.output_size());
        } else if (all_d_x.data != nullptr) {
          below = packs() ? own(d_x, config.input_size) : part_of(all_d_x, s);
        }
        const auto at = static_cast<std::size_t>(l);
        go_back(args, l, s, inputs[at], d, below, passes[at]);
        if (l > 0 && drops(l - 1)) {
          dropout_in_parallel(tape, layer + l - 1, s.rows, config.output_size(),
                              static_cast<const T*>(below.data), below.data);
        }
        d = read_only(below);
      }
      if (packs() && all_d_x.data != nullptr) {
        unpack(s, d_x, config.input_size, true, all_d_x);
      }
    }
  }

  void go_back(const BackwardArgs<T>& args, Index l, const Segment& s,
               const SequenceView<const T>& input, const SequenceView<const T>& d,
               const SequenceView<T>& below, PieceBackward<T>& run) const {
    const auto at = static_cast<std::size_t>(l);
    const Index i = index(l);
    LayerBackward<T> pass{};
    set_layer_arguments(args, tape, i, pass);
    pass.x = input;
    pass.output = read_only(own(outputs[at], config.output_size()));
    pass.d_output = d;
    pass.h0 = h_before(tape, s.number, i);
    pass.c0 = c_before(tape, s.number, i);
    pass.records = records[at];
    pass.record_cut = record_cuts[at];
    pass.d_x = below;
    pass.accumulate_d_x = direction > 0;
    if (!run) {
      run =
          (config.options.plain() ? layer_backward_pieces<T>
                                  : general_backward_pieces<T>)(plans[at], pass, pool);
    }
    run(s.begin, s.end, pass);
  }
};

// A stack in one direction is one column; with two directions each layer has two.
template <class T>
Index column_layers(const Tape<T>& tape) {
  return tape.config.bidirectional ? 1 : tape.config.num_layers;
}

}  // namespace

template <class T>
void checkpointed_forward(const ForwardArgs<T>& args, BufferPool& pool, Tape<T>& tape) {
  const RecurrentConfig& config = tape.config;
  const SequenceRows rows = rows_of(tape.order, tape.batch_size);
  const Index units = config.directions() * config.output_size();
  tape.checkpoints = take<T>(pool, checkpoint_size(tape));
  const Index step = column_layers(tape);
  SequenceView<const T> x = args.x;
  Buffer dropped;
  for (Index layer = 0; layer < config.num_layers; layer += step) {
    const bool last = layer + step == config.num_layers;
    SequenceView<T> output = args.output;
    if (!last) {
      tape.layer_outputs.push_back(take<T>(pool, checked_product(rows.total(), units)));
      T* const whole = tape.layer_outputs.back().template as<T>();
      output = time_major(whole, tape.batch_size, units);
    }
    for (Index direction = 0; direction < config.directions(); ++direction) {
      const Column<T> column(tape, args.params, pool, layer, step, direction, false);
      column.run(x, columns(output, direction * config.output_size()), args.h_n,
                 args.c_n);
    }
    x = read_only(output);
    if (config.dropout > 0.0 && !last) {
      dropped = take<T>(pool, rows.total() * units);
      dropout_in_parallel(tape, layer, rows, units, x.data, dropped.template as<T>());
      x = time_major<const T>(dropped.template as<T>(), tape.batch_size, units);
    }
  }
}

template <class T>
void checkpointed_backward(const BackwardArgs<T>& args, BufferPool& pool,
                           const Tape<T>& tape) {
  const RecurrentConfig& config = tape.config;
  const SequenceRows rows = rows_of(tape.order, tape.batch_size);
  const Index units = config.directions() * config.output_size();
  const Index step = column_layers(tape);
  SequenceView<const T> d_output = args.d_output;
  Buffer between[2];  // d_x of the two latest layers
  for (Index layer = config.num_layers - step; layer >= 0; layer -= step) {
    SequenceView<const T> x = tape.x;
    SequenceView<T> d_x = args.d_x;
    Buffer dropped;
    if (layer > 0) {
      const T* below =
          tape.layer_outputs[static_cast<std::size_t>(layer - 1)].template as<T>();
      if (config.dropout > 0.0) {
        dropped = take<T>(pool, rows.total() * units);
        dropout_in_parallel(tape, layer - 1, rows, units, below,
                            dropped.template as<T>());
        below = dropped.template as<T>();
      }
      x = time_major(below, tape.batch_size, units);
      Buffer& memory = between[layer % 2];
      memory = take<T>(pool, rows.total() * units);
      d_x = time_major(memory.template as<T>(), tape.batch_size, units);
    }
    for (Index direction = 0; direction < config.directions(); ++direction) {
      const Column<T> column(tape, args.params, pool, layer, step, direction, true);
      column.run_back(args, x, columns(d_output, direction * config.output_size()),
                      d_x);
    }
    if (layer > 0 && config.dropout > 0.0) {
      dropout_in_parallel(tape, layer - 1, rows, units, static_cast<const T*>(d_x.data),
                          d_x.data);
    }
    d_output = read_only(d_x);
  }
}

#define FASTLSTM_CHECKPOINTS(T)                                                        \
  template void checkpointed_forward<T>(const ForwardArgs<T>&, BufferPool&, Tape<T>&); \
  template void checkpointed_backward<T>(const BackwardArgs<T>&, BufferPool&,          \
                                         const Tape<T>&);
FASTLSTM_CHECKPOINTS(float)
FASTLSTM_CHECKPOINTS(double)
#undef FASTLSTM_CHECKPOINTS

}  // namespace fastlstm
