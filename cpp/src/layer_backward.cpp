// One layer back through time: all rows of the batch together, or, where the layer is
// small, in groups of rows that share nothing before the end; a sequence comes whole or
// in pieces. The loop itself is in backward_loop.hpp.
#include <memory>
#include <vector>

#include "backward_loop.hpp"

namespace fastlstm {
namespace {

// Groups of rows (see row_groups). Eight keep eight threads busy; smaller groups waste
// register tiles, or their time on adding sums up. Measured: with d_W of 13 KB (hidden
// 24) eight cost one thread 4% and give two 24%, with 320 KB (hidden 128) 5% and
// nothing; there two groups cost at most 3% and give two threads 4 to 16%.
constexpr Index kMaxGroups = 8;
constexpr Index kHalfRows = 8;     // rows of each of two groups
constexpr Index kGroupRows = 16;   // rows of each of more groups
constexpr Index kGroupWork = 448;  // rows (t, n) of a group
constexpr int kHalfTeams = 2;
constexpr Index kGroupBytes = 64 << 10;    // of d_W, for more groups than two
constexpr Index kHalvedBytes = 512 << 10;  // for two

// Some rows of the batch, which go through time apart from the others.
template <class T>
struct RowGroup {
  Index row;  // the first
  LayerPlan<T> plan;
  BackwardLoop<T> loop;

  RowGroup(const LayerPlan<T>& whole, const LayerBackward<T>& args,
           const Team::Range& rows)
      : row(rows.begin),
        plan(rows_plan(whole, rows.begin, rows.end - rows.begin)),
        loop(plan, own(whole, args)) {}

  // The arguments of a piece from the first row on.
  LayerBackward<T> own(const LayerPlan<T>& whole, LayerBackward<T> args) const {
    const auto advance = [](auto*& data, Index count) {
      if (data != nullptr) data += count;
    };
    const Index units = row * whole.hidden_size;
    advance(args.x.data, row * args.x.stride_n);
    advance(args.output.data, row * args.output.stride_n);
    advance(args.d_output.data, row * args.d_output.stride_n);
    advance(args.d_x.data, row * args.d_x.stride_n);
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
  const Index bytes = plan.padded_units * kSlots * columns * Index{sizeof(T)};
  const Index most = bytes <= kGroupBytes ? kMaxGroups : bytes <= kHalvedBytes ? 2 : 1;
  Index groups = 1;
  while (groups < most) {
    const Index rows = plan.batch_size / (2 * groups);
    if (rows < (groups == 1 ? kHalfRows : kGroupRows)) break;
    if (rows * plan.seq_len < kGroupWork) break;
    groups *= 2;
  }
  return groups;
}

// A layer whose rows go through time together.
template <class T>
struct JointBackward {
  LayerPlan<T> plan;
  BackwardLoop<T> loop;
  Split split;
  // The weights in columns have a block of their own: the one of forward's weights in
  // panels fits, so that the two passes of a large layer share it.
  Buffer columns, memory;

  JointBackward(const LayerPlan<T>& whole, const LayerBackward<T>& args,
                BufferPool& pool)
      : plan(whole), loop(plan, args), split(choose_split(plan)) {
    columns =
        acquire_pieces(pool, [&](Arena& arena) { loop.products.take_columns(arena); });
    memory = acquire_pieces(pool, [&](Arena& arena) {
      loop.take(arena, split.threads);
      loop.weights.take_sums(arena);
    });
    loop.begin_state();
  }

  void run(Index begin, Index end, const LayerBackward<T>& args) {
    const bool first = end == plan.seq_len;
    loop.set_piece(begin, end, args);
    auto body = [&](const Team& team) {
      if (first) loop.products.pack_columns(team);
      loop.run(split, team);
    };
    parallel(split.threads, body);
    if (begin == 0) loop.end_state();
  }
};

// A layer whose rows go through time in groups, one on each thread. With more threads
// than groups, two groups go on half of the threads each, or, where their number is
// odd, one after the other on all.
template <class T>
struct GroupedBackward {
  LayerPlan<T> plan;
  BackwardLoop<T> joint;  // for its packed weights and the gradients of all
  Index groups;
  Split split = {1, true};  // of one group
  int threads;
  bool keeps_scratch;  // of every group, from piece to piece or while they go at once
  std::vector<WeightGradient<T>> sums;
  std::vector<std::unique_ptr<RowGroup<T>>> parts;
  std::vector<char*> scratch;  // of each thread, or of each group
  Buffer memory;

  GroupedBackward(const LayerPlan<T>& whole, const LayerBackward<T>& args, Index count,
                  BufferPool& pool, bool pieces)
      : plan(whole),
        joint(plan, args),
        groups(count),
        threads(choose_split(plan).threads),
        sums(static_cast<std::size_t>(count), joint.weights) {
    for (WeightGradient<T>& sum : sums) sum.adds = false;
    std::size_t most = 0;
    for (Index group = 0; group < groups; ++group) {
      const Team::Range rows = Team(static_cast<int>(group), static_cast<int>(groups))
                                   .share(plan.batch_size);
      parts.push_back(std::make_unique<RowGroup<T>>(plan, args, rows));
    }
    share_threads();
    for (const auto& part : parts) {
      Arena arena;
      part->loop.take(arena, split.threads);
      most = std::max(most, arena.used());
    }
    keeps_scratch = pieces || split.threads > 1;
    scratch.resize(keeps_scratch ? parts.size() : static_cast<std::size_t>(threads));
    memory = acquire_pieces(pool, [&](Arena& arena) {
      joint.products.take_columns(arena);
      for (WeightGradient<T>& sum : sums) sum.take_sums(arena);
      for (char*& piece : scratch) piece = arena.take<char>(static_cast<Index>(most));
    });
  }

  void share_threads() {
    if (groups == kHalfTeams && threads > groups) {
      const bool halves = threads % kHalfTeams == 0;
      LayerPlan<T> part = parts.front()->plan;
      part.max_threads = halves ? threads / kHalfTeams : threads;
      split = choose_split(part);
      threads =
          std::max(kHalfTeams, halves ? kHalfTeams * split.threads : split.threads);
    } else {
      threads = static_cast<int>(std::min<Index>(threads, groups));
    }
  }

  void run(Index begin, Index end, const LayerBackward<T>& args) {
    const std::vector<WeightGradient<T>> others(sums.begin() + 1, sums.end());
    auto body = [&](const Team& team) {
      if (end == plan.seq_len) joint.products.pack_columns(team);
      if (team.size() == kHalfTeams * split.threads && split.threads > 1) {
        run_group(team.half(), begin, end, args, split, team.half_team(), team.half());
      } else if (team.size() == split.threads && split.threads > 1) {
        for (int group = 0; group < groups; ++group) {
          run_group(group, begin, end, args, split, team, group);
        }
      } else {
        for (int group = team.rank(); group < groups; group += team.size()) {
          run_group(group, begin, end, args, {1, true}, Team(0, 1),
                    keeps_scratch ? group : team.rank());
        }
      }
      if (begin > 0) return;
      team.barrier();
      sums.front().sum(others, team);
    };
    parallel(threads, body);
  }

  // All threads of the team call this.
  void run_group(int group, Index begin, Index end, const LayerBackward<T>& args,
                 const Split& way, const Team& team, int block) {
    RowGroup<T>& part = *parts[static_cast<std::size_t>(group)];
    if (team.rank() == 0) {
      if (end == plan.seq_len) {
        Arena arena(scratch[static_cast<std::size_t>(block)]);
        part.loop.take(arena, split.threads);
        part.loop.products.share_columns(joint.products);
        part.loop.weights.sum_into(sums[static_cast<std::size_t>(group)]);
        part.loop.begin_state();
      }
      part.loop.set_piece(begin, end, part.own(plan, args));
    }
    team.barrier();
    part.loop.run(way, team);
    if (begin == 0 && team.rank() == 0) part.loop.end_state();
  }
};

}  // namespace

template <class T>
void layer_backward(const LayerPlan<T>& plan, const LayerBackward<T>& args,
                    BufferPool& pool) {
  const Index groups = row_groups(plan);
  if (groups > 1) {
    GroupedBackward<T>(plan, args, groups, pool, false).run(0, plan.seq_len, args);
  } else {
    JointBackward<T>(plan, args, pool).run(0, plan.seq_len, args);
  }
}

template <class T>
PieceBackward<T> layer_backward_pieces(const LayerPlan<T>& whole,
                                       const LayerBackward<T>& args, BufferPool& pool) {
  const Index groups = row_groups(whole);
  const auto runs = [](auto pass) {
    return [pass](Index begin, Index end, const LayerBackward<T>& piece) {
      pass->run(begin, end, piece);
    };
  };
  if (groups > 1) {
    return runs(std::make_shared<GroupedBackward<T>>(whole, args, groups, pool, true));
  }
  return runs(std::make_shared<JointBackward<T>>(whole, args, pool));
}

template void layer_backward<float>(const LayerPlan<float>&,
                                    const LayerBackward<float>&, BufferPool&);
template void layer_backward<double>(const LayerPlan<double>&,
                                     const LayerBackward<double>&, BufferPool&);
template PieceBackward<float> layer_backward_pieces<float>(const LayerPlan<float>&,
                                                           const LayerBackward<float>&,
                                                           BufferPool&);
template PieceBackward<double> layer_backward_pieces<double>(
    const LayerPlan<double>&, const LayerBackward<double>&, BufferPool&);

}  // namespace fastlstm
