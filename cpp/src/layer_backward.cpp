// One layer back through time: all rows of the batch together, or, where the layer is
// small, in groups of rows that share nothing before the end. The loop itself is in
// backward_loop.hpp.
#include <vector>

#include "backward_loop.hpp"

namespace fastlstm {
namespace {

// Groups of rows (see row_groups). Eight keep eight threads busy; smaller groups waste
// register tiles, or their time on adding sums up. Measured: with d_W of 13 KB (hidden
// 24) they cost one thread 4% and give two 24%; with 320 KB (hidden 128) 5% and
// nothing.
constexpr Index kMaxGroups = 8;
constexpr Index kHalfRows = 8;     // rows of each of two groups
constexpr Index kGroupRows = 16;   // rows of each of more groups
constexpr Index kGroupWork = 448;  // rows (t, n) of a group
constexpr Index kGroupBytes = 64 << 10;

// Some rows of the batch, which go through time apart from the others.
template <class T>
struct RowGroup {
  LayerPlan<T> plan;
  LayerBackward<T> args;
  BackwardLoop<T> loop;

  RowGroup(const LayerPlan<T>& whole, const LayerBackward<T>& of,
           const Team::Range& rows)
      : plan(rows_plan(whole, rows.end - rows.begin)),
        args(from_row(whole, of, rows.begin)),
        loop(plan, args) {}

  static LayerBackward<T> from_row(const LayerPlan<T>& plan, LayerBackward<T> args,
                                   Index row) {
    const auto advance = [](auto*& data, Index count) {
      if (data != nullptr) data += count;
    };
    const Index units = row * plan.hidden_size;
    advance(args.x.data, row * args.x.stride_n);
    advance(args.output.data, row * args.output.stride_n);
    advance(args.d_output.data, row * args.d_output.stride_n);
    advance(args.d_x.data, row * args.d_x.stride_n);
    advance(args.records, row * plan.record);
    advance(args.checkpoints, row * plan.width);
    for (const T** state : {&args.h0, &args.c0, &args.d_h_n, &args.d_c_n}) {
      advance(*state, units);
    }
    args.dropout.first = row;
    advance(args.d_h0, units);
    advance(args.d_c0, units);
    return args;
  }
};

// In how many groups of rows the batch goes through time, each with a d_W of its own:
// threads then share no data before the end. Depends on the shape alone.
template <class T>
Index row_groups(const LayerPlan<T>& plan) {
  if (plan.rows.offsets != nullptr || plan.rows.flags != nullptr) return 1;
  const Index columns = plan.input_size + plan.hidden_size;
  if (plan.padded_units * kSlots * columns * Index{sizeof(T)} > kGroupBytes) return 1;
  Index groups = 1;
  while (groups < kMaxGroups) {
    const Index rows = plan.batch_size / (2 * groups);
    if (rows < (groups == 1 ? kHalfRows : kGroupRows)) break;
    if (rows * plan.seq_len < kGroupWork) break;
    groups *= 2;
  }
  return groups;
}

template <class T>
void backward_in_groups(const LayerPlan<T>& plan, const LayerBackward<T>& args,
                        Index groups, BufferPool& pool) {
  const int threads =
      static_cast<int>(std::min<Index>(choose_split(plan).threads, groups));
  const auto rows_of = [&](Index group) {
    return Team(static_cast<int>(group), static_cast<int>(groups))
        .share(plan.batch_size);
  };
  BackwardLoop<T> whole(plan, args);
  whole.weights.adds = false;
  std::vector<WeightGradient<T>> sums(static_cast<std::size_t>(groups), whole.weights);
  // Groups differ by a row at most, and chunks of fewer rows may hold more in all.
  std::size_t most = 0;
  for (const Index group : {Index{0}, groups - 1}) {
    Arena arena;
    RowGroup<T>(plan, args, rows_of(group)).loop.take(arena);
    most = std::max(most, arena.used());
  }
  std::vector<char*> scratch(static_cast<std::size_t>(threads));
  Buffer memory;
  for (Arena arena;;) {
    whole.take_columns(arena);
    for (WeightGradient<T>& sum : sums) sum.take_sums(arena, threads);
    for (char*& piece : scratch) piece = arena.take<char>(static_cast<Index>(most));
    if (memory.data() != nullptr) break;
    memory = pool.acquire(arena.used());
    arena = Arena(memory.data());
  }
  const std::vector<WeightGradient<T>> others(sums.begin() + 1, sums.end());
  auto body = [&](const Team& team) {
    whole.pack_columns(team);
    for (Index group = team.rank(); group < groups; group += team.size()) {
      RowGroup<T> part(plan, args, rows_of(group));
      Arena arena(scratch[static_cast<std::size_t>(team.rank())]);
      part.loop.take(arena);
      part.loop.columns_x = whole.columns_x;
      part.loop.columns_h = whole.columns_h;
      part.loop.weights.sum_into(sums[static_cast<std::size_t>(group)]);
      part.loop.begin_state();
      part.loop.run({1, true}, Team(0, 1));
      part.loop.end_state();
    }
    team.barrier();
    sums.front().sum(others, team);
  };
  parallel(threads, body);
}

}  // namespace

template <class T>
void layer_backward(const LayerPlan<T>& plan, const LayerBackward<T>& args,
                    BufferPool& pool) {
  const Index groups = row_groups(plan);
  if (groups > 1) return backward_in_groups(plan, args, groups, pool);
  BackwardLoop<T> loop(plan, args);
  const Split split = choose_split(plan);
  // The weights in columns have a block of their own: the one of forward's weights in
  // panels fits, so that the two passes of a large layer share it.
  Buffer columns;
  for (Arena arena;;) {
    loop.take_columns(arena);
    if (columns.data() != nullptr) break;
    columns = pool.acquire(arena.used());
    arena = Arena(columns.data());
  }
  Buffer memory;
  for (Arena arena;;) {
    loop.take(arena);
    loop.weights.take_sums(arena, split.threads);
    if (memory.data() != nullptr) break;
    memory = pool.acquire(arena.used());
    arena = Arena(memory.data());
  }
  loop.begin_state();
  auto body = [&](const Team& team) {
    loop.pack_columns(team);
    loop.run(split, team);
  };
  parallel(split.threads, body);
  loop.end_state();
}

template void layer_backward<float>(const LayerPlan<float>&,
                                    const LayerBackward<float>&, BufferPool&);
template void layer_backward<double>(const LayerPlan<double>&,
                                     const LayerBackward<double>&, BufferPool&);

}  // namespace fastlstm
