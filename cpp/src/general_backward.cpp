// The backward time loop of the general path, in chunks of steps from the last to the
// first, for every step t of a chunk:
//   d_h += d_output_t;  d_sums = cell'(d_h, d_c);  d_h = d_sums W_hh;  d_x_t = d_sums
//   W_ih
// and for the chunk as a whole the gradients of all parameters. d_h and d_c of all rows
// are kept in place. The chunks depend on the shape alone, so no sum depends on the
// number of threads, nor on the pieces that a sequence may come in.
#include <algorithm>
#include <memory>

#include "general.hpp"

namespace fastlstm {
namespace {

// Rows (t, n) of a chunk, as in layer_backward.cpp.
constexpr Index kChunkRows = 256;

// A weight gradient, in panel layout: d_weight += d_sums^T operand.
template <class T>
struct WeightSide {
  PanelMap map;
  Index panels, size;  // size: columns of the weight
  T* operand;          // (groups, chunk rows, tile); see pack_outer
  const T* d_sums;     // (panels, chunk rows, 4 W)
  T* d_weight;         // (panels, size, slots * W)
  T* grad;             // the caller's
};

// A gradient of vectors: d_vector += sum over rows of line.
template <class T>
struct VectorSide {
  T* line;      // (P, chunk rows, 4 W)
  T* d_vector;  // (P, 4 W)
};

constexpr int kWeightSides = 3;
constexpr int kVectorSides = 5;

template <class T>
struct GeneralBackwardLoop {
  const LayerPlan<T>& whole;
  LayerPlan<T> plan;  // of the piece at hand, as the arguments
  LayerBackward<T> args;
  Index chunk_steps;
  Index chunk_rows;
  Index piece_begin = 0;  // in the whole; the steps of the piece count from here
  GeneralCell<T> cell{};
  CellVectors<T> vectors{};
  T* bias = nullptr;       // (P, 4 W)
  T* zeros = nullptr;      // a row as long as any operand
  T* columns_x = nullptr;  // W_ih, W_hh, and W_hr or W_hn, in column blocks
  T* columns_h = nullptr;
  T* columns_inner = nullptr;
  T* d_gates =
      nullptr;  // (P, chunk rows, 4 W), by the sums but for layer normalisation
  T* d_sums_x =
      nullptr;  // the same by W_ih x and by W_hh h; d_gates without normalisation
  T* d_sums_h = nullptr;
  T* d_projected =
      nullptr;          // (output panels, chunk rows, 4 W), by h behind the projection
  T* d_h = nullptr;     // (N, output stride)
  T* d_c = nullptr;     // LSTM: (N, stride)
  T* d_step = nullptr;  // (N, stride), by h of the step before its projection
  T* h_before = nullptr;  // (N, output stride)
  T* factors = nullptr;   // recurrent dropout: (N, output stride), as the next two
  T* fed = nullptr;       // what it leaves of h_before, for W_hh
  T* d_fed = nullptr;     // by that
  T* inner = nullptr;     // (N, stride), as in forward
  T* d_inner = nullptr;   // (N, stride), by r * h
  T* zone_c = nullptr;    // (N, stride)
  T* zone_h = nullptr;    // (N, output stride)
  T* scratch = nullptr;   // (threads, 3, stride)
  WeightSide<T> weights[kWeightSides] = {};  // of x, of h, and of the inner product
  VectorSide<T> lines[kVectorSides] = {};    // bias, peephole, gain_ih, gain_hh, norm_c

  Index output_stride() const { return padded(plan, plan.output_size); }
  Index panel_stride() const { return chunk_rows * plan.gate_line(); }
  bool inner_product() const { return projects(plan) || resets_before(plan); }
  Index longest_operand() const { return std::max(plan.input_size, plan.hidden_size); }
  int weight_sides() const { return inner_product() ? kWeightSides : 2; }
  bool dropping() const { return args.dropout.p > 0; }
  // h of the step before also gets a part that does not go through W_hh.
  bool direct() const {
    return plan.cell == CellKind::gru || plan.options.zoneout_h > 0;
  }

  // Goes on to an earlier piece, or to the whole where it is the only one.
  void set_piece(Index begin, Index end, const LayerBackward<T>& arrays) {
    piece_begin = begin;
    plan = whole.piece(begin, end);
    args = arrays;
  }

  void run(const Team& team) const {
    const Team::Range share = team.share(plan.batch_size, plan.kernels->outer_tile);
    T* const own_scratch = scratch + team.rank() * 3 * cell.stride;
    for (Index end = piece_begin + plan.seq_len; end > piece_begin;) {
      const Index chunk_end =
          whole.seq_len - (whole.seq_len - end) / chunk_steps * chunk_steps;
      const Index chunk_begin = std::max<Index>(0, chunk_end - chunk_steps);
      const Index begin = std::max(chunk_begin, piece_begin);
      for (Index step = end - 1; step >= begin; --step) {
        take_step(step - piece_begin, whole.rows_between(chunk_begin, step), share,
                  own_scratch);
      }
      team.barrier();
      if (begin == chunk_begin) {
        sum_gradients(whole.rows_between(chunk_begin, chunk_end), team);
      }
      if (begin == 0) add_gradients(team);
      team.barrier();
      end = begin;
    }
  }

  void prepare(const Team& team) const {
    const Kernels<T>& k = *plan.kernels;
    const auto pack = [&](const PanelMap& map, const T* w, Index cols, T* columns) {
      const Team::Range blocks = team.share(column_blocks(plan, cols));
      k.pack_columns(map, w, cols, blocks.begin, blocks.end, columns);
    };
    pack(weights[1].map, args.params.weight_hh, plan.output_size, columns_h);
    if (args.d_x.data != nullptr) {
      pack(plan.map_x, args.params.weight_ih, plan.input_size, columns_x);
    }
    if (inner_product()) {
      pack(weights[2].map,
           projects(plan) ? args.params.weight_hr : args.params.weight_hh,
           plan.hidden_size, columns_inner);
    }
    if (team.rank() == 0) {
      pack_vectors(plan, args.params, vectors);
      pack_norm_bias(plan, args.params, bias);
    }
    team.barrier();
  }

  void take_step(Index step, Index chunk_begin, const Team::Range& share,
                 T* own_scratch) const {
    const Index t = plan.time_of(step);
    const Index end = std::min(share.end, plan.rows.count(t));
    for_flagged_rows(plan.rows, t, kRowHeld, share.begin, end,
                     [&](Index row) { pass_by(t, row, chunk_begin + row); });
    for_live_rows(plan.rows, t, share.begin, end, [&](Index begin, Index stop) {
      step_back(step, begin, stop - begin, chunk_begin + begin, own_scratch);
    });
    for_flagged_rows(plan.rows, t, kRowReset, share.begin, end, [&](Index row) {
      std::fill_n(d_h + row * output_stride(), output_stride(), T(0));
      if (plan.lstm()) std::fill_n(d_c + row * cell.stride, cell.stride, T(0));
    });
  }

  // A held row: its output is the state before, and no parameter had a part in it.
  void pass_by(Index t, Index row, Index chunk_row) const {
    if (args.d_output.data != nullptr) {
      const T* d_out = plan.rows.at(args.d_output, t, row);
      T* d = d_h + row * output_stride();
      for (Index u = 0; u < plan.output_size; ++u) d[u] += d_out[u];
    }
    if (args.d_x.data != nullptr && !args.accumulate_d_x) {
      std::fill_n(plan.rows.at(args.d_x, t, row), plan.input_size, T(0));
    }
    const auto clear = [&](T* data, Index panels) {
      for (Index p = 0; data != nullptr && p < panels; ++p) {
        std::fill_n(data + p * panel_stride() + chunk_row * plan.gate_line(),
                    plan.gate_line(), T(0));
      }
    };
    for (T* data : {d_gates, d_sums_x, d_sums_h}) clear(data, plan.panels);
    for (const VectorSide<T>& side : lines) clear(side.line, plan.panels);
    if (projects(plan)) clear(d_projected, weights[2].panels);
    for (int side = 0; side < weight_sides(); ++side) {
      pack_rows(weights[side], zeros, 0, 1, chunk_row);
    }
  }

  void step_back(Index step, Index row, Index count, Index chunk_row,
                 T* own_scratch) const {
    const Index t = plan.time_of(step);
    const GeneralKernels<T>& k = plan.kernels->general;
    find_h_before(step, row, count);
    const Index at_h = row * output_stride();
    const T* h_fed = h_before + at_h;
    T* d_h_fed = d_h + at_h;
    if (dropping()) {
      drop_rows(factors + at_h, count, output_stride(), h_fed, fed + at_h);
      h_fed = fed + at_h;
      d_h_fed = d_fed + at_h;
    }
    collect_d_h(t, row, count, chunk_row);

    const Index at = row * cell.stride;
    GeneralBackwardArgs<T> a{};
    a.rows = count;
    a.records = record_at(plan, args.records, plan.rows.first(t) + row);
    a.row_stride = plan.panels * plan.record;
    a.h_prev = h_before + at_h;
    a.h_fed = h_fed;
    a.d_h = d_step + at;
    a.d_gates = d_gates + chunk_row * plan.gate_line();
    a.d_panel_stride = panel_stride();
    a.scratch = own_scratch;
    if (inner_product()) a.inner = inner + at;
    switch (plan.cell) {
      case CellKind::lstm: {
        a.d_c = d_c + at;
        if (plan.options.zoneout_c > 0) a.zone_c = zones_of(t, row, count, true);
        const Index line = chunk_row * plan.gate_line();
        a.line_peephole = lines[1].line + line;
        a.line_gain_ih = lines[2].line + line;
        a.line_gain_hh = lines[3].line + line;
        a.line_gain_c = lines[4].line + line;
        a.d_sums_x = d_sums_x + line;
        a.d_sums_h = d_sums_h + line;
        k.lstm_backward(cell, a);
        break;
      }
      case CellKind::gru:
        a.d_h_prev = d_h + at_h;
        k.gru_backward(cell, a);
        if (resets_before(plan)) {
          multiply(weights[2].map, a.d_gates, plan.panels, count, columns_inner,
                   plan.hidden_size, d_inner + at, cell.stride, false);
          a.d_reset_h = d_inner + at;
          a.d_h_fed = d_h_fed;
          if (dropping()) std::fill_n(d_h_fed, count * output_stride(), T(0));
          k.gru_reset_backward(cell, a);
        }
        break;
      case CellKind::rnn:
        k.rnn_backward(cell, a);
        break;
    }
    const Index line = chunk_row * plan.gate_line();
    multiply(weights[1].map, d_sums_h + line, plan.panels, count, columns_h,
             plan.output_size, d_h_fed, output_stride(),
             dropping() ? resets_before(plan) : direct());
    if (dropping()) pass_dropout(row, count);
    if (args.d_x.data != nullptr) {
      multiply(plan.map_x, d_sums_x + line, plan.panels, count, columns_x,
               plan.input_size, plan.rows.at(args.d_x, t, row), args.d_x.stride_n,
               args.accumulate_d_x);
    }
    pack_rows(weights[0], plan.rows.at(args.x, t, row), args.x.stride_n, count,
              chunk_row);
    pack_rows(weights[1], h_fed, output_stride(), count, chunk_row);
    if (inner_product())
      pack_rows(weights[2], inner + at, cell.stride, count, chunk_row);
  }

  // d_h = [its direct part +] d_fed * factor
  void pass_dropout(Index row, Index count) const {
    const Index at = row * output_stride();
    drop_rows(factors + at, count, output_stride(), d_fed + at, d_fed + at);
    for (Index i = at; i < at + count * output_stride(); ++i) {
      d_h[i] = direct() ? d_h[i] + d_fed[i] : d_fed[i];
    }
  }

  // h before the step, from the output of the step before; zero padding stays.
  void find_h_before(Index step, Index row, Index count) const {
    const Index t = plan.time_of(step);
    const Index carried = plan.rows.carried(t, plan.reverse);
    for (Index n = row; n < row + count; ++n) {
      const T* from = nullptr;
      if (n < carried) {
        from = plan.rows.at(args.output, plan.time_of(step - 1), n);
      } else if (args.h0 != nullptr) {
        from = args.h0 + n * plan.output_size;
      }
      T* to = h_before + n * output_stride();
      if (from == nullptr) {
        std::fill_n(to, plan.output_size, T(0));
      } else {
        std::copy_n(from, plan.output_size, to);
      }
    }
    for_flagged_rows(plan.rows, t, kRowReset, row, row + count, [&](Index n) {
      std::fill_n(h_before + n * output_stride(), plan.output_size, T(0));
    });
  }

  // From d_h and d_output to d_step, through zoneout and the projection. What zoneout
  // hands on to the step before stays in d_h.
  void collect_d_h(Index t, Index row, Index count, Index chunk_row) const {
    const bool zoned = plan.options.zoneout_h > 0;
    const T* zones = zoned ? zones_of(t, row, count, false) : nullptr;
    for (Index n = 0; n < count; ++n) {
      T* d = d_h + (row + n) * output_stride();
      T* out = d_step + (row + n) * cell.stride;
      if (args.d_output.data != nullptr) {
        const T* d_out = plan.rows.at(args.d_output, t, row + n);
        for (Index u = 0; u < plan.output_size; ++u) d[u] += d_out[u];
      }
      for (Index u = 0; u < plan.output_size; ++u) {
        const T kept = zoned ? zones[n * output_stride() + u] : T(0);
        const T all = d[u];
        d[u] = kept * all;
        T* to = projects(plan)
                    ? d_projected + u / plan.gate_line() * panel_stride() +
                          (chunk_row + n) * plan.gate_line() + u % plan.gate_line()
                    : out + u;
        *to = (T(1) - kept) * all;
      }
    }
    if (projects(plan)) {
      multiply(weights[2].map, d_projected + chunk_row * plan.gate_line(),
               weights[2].panels, count, columns_inner, plan.hidden_size,
               d_step + row * cell.stride, cell.stride, false);
    }
  }

  T* zones_of(Index t, Index row, Index count, bool of_c) const {
    T* const zones = of_c ? zone_c + row * cell.stride : zone_h + row * output_stride();
    fill_zones(plan, args, true, t, row, count, of_c, zones);
    return zones;
  }

  // out (count, cols) = [out +] d w, d being `panels` panels of rows of 4 W.
  void multiply(const PanelMap& map, const T* d, Index panels, Index count,
                const T* columns, Index cols, T* out, Index out_stride,
                bool accumulate) const {
    ProductArgs<T> a{};
    a.rows = count;
    a.block_end = column_blocks(plan, cols);
    a.cols = cols;
    a.a = d + map.slot_begin * plan.width;
    a.a_row_stride = plan.gate_line();
    a.a_panel_stride = panel_stride();
    a.panels = panels;
    a.panel_size = slots_of(map) * plan.width;
    a.b = columns;
    a.c = out;
    a.c_stride = out_stride;
    a.accumulate = accumulate;
    plan.kernels->product(a);
  }

  void pack_rows(const WeightSide<T>& side, const T* from, Index stride, Index count,
                 Index chunk_row) const {
    const Kernels<T>& k = *plan.kernels;
    k.pack_outer(from, count, side.size, stride, chunk_row, chunk_rows * k.outer_tile,
                 side.operand);
  }

  void sum_gradients(Index rows, const Team& team) const {
    const Kernels<T>& k = *plan.kernels;
    for (int s = 0; s < weight_sides(); ++s) {
      const WeightSide<T>& side = weights[s];
      const Team::Range panels = team.share(side.panels);
      for (Index p = panels.begin; p < panels.end; ++p) {
        k.outer({rows, side.size, 0, side.operand, chunk_rows * k.outer_tile,
                 side.d_sums + p * panel_stride() + side.map.slot_begin * plan.width,
                 static_cast<int>(slots_of(side.map)), static_cast<int>(plan.width),
                 side.d_weight + p * side.size * slots_of(side.map) * plan.width,
                 true});
      }
    }
    const Team::Range panels = team.share(plan.panels);
    for (const VectorSide<T>& side : lines) {
      for (Index p = panels.begin; side.line != nullptr && p < panels.end; ++p) {
        k.column_sum(side.line + p * panel_stride(), rows, true,
                     side.d_vector + p * plan.gate_line());
      }
    }
  }

  void add_gradients(const Team& team) const {
    for (int s = 0; s < weight_sides(); ++s) {
      const WeightSide<T>& side = weights[s];
      const Team::Range panels = team.share(side.panels);
      for (Index p = panels.begin; p < panels.end; ++p) {
        plan.kernels->unpack_add(
            side.map, p,
            side.d_weight + p * side.size * slots_of(side.map) * plan.width, side.size,
            side.grad, side.size);
      }
    }
    const Team::Range panels = team.share(plan.panels);
    const LayerArrays<T>& g = args.grads;
    add_vector(plan.map_x, panels, lines[0], g.bias);
    add_vector(bias_hn_map(plan.map_h), panels, lines[0], g.bias_hn);
    add_vector(vector_map(plan, 0, 2), panels, lines[1], g.weight_peephole);
    add_vector(vector_map(plan, 3, 1, 2 * plan.hidden_size), panels, lines[1],
               g.weight_peephole);
    add_vector(plan.map_x, panels, lines[2], g.gain_ih);
    add_vector(plan.map_h, panels, lines[3], g.gain_hh);
    add_vector(vector_map(plan, 0, 1), panels, lines[4], g.gain_c);
    add_vector(vector_map(plan, 1, 1), panels, lines[4], g.bias_c);
  }

  void add_vector(const PanelMap& map, const Team::Range& panels,
                  const VectorSide<T>& side, T* grad) const {
    if (grad == nullptr || side.line == nullptr) return;
    for (Index p = panels.begin; p < panels.end; ++p) {
      for (int s = map.slot_begin; s < map.slot_end; ++s) {
        const Index unit = p * map.panel_units + map.slot_unit[s];
        const Index lanes = std::min(plan.width, map.units - unit);
        const T* from = side.d_vector + (p * kSlots + s) * plan.width;
        for (Index j = 0; j < lanes; ++j) grad[map.slot_row[s] + unit + j] += from[j];
      }
    }
  }

  void begin_state() const {
    const auto copy = [&](const T* from, Index units, Index stride, T* to) {
      std::fill_n(to, plan.batch_size * stride, T(0));
      if (from == nullptr) return;
      for (Index n = 0; n < plan.batch_size; ++n) {
        std::copy_n(from + n * units, units, to + n * stride);
      }
    };
    std::fill_n(zeros, longest_operand(), T(0));
    copy(args.d_h_n, plan.output_size, output_stride(), d_h);
    if (plan.lstm()) copy(args.d_c_n, plan.hidden_size, cell.stride, d_c);
    copy(nullptr, 0, cell.stride, d_step);
    copy(nullptr, 0, output_stride(), h_before);
    if (dropping()) {
      args.dropout.fill(plan.batch_size, plan.output_size, output_stride(), factors);
      copy(nullptr, 0, output_stride(), d_fed);
    }
    if (inner_product()) copy(nullptr, 0, cell.stride, inner);
    if (resets_before(plan)) copy(nullptr, 0, cell.stride, d_inner);
    if (plan.options.zoneout_c > 0) copy(nullptr, 0, cell.stride, zone_c);
    if (projects(plan)) {
      std::fill_n(d_projected, weights[2].panels * panel_stride(), T(0));
    }
    for (int s = 0; s < weight_sides(); ++s) {
      const WeightSide<T>& side = weights[s];
      std::fill_n(side.d_weight,
                  side.panels * side.size * slots_of(side.map) * plan.width, T(0));
    }
    for (const VectorSide<T>& side : lines) {
      if (side.line == nullptr) continue;
      std::fill_n(side.d_vector, plan.panels * plan.gate_line(), T(0));
    }
  }

  void end_state() const {
    const auto copy = [&](const T* from, Index units, Index stride, T* to) {
      for (Index n = 0; to != nullptr && n < plan.batch_size; ++n) {
        std::copy_n(from + n * stride, units, to + n * units);
      }
    };
    copy(d_h, plan.output_size, output_stride(), args.d_h0);
    if (plan.lstm()) copy(d_c, plan.hidden_size, cell.stride, args.d_c0);
  }

  // Hands out all arrays; a first pass with an empty arena measures.
  void take_arrays(Arena& arena, int threads) {
    const CellOptions& o = plan.options;
    const Index stride = padded(plan, plan.hidden_size);
    const Index all = checked_product(plan.batch_size, stride);
    const Index all_out = checked_product(plan.batch_size, output_stride());
    const Index lanes = plan.panels * plan.width;
    const Index gates = checked_product(plan.panels, panel_stride());
    const auto take = [&](bool wanted, Index count) {
      T* piece = arena.take<T>(wanted ? count : 0);
      return wanted ? piece : nullptr;
    };
    const auto take_columns = [&](const PanelMap& map, Index panels, Index cols) {
      return arena.take<T>(
          checked_product(panels * plan.width * slots_of(map), padded(plan, cols)));
    };
    const auto take_side = [&](const PanelMap& map, Index panels, Index size,
                               const T* d_sums, T* grad) {
      const Index tile = plan.kernels->outer_tile;
      WeightSide<T> side{map, panels, size, nullptr, d_sums, nullptr, grad};
      side.operand =
          arena.take<T>(checked_product(chunk_rows, (size + tile - 1) / tile * tile));
      side.d_weight =
          arena.take<T>(checked_product(panels * plan.width * slots_of(map), size));
      return side;
    };
    vectors = take_vectors(plan, arena);
    bias = arena.take<T>(lanes * kSlots);
    zeros = arena.take<T>(longest_operand());
    d_gates = arena.take<T>(gates);
    d_sums_x = o.layer_norm ? arena.take<T>(gates) : d_gates;
    d_sums_h = o.layer_norm ? arena.take<T>(gates) : d_gates;
    const Index out_panels = column_blocks(plan, plan.output_size);
    d_projected = take(projects(plan), checked_product(out_panels, panel_stride()));
    d_h = arena.take<T>(all_out);
    d_c = take(plan.lstm(), all);
    d_step = arena.take<T>(all);
    h_before = arena.take<T>(all_out);
    factors = take(dropping(), all_out);
    fed = take(dropping(), all_out);
    d_fed = take(dropping(), all_out);
    inner = take(inner_product(), all);
    d_inner = take(resets_before(plan), all);
    zone_c = take(o.zoneout_c > 0, all);
    zone_h = take(o.zoneout_h > 0, all_out);
    scratch = arena.take<T>(threads * 3 * stride);

    PanelMap map_h = plan.map_h;
    if (resets_before(plan)) map_h.slot_end = kSlots - 1;
    weights[0] = take_side(plan.map_x, plan.panels, plan.input_size, d_sums_x,
                           args.grads.weight_ih);
    weights[1] =
        take_side(map_h, plan.panels, plan.output_size, d_sums_h, args.grads.weight_hh);
    columns_x = take_columns(plan.map_x, plan.panels,
                             args.d_x.data != nullptr ? plan.input_size : 0);
    columns_h = take_columns(map_h, plan.panels, plan.output_size);
    if (projects(plan)) {
      weights[2] = take_side(natural_map(plan, plan.output_size), out_panels,
                             plan.hidden_size, d_projected, args.grads.weight_hr);
    } else if (resets_before(plan)) {
      weights[2] = take_side(candidate_map(plan.map_h), plan.panels, plan.hidden_size,
                             d_gates, args.grads.weight_hh);
    }
    if (inner_product()) {
      columns_inner = take_columns(weights[2].map, weights[2].panels, plan.hidden_size);
    }
    const bool wanted[kVectorSides] = {true, o.peepholes, o.layer_norm, o.layer_norm,
                                       o.layer_norm};
    for (int i = 0; i < kVectorSides; ++i) {
      lines[i].line = i == 0 ? d_gates : take(wanted[i], gates);
      lines[i].d_vector = take(wanted[i], lanes * kSlots);
    }
  }
};

// One layer, whole or in pieces.
template <class T>
struct GeneralBackward {
  LayerPlan<T> plan;
  int threads;
  GeneralBackwardLoop<T> loop;
  Buffer memory;

  GeneralBackward(const LayerPlan<T>& whole, const LayerBackward<T>& args,
                  BufferPool& pool)
      : plan(whole),
        threads(general_threads(plan)),
        loop{plan, plan, args, steps_of_chunk(), steps_of_chunk() * plan.batch_size} {
    memory =
        acquire_pieces(pool, [&](Arena& arena) { loop.take_arrays(arena, threads); });
    loop.cell = make_cell(plan, loop.vectors, loop.bias);
    loop.begin_state();
  }

  Index steps_of_chunk() const {
    return std::clamp<Index>(kChunkRows / std::max<Index>(1, plan.batch_size), 1,
                             std::max<Index>(1, plan.seq_len));
  }

  void run(Index begin, Index end, const LayerBackward<T>& args) {
    const bool first = end == plan.seq_len;
    loop.set_piece(begin, end, args);
    auto body = [&](const Team& team) {
      if (first) loop.prepare(team);
      loop.run(team);
    };
    parallel(threads, body);
    if (begin == 0) loop.end_state();
  }
};

}  // namespace

template <class T>
void general_backward(const LayerPlan<T>& plan, const LayerBackward<T>& args,
                      BufferPool& pool) {
  GeneralBackward<T>(plan, args, pool).run(0, plan.seq_len, args);
}

template <class T>
PieceBackward<T> general_backward_pieces(const LayerPlan<T>& whole,
                                         const LayerBackward<T>& args,
                                         BufferPool& pool) {
  const auto pass = std::make_shared<GeneralBackward<T>>(whole, args, pool);
  return [pass](Index begin, Index end, const LayerBackward<T>& piece) {
    pass->run(begin, end, piece);
  };
}

#define FASTLSTM_GENERAL_BACKWARD(T)                                              \
  template void general_backward<T>(const LayerPlan<T>&, const LayerBackward<T>&, \
                                    BufferPool&);                                 \
  template PieceBackward<T> general_backward_pieces<T>(                           \
      const LayerPlan<T>&, const LayerBackward<T>&, BufferPool&);
FASTLSTM_GENERAL_BACKWARD(float)
FASTLSTM_GENERAL_BACKWARD(double)
#undef FASTLSTM_GENERAL_BACKWARD

}  // namespace fastlstm
