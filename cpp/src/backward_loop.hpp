// The backward time loop of one layer (BPTT), in chunks of steps from the last to the
// first. For every step t of a chunk:
//   d_h_t = d_output_t + d_h_{t+1 -> t};  d_gates_t = cell'(d_h_t, d_c_t)
//   d_h_{t -> t-1} = d_gates_t W_hh;      d_x_t = d_gates_t W_ih
// (the products: backward_products.hpp) and for the chunk as a whole, while its d_gates
// are in cache, the weight gradients (weight_gradient.hpp, triple_gradient.hpp). The
// chunks depend on the shape and the lengths alone, so no sum depends on the number of
// threads. The rows of a chunk lie in the order of time in both directions.
//
// A sequence may come in pieces. They are cut elsewhere than the chunks, which stay
// those of the whole, and so do all bits. Used by layer_backward.cpp.
#pragma once

#include <algorithm>

#include "backward_products.hpp"
#include "triple_gradient.hpp"

namespace fastlstm {

// Rows (t, n) of a chunk: 256 rows of 4 x 128 floats are 512 KB, half of a usual L2.
constexpr Index kChunkRows = 256;
// Where L2 holds W_hh but not the records of a piece, these are fetched during the
// product of d_h, of so many rows at a time: of a whole batch they would push out of L2
// what the product reads. Elsewhere the cell fetches those of the next step.
constexpr Index kFetchedRows = 36;
constexpr Index kFetchedBytes = 1 << 20;

template <class T>
struct BackwardLoop {
  const LayerPlan<T>& whole;
  LayerBackward<T> args;  // of the piece at hand, as the plan
  LayerPlan<T> plan;
  Index piece_begin = 0;  // its steps in the whole; all others count from here
  Index piece_end;
  Index chunk_end;  // of the chunk that holds the last step of the piece
  PreviousState<T> previous;
  WeightGradient<T> weights;
  TripleGradient<T> triple_weights;
  BackwardProducts<T> products;
  T* d_gates = nullptr;   // (P, chunk rows, 4 W)
  T* d_h = nullptr;       // (N, padded units)
  T* d_c = nullptr;       // LSTM: (P, N, W)
  T* c_first = nullptr;   // LSTM: (P, N, W)
  T* held_d_h = nullptr;  // as d_h, of the rows whose step is masked
  T* held_d_c = nullptr;  // as d_c
  T* zeros = nullptr;     // (padded units)
  bool fetches = false;   // see kFetchedRows

  BackwardLoop(const LayerPlan<T>& of, const LayerBackward<T>& arrays)
      : whole(of),
        args(arrays),
        plan(of),
        piece_end(of.seq_len),
        chunk_end(of.seq_len),
        previous{plan, arrays.output, arrays.h0},
        weights{plan, args, previous},
        triple_weights{plan, weights},
        products{plan, args, previous, weights, of.seq_len} {
    measure_chunks();
    measure_records();
  }
  BackwardLoop(const BackwardLoop&) = delete;
  BackwardLoop& operator=(const BackwardLoop&) = delete;

  Index d_gate_panel() const { return weights.d_gate_panel(); }

  // Goes on to an earlier piece, or to the whole where it is the only one.
  void set_piece(Index begin, Index end, const LayerBackward<T>& arrays) {
    piece_begin = begin;
    piece_end = end;
    plan = whole.piece(begin, end);
    measure_records();
    args = arrays;
    previous.output = args.output;
    previous.h0 = args.h0;
    while (chunk_end > 0 && chunk_begin(chunk_end) >= end) {
      chunk_end = chunk_begin(chunk_end);
    }
    if (plan.lstm()) pack_state(plan, args.c0, c_first);
  }

  // As many steps of the whole before `end` as have kChunkRows rows, one at least.
  Index chunk_begin(Index end) const {
    Index begin = end - 1;
    while (begin > 0 && whole.rows_between(begin - 1, end) <= kChunkRows) --begin;
    return begin;
  }

  Chunk chunk_of(Index begin, Index end) const {
    const Index piece_row = whole.rows.first(whole.first_time(piece_begin, piece_end));
    return {whole.rows_between(begin, end),
            whole.rows.first(whole.first_time(begin, end)) - piece_row,
            end == whole.seq_len, begin == 0};
  }

  void measure_records() {
    const Index w_hh = kSlots * plan.hidden_size * plan.hidden_size;
    fetches = plan.lstm() && !plan.triples &&
              w_hh * Index{sizeof(T)} <= kFetchedBytes &&
              plan.record_count() * Index{sizeof(T)} > kFetchedBytes;
  }
  void measure_chunks() {
    for (Index end = whole.seq_len; end > 0; end = chunk_begin(end)) {
      weights.chunk_rows =
          std::max(weights.chunk_rows, whole.rows_between(chunk_begin(end), end));
    }
    weights.single_chunk = whole.seq_len == 0 || chunk_begin(whole.seq_len) == 0;
  }

  void run(const Split& split, const Team& team) const {
    Index next_chunk_end = chunk_end;
    for (Index end = plan.seq_len; end > 0;) {
      const Index from = chunk_begin(next_chunk_end);
      const Chunk chunk = chunk_of(from, next_chunk_end);
      const Index begin = std::max<Index>(0, from - piece_begin);
      Part part = part_of(plan, split, team, plan.widest(begin, end));
      if (products.in_pieces()) part.panels = products.piece_panels(team);
      for (Index step = end - 1; step >= begin; --step) {
        run_step(step, chunk, part, split, team);
      }
      const Team::Range all = {0, plan.widest(begin, end)};
      weights.gather(chunk, begin, end,
                     split.by_rows ? part.rows : team.share(all.end));
      // A thread's own rows where it has whole ones: a line of d_gates that another CPU
      // has read is slow to write again.
      if (products.d_x_by_chunks() && split.by_rows) {
        products.input_gradient(chunk, begin, end, part.rows, Team(0, 1));
      }
      team.barrier();
      if (products.d_x_by_chunks() && !split.by_rows) {
        products.input_gradient(chunk, begin, end, all, team);
      }
      if (from >= piece_begin) {
        plan.triples ? triple_weights.add(chunk, team) : weights.add(chunk, team);
        next_chunk_end = from;
      }
      team.barrier();
      end = begin;
    }
  }

  void run_step(Index step, const Chunk& chunk, const Part& chunk_part,
                const Split& split, const Team& team) const {
    const Part part = rows_at(step, chunk_part);
    if (!fetches) return run_rows(step, chunk, part, nullptr, split, team);
    const Index blocks = row_blocks(part, split);
    for (Index b = 0; b < blocks; ++b) {
      FetchArgs<T> fetch{};
      if (b + 1 < blocks) {
        fetch = inputs(step, row_block(part, b + 1, blocks));
      } else if (step > 0) {
        const Part next = rows_at(step - 1, chunk_part);
        fetch = inputs(step - 1, row_block(next, 0, row_blocks(next, split)));
      }
      run_rows(step, chunk, row_block(part, b, blocks), &fetch, split, team);
    }
  }

  Part rows_at(Index step, const Part& part) const {
    return part.first(plan.rows.count(plan.time_of(step)));
  }
  static Index row_blocks(const Part& part, const Split& split) {
    const Index most = (part.row_count() + kFetchedRows - 1) / kFetchedRows;
    return split.by_rows ? std::max<Index>(1, most) : 1;
  }
  static Part row_block(const Part& part, Index block, Index blocks) {
    const Team::Range share =
        Team(static_cast<int>(block), static_cast<int>(blocks)).share(part.row_count());
    return {{part.rows.begin + share.begin, part.rows.begin + share.end}, part.panels};
  }

  // What the cell of these rows reads.
  FetchArgs<T> inputs(Index step, const Part& part) const {
    FetchArgs<T> f{};  // of parts in several pieces of the records the last will do
    for_record_pieces(plan, args.record_cut, part,
                      [&](const Part& inside, const Part& piece) {
                        f = inputs(step, inside, piece);
                      });
    return f;
  }
  FetchArgs<T> inputs(Index step, const Part& part, const Part& piece) const {
    const Index t = plan.time_of(step);
    const Index row = part.rows.begin;
    FetchArgs<T> f{};
    f.rows = part.row_count();
    f.panel = part.panels.begin;
    f.panel_end = part.panels.end;
    const PanelRows<const T> gates = records_at(t, piece, 0);
    f.gates = gates.at(row, 0);
    f.gate_row_stride = gates.row_stride;
    f.gate_panel_stride = gates.panel_stride;
    if (args.d_output.data != nullptr) {
      f.d_output = plan.rows.at(args.d_output, t, row);
      f.d_output_stride = args.d_output.stride_n;
    }
    const PanelRows<const T> c_prev = c_before(t, piece);
    f.c_prev = c_prev.at(row, 0);
    f.c_prev_row_stride = c_prev.row_stride;
    f.c_prev_panel_stride = c_prev.panel_stride;
    f.h = plan.rows.at(args.output, t, row);
    f.h_stride = args.output.stride_n;
    return f;
  }

  // The step of these rows; `fetch`: what to fetch meanwhile, or null.
  void run_rows(Index step, const Chunk& chunk, const Part& part, FetchArgs<T>* fetch,
                const Split& split, const Team& team) const {
    const Index t = plan.time_of(step);
    const Index chunk_row = plan.rows.first(t) - chunk.first_row + part.rows.begin;
    const bool special = plan.rows.flags_at(t) != 0;
    if (special) save_held(t, part);
    cell_backward(step, chunk_row, part);
    if (special) finish_cell(t, chunk_row, part);
    const bool in_pieces = products.in_pieces();
    const bool wanted = piece_begin + step > 0 || args.d_h0 != nullptr;
    const Index whole_step = piece_begin + step;
    if (in_pieces && wanted) products.piece_products(whole_step, chunk_row, team);
    if (!split.by_rows) team.barrier();
    const Team shared = split.by_rows ? Team(0, 1) : team;
    Team::Range units{};
    if (plan.triples) {
      units = products.triple_gradients(t, step, chunk_row, part, shared, team.rank(),
                                        wanted ? d_h : nullptr);
    } else if (wanted) {
      units = in_pieces ? products.add_pieces(whole_step, part, d_h)
                        : products.state_gradient(whole_step, chunk_row, part, shared,
                                                  fetch, d_h);
    }
    if (wanted && special) finish_state(t, part, units);
    if (!split.by_rows && !in_pieces) team.barrier();
  }

  PanelRows<const T> records_at(Index t, const Part& piece, Index offset) const {
    return record_rows(plan, piece, args.records, t, offset);
  }
  PanelRows<const T> c_before(Index t, const Part& piece) const {
    if (previous.carried(t) == 0) return state_rows<T, const T>(plan, c_first);
    return records_at(previous.time_before(t), piece, plan.gate_line());
  }

  void cell_backward(Index step, Index chunk_row, const Part& part) const {
    for_record_pieces(plan, args.record_cut, part,
                      [&](const Part& inside, const Part& piece) {
                        const Index before = inside.rows.begin - part.rows.begin;
                        cell_backward(step, chunk_row + before, inside, piece);
                      });
  }
  void cell_backward(Index step, Index chunk_row, const Part& part,
                     const Part& piece) const {
    const Kernels<T>& k = *plan.kernels;
    const Index row = part.rows.begin;
    const Index t = plan.time_of(step);
    const PanelRows<const T> gates = records_at(t, piece, 0);
    const bool staged = previous.staged(t);

    PointwiseBackwardArgs<T> a{};
    a.rows = part.row_count();
    a.panel_begin = part.panels.begin;
    a.panel_end = part.panels.end;
    a.hidden_size = plan.hidden_size;
    a.gates = gates.at(row, 0);
    a.gate_row_stride = gates.row_stride;
    a.gate_panel_stride = gates.panel_stride;
    if (args.d_output.data != nullptr) {
      a.d_output = plan.rows.at(args.d_output, t, row);
      a.d_output_stride = args.d_output.stride_n;
    }
    if (step > 0 && !fetches) {
      const Index next = plan.time_of(step - 1);
      const PanelRows<const T> records = records_at(next, piece, 0);
      a.next_gates = records.at(row, 0);
      a.next_gate_panel_stride = records.panel_stride;
      if (a.d_output != nullptr) {
        a.next_d_output = plan.rows.at(args.d_output, next, row);
      }
    }
    a.d_h = d_h + row * plan.padded_units;
    a.d_h_stride = plan.padded_units;
    a.d_gates = d_gates + chunk_row * plan.gate_line();
    a.d_gate_panel_stride = d_gate_panel();
    a.cell_activation = static_cast<int>(plan.cell_activation);
    a.output_activation = static_cast<int>(plan.output_activation);
    switch (plan.cell) {
      case CellKind::lstm: {
        PanelRows<const T> c_prev = c_before(t, piece);
        if (staged) {
          previous.stage_c(t, part, c_prev, state_rows<T, const T>(plan, c_first));
          c_prev = state_rows<T, const T>(plan, previous.staged_c);
        }
        a.h = plan.rows.at(args.output, t, row);
        a.h_stride = args.output.stride_n;
        a.c_prev = c_prev.at(row, 0);
        a.c_prev_row_stride = c_prev.row_stride;
        a.c_prev_panel_stride = c_prev.panel_stride;
        a.d_c = d_c + row * plan.width;
        a.d_c_panel_stride = plan.batch_size * plan.width;
        k.lstm_backward(a);
        break;
      }
      case CellKind::gru:
        if (staged) {
          previous.stage_h(t, part);
          a.h_prev = previous.staged_h + row * plan.padded_units;
          a.h_prev_stride = plan.padded_units;
        } else {
          a.h_prev = previous.h_rows(t, row, a.h_prev_stride);
        }
        k.gru_backward(a);
        break;
      case CellKind::rnn:
        k.rnn_backward(a);
        break;
    }
  }

  // A masked step hands d_h, with d_output, and d_c on as they are.
  void save_held(Index t, const Part& part) const {
    const auto [unit, end] = units_of(plan, part);
    for (Index n = part.rows.begin; n < part.rows.end; ++n) {
      if (!previous.held(t, n)) continue;
      const T* from = d_h + n * plan.padded_units;
      T* to = held_d_h + n * plan.padded_units;
      const T* d_output =
          args.d_output.data != nullptr ? plan.rows.at(args.d_output, t, n) : nullptr;
      for (Index u = unit; u < end; ++u) {
        to[u] = d_output != nullptr ? from[u] + d_output[u] : from[u];
      }
      if (plan.lstm()) copy_state(n, part, d_c, held_d_c);
    }
  }

  // A masked step has no d_gates; a reset ends d_c.
  void finish_cell(Index t, Index chunk_row, const Part& part) const {
    for (Index n = part.rows.begin; n < part.rows.end; ++n) {
      if (previous.held(t, n)) {
        T* row = d_gates + (chunk_row + n - part.rows.begin) * plan.gate_line();
        for (Index p = part.panels.begin; p < part.panels.end; ++p) {
          std::fill_n(row + p * d_gate_panel(), plan.gate_line(), T(0));
        }
        if (plan.lstm()) copy_state(n, part, held_d_c, d_c);
      }
      if (plan.lstm() && previous.reset(t, n)) {
        for (Index p = part.panels.begin; p < part.panels.end; ++p) {
          std::fill_n(state_rows(plan, d_c).at(n, p), plan.width, T(0));
        }
      }
    }
  }

  // The same for d_h, after the product.
  void finish_state(Index t, const Part& part, const Team::Range& units) const {
    for (Index n = part.rows.begin; n < part.rows.end; ++n) {
      T* row = d_h + n * plan.padded_units;
      if (previous.reset(t, n)) {
        std::fill(row + units.begin, row + units.end, T(0));
      } else if (previous.held(t, n)) {
        const T* held = held_d_h + n * plan.padded_units;
        std::copy(held + units.begin, held + units.end, row + units.begin);
      }
    }
  }

  void copy_state(Index n, const Part& part, T* from, T* to) const {
    for (Index p = part.panels.begin; p < part.panels.end; ++p) {
      std::copy_n(state_rows(plan, from).at(n, p), plan.width,
                  state_rows(plan, to).at(n, p));
    }
  }

  // All scratch but the weights of the products and the sums of the weight gradient.
  void take(Arena& arena, int threads) {
    const auto rows_of = [&](Index rows, Index values) {
      return arena.take<T>(checked_product(rows, values));
    };
    const Index rows = plan.batch_size;
    const Index lanes = plan.panels * plan.width;
    const Index c_lanes = plan.lstm() ? lanes : 0;
    const Index held = plan.rows.flags != nullptr ? rows : 0;
    d_gates = rows_of(weights.chunk_rows, lanes * kSlots);
    d_h = rows_of(rows, plan.padded_units);
    d_c = rows_of(rows, c_lanes);
    c_first = rows_of(rows, c_lanes);
    held_d_h = rows_of(held, plan.padded_units);
    held_d_c = rows_of(held, c_lanes);
    zeros = arena.take<T>(plan.padded_units);
    previous.take(arena, args.dropout);
    weights.take_operands(arena);
    triple_weights.take(arena, threads);
    products.take_scratch(arena, threads);
  }

  void begin_state() {
    std::fill_n(zeros, plan.padded_units, T(0));
    previous.zeros = zeros;
    if (previous.factors != nullptr) {
      args.dropout.fill(plan.batch_size, plan.hidden_size, plan.padded_units,
                        previous.factors);
    }
    weights.d_gates = d_gates;
    weights.fill_ones();
    if (plan.padding() > 0) {
      // Half kernels leave the padding of the last panel alone; dot products read it.
      std::fill_n(d_gates + (plan.panels - 1) * d_gate_panel(), d_gate_panel(), T(0));
    }
    std::fill_n(d_h, plan.batch_size * plan.padded_units, T(0));
    if (args.d_h_n != nullptr) {
      for (Index n = 0; n < plan.batch_size; ++n) {
        std::copy_n(args.d_h_n + n * plan.hidden_size, plan.hidden_size,
                    d_h + n * plan.padded_units);
      }
    }
    if (plan.lstm()) pack_state(plan, args.d_c_n, d_c);
  }

  void end_state() const {
    if (args.d_h0 != nullptr) {
      for (Index n = 0; n < plan.batch_size; ++n) {
        std::copy_n(d_h + n * plan.padded_units, plan.hidden_size,
                    args.d_h0 + n * plan.hidden_size);
      }
    }
    if (args.d_c0 != nullptr && plan.lstm()) {
      unpack_state<T>(plan, state_rows(plan, d_c),
                      {{0, plan.batch_size}, {0, plan.panels}}, args.d_c0);
    }
  }
};

}  // namespace fastlstm
