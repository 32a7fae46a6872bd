// The backward time loop of the general path, in chunks of steps from the last to the
// first, for every step t of a chunk:
//   d_h += d_output_t;  d_sums = cell'(d_h, d_c);  d_h = d_sums W_hh;  d_x_t = d_sums
//   W_ih
// and for the chunk as a whole the gradients of all parameters (general_gradients.hpp).
// d_h and d_c of all rows are kept in place. The chunks depend on the shape alone, so
// no sum depends on the number of threads, nor on the pieces that a sequence may come
// in. Used by general_backward.cpp.
#pragma once

#include <algorithm>

#include "general_gradients.hpp"

namespace fastlstm {

template <class T>
struct GeneralBackwardLoop {
  const LayerPlan<T>& whole;
  LayerPlan<T> plan;  // of the piece at hand, as the arguments
  LayerBackward<T> args;
  Index chunk_steps;
  GeneralGradients<T> gradients{whole, args.grads, chunk_steps* whole.batch_size};
  Index piece_begin = 0;  // in the whole; the steps of the piece count from here
  GeneralCell<T> cell{};
  CellVectors<T> vectors{};
  T* bias = nullptr;       // (P, 4 W)
  T* columns_x = nullptr;  // W_ih, W_hh, and W_hr or W_hn, in column blocks
  T* columns_h = nullptr;
  T* columns_inner = nullptr;
  T* d_h = nullptr;       // (N, output stride)
  T* d_c = nullptr;       // LSTM: (N, stride)
  T* d_step = nullptr;    // (N, stride), by h of the step before its projection
  T* h_before = nullptr;  // (N, output stride)
  T* factors = nullptr;   // recurrent dropout: (N, output stride), as the next two
  T* fed = nullptr;       // what it leaves of h_before, for W_hh
  T* d_fed = nullptr;     // by that
  T* inner = nullptr;     // (N, stride), as in forward
  T* d_inner = nullptr;   // (N, stride), by r * h
  T* zone_c = nullptr;    // (N, stride)
  T* zone_h = nullptr;    // (N, output stride)
  T* scratch = nullptr;   // (threads, 3, stride)

  Index output_stride() const { return padded(plan, plan.output_size); }
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
        gradients.sum(whole.rows_between(chunk_begin, chunk_end), team);
      }
      if (begin == 0) gradients.add(team);
      team.barrier();
      end = begin;
    }
  }

  void prepare(const Team& team) const {
    const Kernels<T>& k = *plan.kernels;
    const auto pack = [&](const WeightSide<T>& side, const T* w, T* columns) {
      const Team::Range blocks = team.share(column_blocks(plan, side.size));
      k.pack_columns(side.map, w, side.size, blocks.begin, blocks.end, columns);
    };
    pack(gradients.side_h, args.params.weight_hh, columns_h);
    if (args.d_x.data != nullptr) {
      pack(gradients.side_x, args.params.weight_ih, columns_x);
    }
    if (inner_product(plan)) {
      pack(gradients.side_inner,
           projects(plan) ? args.params.weight_hr : args.params.weight_hh,
           columns_inner);
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
    gradients.clear_row(chunk_row);
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
    const Index line = chunk_row * plan.gate_line();
    GeneralBackwardArgs<T> a{};
    a.rows = count;
    a.records = record_at(plan, args.records, plan.rows.first(t) + row);
    a.row_stride = plan.panels * plan.record;
    a.h_prev = h_before + at_h;
    a.h_fed = h_fed;
    a.d_h = d_step + at;
    a.d_gates = gradients.d_gates + line;
    a.d_panel_stride = gradients.panel_stride();
    a.scratch = own_scratch;
    if (inner_product(plan)) a.inner = inner + at;
    switch (plan.cell) {
      case CellKind::lstm:
        a.d_c = d_c + at;
        if (plan.options.zoneout_c > 0) a.zone_c = zones_of(t, row, count, true);
        a.line_peephole = gradients.lines[1].line + line;
        a.line_gain_ih = gradients.lines[2].line + line;
        a.line_gain_hh = gradients.lines[3].line + line;
        a.line_gain_c = gradients.lines[4].line + line;
        a.d_sums_x = gradients.d_sums_x + line;
        a.d_sums_h = gradients.d_sums_h + line;
        k.lstm_backward(cell, a);
        break;
      case CellKind::gru:
        a.d_h_prev = d_h + at_h;
        k.gru_backward(cell, a);
        if (resets_before(plan)) {
          multiply(gradients.side_inner, chunk_row, count, columns_inner, d_inner + at,
                   cell.stride, false);
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
    multiply(gradients.side_h, chunk_row, count, columns_h, d_h_fed, output_stride(),
             dropping() ? resets_before(plan) : direct());
    if (dropping()) pass_dropout(row, count);
    if (args.d_x.data != nullptr) {
      multiply(gradients.side_x, chunk_row, count, columns_x,
               plan.rows.at(args.d_x, t, row), args.d_x.stride_n, args.accumulate_d_x);
    }
    gradients.copy_rows(gradients.side_x, plan.rows.at(args.x, t, row), args.x.stride_n,
                        count, chunk_row);
    gradients.copy_rows(gradients.side_h, h_fed, output_stride(), count, chunk_row);
    if (inner_product(plan)) {
      gradients.copy_rows(gradients.side_inner, inner + at, cell.stride, count,
                          chunk_row);
    }
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
                    ? gradients.d_projected +
                          u / plan.gate_line() * gradients.panel_stride() +
                          (chunk_row + n) * plan.gate_line() + u % plan.gate_line()
                    : out + u;
        *to = (T(1) - kept) * all;
      }
    }
    if (projects(plan)) {
      multiply(gradients.side_inner, chunk_row, count, columns_inner,
               d_step + row * cell.stride, cell.stride, false);
    }
  }

  T* zones_of(Index t, Index row, Index count, bool of_c) const {
    T* const zones = of_c ? zone_c + row * cell.stride : zone_h + row * output_stride();
    fill_zones(plan, args, true, t, row, count, of_c, zones);
    return zones;
  }

  // out (count, side.size) = [out +] d_sums w, by the rows of the chunk from chunk_row
  // on.
  void multiply(const WeightSide<T>& side, Index chunk_row, Index count,
                const T* columns, T* out, Index out_stride, bool accumulate) const {
    ProductArgs<T> a{};
    a.rows = count;
    a.block_end = column_blocks(plan, side.size);
    a.cols = side.size;
    a.a = side.d_sums + chunk_row * plan.gate_line() + side.map.slot_begin * plan.width;
    a.a_row_stride = plan.gate_line();
    a.a_panel_stride = gradients.panel_stride();
    a.panels = side.panels;
    a.panel_size = slots_of(side.map) * plan.width;
    a.b = columns;
    a.c = out;
    a.c_stride = out_stride;
    a.accumulate = accumulate;
    plan.kernels->product(a);
  }

  void begin_state() const {
    const auto copy = [&](const T* from, Index units, Index stride, T* to) {
      pad_rows(from, plan.batch_size, units, stride, to);
    };
    copy(args.d_h_n, plan.output_size, output_stride(), d_h);
    if (plan.lstm()) copy(args.d_c_n, plan.hidden_size, cell.stride, d_c);
    copy(nullptr, 0, cell.stride, d_step);
    copy(nullptr, 0, output_stride(), h_before);
    if (dropping()) {
      args.dropout.fill(plan.batch_size, plan.output_size, output_stride(), factors);
      copy(nullptr, 0, output_stride(), d_fed);
    }
    if (inner_product(plan)) copy(nullptr, 0, cell.stride, inner);
    if (resets_before(plan)) copy(nullptr, 0, cell.stride, d_inner);
    if (plan.options.zoneout_c > 0) copy(nullptr, 0, cell.stride, zone_c);
    gradients.clear();
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
    const auto take = [&](bool wanted, Index count) {
      T* piece = arena.take<T>(wanted ? count : 0);
      return wanted ? piece : nullptr;
    };
    const auto take_columns = [&](const WeightSide<T>& side, bool wanted) {
      return arena.take<T>(
          checked_product(side.panels * plan.width * slots_of(side.map),
                          wanted ? padded(plan, side.size) : 0));
    };
    gradients.take(arena);
    vectors = take_vectors(plan, arena);
    bias = arena.take<T>(plan.panels * plan.gate_line());
    columns_x = take_columns(gradients.side_x, args.d_x.data != nullptr);
    columns_h = take_columns(gradients.side_h, true);
    columns_inner = take_columns(gradients.side_inner, inner_product(plan));
    d_h = arena.take<T>(all_out);
    d_c = take(plan.lstm(), all);
    d_step = arena.take<T>(all);
    h_before = arena.take<T>(all_out);
    factors = take(dropping(), all_out);
    fed = take(dropping(), all_out);
    d_fed = take(dropping(), all_out);
    inner = take(inner_product(plan), all);
    d_inner = take(resets_before(plan), all);
    zone_c = take(o.zoneout_c > 0, all);
    zone_h = take(o.zoneout_h > 0, all_out);
    scratch = arena.take<T>(threads * 3 * stride);
  }
};

}  // namespace fastlstm
