// The backward time loop of one layer (BPTT), in chunks of steps from the last to the
// first. For every step t of a chunk:
//   d_h_t = d_output_t + d_h_{t+1 -> t};  d_gates_t = cell'(d_h_t, d_c_t)
//   d_h_{t -> t-1} = d_gates_t W_hh;      d_x_t = d_gates_t W_ih
// and for the chunk as a whole, while its d_gates are in cache:
//   d_W_ih += d_gates^T x;  d_W_hh += d_gates^T h_{t-1};  d_bias += sum of d_gates
// The chunks depend on the shape alone, so no sum depends on the number of threads.
#include <algorithm>

#include "layer.hpp"

namespace fastlstm {
namespace {

// Rows (t, n) of a chunk: 256 rows of 4 x 128 floats are 512 KB, half of a usual L2.
constexpr Index kChunkRows = 256;
// One d_W product takes at most this many rows, so that a step of a huge batch is cut.
constexpr Index kOuterRows = 512;

// With fewer inputs than this, d_x is a dot product for each input: column blocks would
// be mostly padding.
constexpr Index kNarrowInput = 8;

// See single_row(); measured with hidden 133 (faster unpacked) and 785 (slower).
constexpr Index kUnpackedBytes = 512 << 10;
constexpr Index kUnpackedSteps = 4;

// A d_W accumulator in panel layout, and the packed operand it is summed from.
template <class T>
struct OuterSide {
  const PanelMap* map;
  Index size;   // columns: I or H
  T* operand;   // (groups, chunk rows, tile)
  T* d_weight;  // (P, size, slots * W); with one chunk a panel for each thread
};

template <class T>
struct BackwardLoop {
  const LayerPlan<T>& plan;
  const LayerBackward<T>& args;
  Index chunk_steps;
  T* columns_x;  // W_ih for d_x: in column blocks, or in panels if narrow
  T* columns_h;  // W_hh in column blocks, for d_h; not for a batch of one
  T* d_gates;    // (P, chunk rows, 4 W)
  T* d_h;        // (N, padded units)
  T* d_c;        // LSTM: (P, N, W)
  T* c_first;    // LSTM: (P, N, W)
  T* d_bias;     // (P, 4 W)
  T* zeros;      // (padded units)
  OuterSide<T> side_x, side_h;

  Index blocks(Index cols) const {
    return (cols + plan.gate_line() - 1) / plan.gate_line();
  }
  // A batch of one reads W_hh where it lies, if it stays in L2 or the steps are too few
  // to repay packing: rows that straddle cache lines are read at half speed from L3.
  bool single_row() const {
    const Index bytes = plan.hidden_size * plan.hidden_size * kSlots * Index{sizeof(T)};
    return plan.batch_size == 1 &&
           (bytes <= kUnpackedBytes || plan.seq_len <= kUnpackedSteps);
  }
  bool narrow() const { return plan.input_size < kNarrowInput; }
  Index chunk_rows() const { return chunk_steps * plan.batch_size; }
  Index d_gate_panel() const { return chunk_rows() * plan.gate_line(); }

  void run(const Split& split, const Team& team) const {
    prepare(team);
    const Part part = part_of(plan, split, team);
    for (Index end = plan.seq_len; end > 0;) {
      const Index begin = std::max<Index>(0, end - chunk_steps);
      for (Index step = end - 1; step >= begin; --step) {
        const Index chunk_row = (step - begin) * plan.batch_size + part.rows.begin;
        cell_backward(step, chunk_row, part);
        if (!split.by_rows) team.barrier();
        if (step > 0 || args.d_h0 != nullptr) {
          state_gradient(step, chunk_row, part, split.by_rows ? Team(0, 1) : team);
        }
        if (!split.by_rows) team.barrier();
      }
      pack_operands(begin, end,
                    split.by_rows ? part.rows : team.share(plan.batch_size));
      team.barrier();
      if (args.d_x.data != nullptr) input_gradient(begin, end, team);
      weight_gradient(begin, end, team);
      team.barrier();
      end = begin;
    }
  }

  void prepare(const Team& team) const {
    const Kernels<T>& k = *plan.kernels;
    if (!single_row()) {
      const Team::Range h = team.share(blocks(plan.hidden_size));
      k.pack_columns(plan.map_h, args.params.weight_hh, plan.hidden_size, h.begin,
                     h.end, columns_h);
    }
    if (args.d_x.data != nullptr) {
      const Team::Range x =
          team.share(narrow() ? plan.panels : blocks(plan.input_size));
      (narrow() ? k.pack_panels : k.pack_columns)(plan.map_x, args.params.weight_ih,
                                                  plan.input_size, x.begin, x.end,
                                                  columns_x);
    }
    team.barrier();
  }

  // h before a step: (rows, H) and its row stride.
  const T* h_before(Index step, Index row, Index& stride) const {
    if (step > 0) {
      stride = args.output.stride_n;
      return args.output.data + plan.time_of(step - 1) * args.output.stride_t +
             row * stride;
    }
    stride = args.h0 != nullptr ? plan.hidden_size : 0;
    return args.h0 != nullptr ? args.h0 + row * stride : zeros;
  }

  void cell_backward(Index step, Index chunk_row, const Part& part) const {
    const Kernels<T>& k = *plan.kernels;
    const Index row = part.rows.begin;
    const StepView<const T> gates = record_view(plan, args.records, 0);
    const StepView<const T> c = record_view(plan, args.records, plan.gate_line());
    const Index state_panel = plan.batch_size * plan.width;

    PointwiseBackwardArgs<T> a{};
    a.rows = part.rows.end - row;
    a.panel_begin = part.panels.begin;
    a.panel_end = part.panels.end;
    a.hidden_size = plan.hidden_size;
    a.gates = gates.at(step, row);
    a.gate_row_stride = gates.row_stride;
    a.gate_panel_stride = gates.panel_stride;
    a.h_prev = h_before(step, row, a.h_prev_stride);
    if (args.d_output.data != nullptr) {
      a.d_output = args.d_output.data + plan.time_of(step) * args.d_output.stride_t +
                   row * args.d_output.stride_n;
      a.d_output_stride = args.d_output.stride_n;
    }
    a.d_h = d_h + row * plan.padded_units;
    a.d_h_stride = plan.padded_units;
    a.d_gates = d_gates + chunk_row * plan.gate_line();
    a.d_gate_panel_stride = d_gate_panel();
    a.cell_activation = static_cast<int>(plan.cell_activation);
    a.output_activation = static_cast<int>(plan.output_activation);
    switch (plan.cell) {
      case CellKind::lstm:
        a.c = c.at(step, row);
        a.c_row_stride = c.row_stride;
        a.c_panel_stride = c.panel_stride;
        a.c_prev = step > 0 ? c.at(step - 1, row) : c_first + row * plan.width;
        a.c_prev_row_stride = step > 0 ? c.row_stride : plan.width;
        a.c_prev_panel_stride = step > 0 ? c.panel_stride : state_panel;
        a.d_c = d_c + row * plan.width;
        a.d_c_panel_stride = state_panel;
        k.lstm_backward(a);
        break;
      case CellKind::gru:
        k.gru_backward(a);
        break;
      case CellKind::rnn:
        k.rnn_backward(a);
        break;
    }
  }

  // A product whose left side is rows of d_gates, over the slots of `map`.
  ProductArgs<T> product_args(const PanelMap& map, Index chunk_row, Index rows) const {
    ProductArgs<T> a{};
    a.rows = rows;
    a.a = d_gates + chunk_row * plan.gate_line() + map.slot_begin * plan.width;
    a.a_row_stride = plan.gate_line();
    a.a_panel_stride = d_gate_panel();
    a.panels = plan.panels;
    a.panel_size = slots_of(map) * plan.width;
    return a;
  }

  // d_h_{t -> t-1} = d_gates_t W_hh, on top of the GRU's direct part.
  void state_gradient(Index step, Index chunk_row, const Part& part,
                      const Team& team) const {
    const Index rows = part.rows.end - part.rows.begin;
    const bool accumulate = plan.cell == CellKind::gru;
    ProductArgs<T> a = product_args(plan.map_h, chunk_row, rows);
    if (single_row()) {
      const Team::Range cols = team.share(plan.hidden_size, plan.width);
      plan.kernels->row_product({&plan.map_h, cols.begin, cols.end, plan.hidden_size,
                                 a.a, a.a_panel_stride, plan.panels,
                                 args.params.weight_hh, d_h, accumulate});
      return;
    }
    const Team::Range range = team.share(blocks(plan.hidden_size));
    a.block_begin = range.begin;
    a.block_end = range.end;
    a.descending = step % 2 != 0;
    a.cols = plan.hidden_size;
    a.b = columns_h;
    a.c = d_h + part.rows.begin * plan.padded_units;
    a.c_stride = plan.padded_units;
    a.accumulate = accumulate;
    plan.kernels->product(a);
  }

  // d_x of a chunk. The rows of a register tile are taken along the longer of the two
  // axes, batch or time.
  void input_gradient(Index begin, Index end, const Team& team) const {
    const Index steps = end - begin;
    const bool along_batch = plan.batch_size >= steps;
    const Index outer_count = along_batch ? steps : plan.batch_size;
    const Index inner_count = along_batch ? plan.batch_size : steps;
    const Index step_sign = plan.reverse ? -1 : 1;
    const Team::Range share = team.share(inner_count, plan.kernels->outer_tile);
    for (Index i = 0; i < outer_count; ++i) {
      const Index step = along_batch ? i : share.begin;
      const Index row = along_batch ? share.begin : i;
      ProductArgs<T> a = product_args(plan.map_x, step * plan.batch_size + row,
                                      share.end - share.begin);
      if (!along_batch) a.a_row_stride = plan.batch_size * plan.gate_line();
      a.block_end = blocks(plan.input_size);
      a.cols = plan.input_size;
      a.b = columns_x;
      a.c = args.d_x.data + plan.time_of(begin + step) * args.d_x.stride_t +
            row * args.d_x.stride_n;
      a.c_stride = along_batch ? args.d_x.stride_n : step_sign * args.d_x.stride_t;
      a.accumulate = args.accumulate_d_x;
      (narrow() ? plan.kernels->narrow_product : plan.kernels->product)(a);
    }
  }

  // x_t and h_{t-1} of a chunk, in the layout of the d_W product.
  void pack_operands(Index begin, Index end, const Team::Range& rows) const {
    const Kernels<T>& k = *plan.kernels;
    const Index count = rows.end - rows.begin;
    for (Index step = begin; step < end; ++step) {
      const Index chunk_row = (step - begin) * plan.batch_size + rows.begin;
      k.pack_outer(args.x.data + plan.time_of(step) * args.x.stride_t +
                       rows.begin * args.x.stride_n,
                   count, plan.input_size, args.x.stride_n, chunk_row,
                   chunk_rows() * k.outer_tile, side_x.operand);
      Index stride = 0;
      const T* h = h_before(step, rows.begin, stride);
      k.pack_outer(h, count, plan.hidden_size, stride, chunk_row,
                   chunk_rows() * k.outer_tile, side_h.operand);
    }
  }

  // Panel by panel; after the last chunk a panel is added to the caller's gradients at
  // once, while it is in cache.
  void weight_gradient(Index begin, Index end, const Team& team) const {
    const Index rows = (end - begin) * plan.batch_size;
    if (rows == 0) return;
    const Team::Range panels = team.share(plan.panels);
    for (Index p = panels.begin; p < panels.end; ++p) {
      const Index kept = chunk_steps >= plan.seq_len ? team.rank() : p;
      for (Index first = 0; first < rows; first += kOuterRows) {
        const Index count = std::min(kOuterRows, rows - first);
        const bool accumulate = first > 0 || end < plan.seq_len;
        const T* d_gates_p = d_gates + p * d_gate_panel() + first * plan.gate_line();
        for (const OuterSide<T>* side : {&side_x, &side_h}) {
          plan.kernels->outer({count, side->size, first, side->operand,
                               chunk_rows() * plan.kernels->outer_tile,
                               d_gates_p + side->map->slot_begin * plan.width,
                               static_cast<int>(slots_of(*side->map)),
                               side->d_weight + kept * panel_size(*side), accumulate});
        }
        plan.kernels->column_sum(d_gates_p, count, accumulate,
                                 d_bias + p * plan.gate_line());
      }
      if (begin == 0) add_gradients(p, kept);
    }
  }

  Index panel_size(const OuterSide<T>& side) const {
    return side.size * slots_of(*side.map) * plan.width;
  }

  void add_gradients(Index panel, Index kept) const {
    const auto add = [&](const OuterSide<T>& side, T* grad) {
      plan.kernels->unpack_add(
          *side.map, panel, side.d_weight + kept * panel_size(side), side.size, grad);
    };
    add(side_x, args.grads.weight_ih);
    add(side_h, args.grads.weight_hh);
    if (args.grads.bias != nullptr) add_bias(plan.map_x, panel, args.grads.bias);
    if (args.grads.bias_hn != nullptr) {
      add_bias(bias_hn_map(plan.map_h), panel, args.grads.bias_hn);
    }
  }

  // d_bias is a weight of one column whose lines hold all four slots.
  void add_bias(const PanelMap& map, Index panel, T* bias) const {
    for (int s = map.slot_begin; s < map.slot_end; ++s) {
      const Index unit = panel * map.panel_units + map.slot_unit[s];
      const Index lanes = std::min(plan.width, map.units - unit);
      const T* from = d_bias + (panel * kSlots + s) * plan.width;
      for (Index j = 0; j < lanes; ++j) bias[map.slot_row[s] + unit + j] += from[j];
    }
  }

  void begin_state() const {
    std::fill_n(zeros, plan.padded_units, T(0));
    std::fill_n(d_h, plan.batch_size * plan.padded_units, T(0));
    if (args.d_h_n != nullptr) {
      for (Index n = 0; n < plan.batch_size; ++n) {
        std::copy_n(args.d_h_n + n * plan.hidden_size, plan.hidden_size,
                    d_h + n * plan.padded_units);
      }
    }
    if (plan.lstm()) {
      pack_state(plan, args.c0, c_first);
      pack_state(plan, args.d_c_n, d_c);
    }
  }

  void end_state() const {
    if (args.d_h0 != nullptr) {
      for (Index n = 0; n < plan.batch_size; ++n) {
        std::copy_n(d_h + n * plan.padded_units, plan.hidden_size,
                    args.d_h0 + n * plan.hidden_size);
      }
    }
    if (args.d_c0 != nullptr && plan.lstm()) {
      unpack_state(plan, d_c, plan.width, plan.batch_size * plan.width, args.d_c0);
    }
  }
};

}  // namespace

template <class T>
void layer_backward(const LayerPlan<T>& plan, const LayerBackward<T>& args,
                    BufferPool& pool) {
  const Kernels<T>& k = *plan.kernels;
  const Index rows = plan.batch_size;
  const Index steps = std::clamp<Index>(kChunkRows / std::max<Index>(1, rows), 1,
                                        std::max<Index>(1, plan.seq_len));
  BackwardLoop<T> loop{plan, args, steps, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  const Split split = choose_split(plan);
  const Index lanes = plan.panels * plan.width;
  const Index kept_panels = steps >= plan.seq_len ? split.threads : plan.panels;
  const auto padded = [&](Index cols) {
    return (cols + k.outer_tile - 1) / k.outer_tile * k.outer_tile;
  };
  const auto block_cols = [&](Index cols) {
    return (cols + plan.width - 1) / plan.width * plan.width;
  };
  Buffer memory;
  for (Arena arena;;) {
    const auto take_side = [&](const PanelMap& map, Index size) {
      return OuterSide<T>{
          &map, size, arena.take<T>(checked_product(loop.chunk_rows(), padded(size))),
          arena.take<T>(
              checked_product(kept_panels * plan.width * slots_of(map), size))};
    };
    const Index h_lines = loop.single_row() ? 0 : lanes * slots_of(plan.map_h);
    const Index x_lines = args.d_x.data == nullptr ? 0 : lanes * slots_of(plan.map_x);
    loop.columns_h =
        arena.take<T>(checked_product(h_lines, block_cols(plan.hidden_size)));
    loop.columns_x =
        arena.take<T>(checked_product(x_lines, block_cols(plan.input_size)));
    loop.d_gates = arena.take<T>(checked_product(loop.chunk_rows(), lanes * kSlots));
    loop.d_h = arena.take<T>(checked_product(rows, plan.padded_units));
    loop.d_c = arena.take<T>(plan.lstm() ? rows * lanes : 0);
    loop.c_first = arena.take<T>(plan.lstm() ? rows * lanes : 0);
    loop.d_bias = arena.take<T>(lanes * kSlots);
    loop.zeros = arena.take<T>(plan.padded_units);
    loop.side_x = take_side(plan.map_x, plan.input_size);
    loop.side_h = take_side(plan.map_h, plan.hidden_size);
    if (memory.data() != nullptr) break;
    memory = pool.acquire(arena.used());
    arena = Arena(memory.data());
  }
  loop.begin_state();
  auto body = [&](const Team& team) { loop.run(split, team); };
  parallel(split.threads, body);
  loop.end_state();
}

template void layer_backward<float>(const LayerPlan<float>&,
                                    const LayerBackward<float>&, BufferPool&);
template void layer_backward<double>(const LayerPlan<double>&,
                                     const LayerBackward<double>&, BufferPool&);

}  // namespace fastlstm
