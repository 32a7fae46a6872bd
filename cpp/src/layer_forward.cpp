// The forward pass of one layer: scratch memory, the time loop, the last state.
#include <algorithm>
#include <array>

#include "forward_loop.hpp"

namespace fastlstm {
namespace {

// Each row's state after its last step; a row that never begins keeps the initial one.
template <class T>
void write_last_state(const ForwardLoop<T>& loop, const LayerForward<T>& args) {
  const LayerPlan<T>& plan = loop.plan;
  const SequenceRows& rows = plan.rows;
  const Index units = plan.hidden_size;
  const Team::Range panels = {0, plan.panels};
  const Index begun = plan.seq_len > 0 ? rows.count(0) : 0;
  for (Index n = begun; n < plan.batch_size; ++n) {
    const T* h = args.h0 != nullptr ? args.h0 + n * units : loop.previous.zeros;
    std::copy_n(h, units, args.h_n + n * units);
  }
  if (plan.lstm()) {
    unpack_state<T>(plan, loop.first_c(), {{begun, plan.batch_size}, panels}, args.c_n);
  }
  // Rows that are not packed all have their last step at the end.
  const bool packed = rows.offsets != nullptr;
  for (Index step = packed ? 0 : std::max<Index>(0, plan.seq_len - 1);
       step < plan.seq_len; ++step) {
    const Index t = plan.time_of(step);
    // The rows that have no step after time t in this direction.
    const Index first = rows.carried(t, !plan.reverse);
    for (Index n = first; n < rows.count(t); ++n) {
      std::copy_n(loop.h_at(t, n), units, args.h_n + n * units);
    }
    if (plan.lstm() && first < rows.count(t)) {
      const RecordCut cut = loop.keep() ? *args.record_cut : RecordCut{};
      for_record_pieces(plan, cut, {{first, rows.count(t)}, panels},
                        [&](const Part& part, const Part& piece) {
                          unpack_state<T>(plan, loop.c_at(t, piece), part, args.c_n);
                        });
    }
  }
}

// One direction: its scratch memory and its time loop.
template <class T>
struct DirectionForward {
  const LayerPlan<T>& plan;
  const LayerForward<T>& args;
  PreviousState<T> previous;
  ForwardLoop<T> loop;
  Split split;
  Buffer memory;

  DirectionForward(const LayerPlan<T>& of, const LayerForward<T>& arrays,
                   BufferPool& pool)
      : plan(of),
        args(arrays),
        previous{plan,
                 {args.output.data, args.output.stride_t, args.output.stride_n},
                 args.h0},
        loop{plan, args.x, args.output, previous},
        split(choose_split(plan)) {
    loop.records = args.records;
    loop.weight_hh = args.params.weight_hh;
    T* zeros = nullptr;
    memory = acquire_pieces(pool, [&](Arena& arena) {
      loop.packed = args.packed != nullptr ? *args.packed : take_weights(plan, arena);
      loop.take(arena, split);
      loop.state = arena.take<T>(
          plan.lstm() ? checked_product(plan.batch_size, plan.panels * plan.width) : 0);
      previous.take(arena, args.dropout);
      zeros = arena.take<T>(plan.padded_units);
    });
    std::fill_n(zeros, plan.padded_units, T(0));
    previous.zeros = zeros;
    if (previous.factors != nullptr) {
      args.dropout.fill(plan.batch_size, plan.hidden_size, plan.padded_units,
                        previous.factors);
    }
    if (plan.lstm()) pack_state(plan, args.c0, loop.state);
  }
  DirectionForward(const DirectionForward&) = delete;
  DirectionForward& operator=(const DirectionForward&) = delete;

  // All threads of the team call this.
  void run(const Team& team) {
    if (args.packed == nullptr || args.packs)
      pack_weights(plan, args.params, team, loop.packed);
    if (loop.keep() && team.rank() == 0) {
      const bool packed_rows = plan.rows.offsets != nullptr;
      *args.record_cut =
          packed_rows ? RecordCut{} : RecordCut{team.size(), split.by_rows};
    }
    loop.run(split, team);
  }
};

}  // namespace

template <class T>
void layer_forward(const LayerPlan<T>& plan, const LayerForward<T>& args,
                   BufferPool& pool) {
  DirectionForward<T> pass(plan, args, pool);
  auto body = [&](const Team& team) { pass.run(team); };
  parallel(pass.split.threads, body);
  write_last_state(pass.loop, args);
}

template <class T>
void directions_forward(std::array<LayerPlan<T>, 2> plans,
                        const std::array<LayerForward<T>, 2>& args, BufferPool& pool) {
  const int each = threads_side_by_side(plans[0]);
  if (each == 0) {
    for (const std::size_t i : {0, 1}) layer_forward(plans[i], args[i], pool);
    return;
  }
  for (LayerPlan<T>& plan : plans) plan.max_threads = each;
  DirectionForward<T> first(plans[0], args[0], pool);
  DirectionForward<T> second(plans[1], args[1], pool);
  const int threads = 2 * first.split.threads;
  auto body = [&](const Team& team) {
    if (team.size() == threads) {
      (team.half() == 0 ? first : second).run(team.half_team());
    } else if (team.rank() == 0) {  // there are not so many
      first.run(Team(0, 1));
      second.run(Team(0, 1));
    }
  };
  parallel(threads, body);
  write_last_state(first.loop, args[0]);
  write_last_state(second.loop, args[1]);
}

template void layer_forward<float>(const LayerPlan<float>&, const LayerForward<float>&,
                                   BufferPool&);
template void layer_forward<double>(const LayerPlan<double>&,
                                    const LayerForward<double>&, BufferPool&);
template void directions_forward<float>(std::array<LayerPlan<float>, 2>,
                                        const std::array<LayerForward<float>, 2>&,
                                        BufferPool&);
template void directions_forward<double>(std::array<LayerPlan<double>, 2>,
                                         const std::array<LayerForward<double>, 2>&,
                                         BufferPool&);

}  // namespace fastlstm
