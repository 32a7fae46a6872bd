// The forward time loop of the general path. For every step t, for the rows in it:
//   sums = bias + x_t W_ih^T + h W_hh^T;  (h~, c) = cell(sums, c);  h~ = h~ W_hr^T
//   h = h~, or with zoneout k h + (1 - k) h~
// h and c of all rows are kept in place, so a row that has no step at t just stays.
// Used by general_forward.cpp for whole sequences, by stream_layer.cpp step by step.
#pragma once

#include <algorithm>

#include "general.hpp"

namespace fastlstm {

template <class T>
struct GeneralForwardLoop {
  const LayerPlan<T>& plan;
  const LayerForward<T>& args;
  GateProduct<T> gates;  // the product of x and h with the weights in `packed`
  GeneralCell<T> cell{};
  CellVectors<T> vectors{};
  PackedWeights<T> packed{};
  // W_hr, or W_hn of the GRU that resets before, as (inputs, outputs)
  T* transposed = nullptr;
  T* columns = nullptr;  // the same in column blocks
  T* bias_hn = nullptr;  // the GRU's, padded
  T* records = nullptr;  // kept, or those of one step: (N, P, record)
  T* h = nullptr;        // (N, output stride)
  T* c = nullptr;        // LSTM: (N, stride)
  T* inner = nullptr;    // (N, stride): h before its projection, or r * h
  T* n_h = nullptr;      // (N, stride): W_hn (r * h) + b_hn
  T* factors = nullptr;  // recurrent dropout: (N, output stride)
  T* fed = nullptr;      // the same: what it leaves of h, for W_hh
  T* zone_c = nullptr;   // (N, stride)
  T* zone_h = nullptr;   // (N, output stride)
  T* scratch = nullptr;  // (threads, stride)

  bool keeps() const { return args.records != nullptr; }
  bool dropping() const { return args.dropout.p > 0; }
  Index output_stride() const { return padded(plan, plan.output_size); }

  // Takes all arrays but `packed`.
  void take(Arena& arena, int threads) {
    const Index stride = padded(plan, plan.hidden_size);
    const Index all = checked_product(plan.batch_size, stride);
    const Index all_out = checked_product(plan.batch_size, output_stride());
    const bool second = inner_product(plan);
    const Index outputs = projects(plan) ? plan.output_size : plan.hidden_size;
    vectors = take_vectors(plan, arena);
    transposed = arena.take<T>(second ? plan.hidden_size * outputs : 0);
    columns =
        arena.take<T>(second ? checked_product(stride, padded(plan, outputs)) : 0);
    bias_hn = arena.take<T>(stride);
    records = arena.take<T>(
        keeps() ? 0 : checked_product(plan.batch_size, plan.panels * plan.record));
    if (keeps()) records = args.records;
    h = arena.take<T>(all_out);
    c = arena.take<T>(plan.lstm() ? all : 0);
    inner = arena.take<T>(second ? all : 0);
    n_h = arena.take<T>(resets_before(plan) ? all : 0);
    factors = dropping() ? arena.take<T>(all_out) : nullptr;
    fed = dropping() ? arena.take<T>(all_out) : nullptr;
    zone_c = arena.take<T>(plan.options.zoneout_c > 0 ? all : 0);
    zone_h = arena.take<T>(plan.options.zoneout_h > 0 ? all_out : 0);
    scratch = arena.take<T>(threads * stride);
    cell = make_cell(plan, vectors, packed.bias);
  }

  // Packs all parameters that are not in `packed`; by one thread.
  void pack() const {
    pack_vectors(plan, args.params, vectors);
    pack_columns();
  }

  void run(const Team& team) const {
    if (team.rank() == 0) pack();
    if (args.packed == nullptr) {
      pack_weights(plan, args.params, team, packed);
    } else {
      team.barrier();
    }
    const Team::Range rows = team.share(plan.batch_size, plan.kernels->outer_tile);
    for (Index step = 0; step < plan.seq_len; ++step) {
      const Index t = plan.time_of(step);
      const Index end = std::min(rows.end, plan.rows.count(t));
      for_flagged_rows(plan.rows, t, kRowReset, rows.begin, end, [&](Index row) {
        std::fill_n(h + row * output_stride(), output_stride(), T(0));
        if (plan.lstm()) std::fill_n(c + row * cell.stride, cell.stride, T(0));
      });
      for_live_rows(plan.rows, t, rows.begin, end, [&](Index begin, Index stop) {
        take_step(t, begin, stop - begin, scratch + team.rank() * cell.stride);
      });
      for_flagged_rows(plan.rows, t, kRowHeld, rows.begin, end, [&](Index row) {
        std::copy_n(h + row * output_stride(), plan.output_size,
                    plan.rows.at(args.output, t, row));
      });
    }
  }

  // The operand of the second product of a step, (inputs, outputs) in column blocks.
  void pack_columns() const {
    if (!inner_product(plan)) return;
    const Index outputs = projects(plan) ? plan.output_size : plan.hidden_size;
    const T* w = projects(plan) ? args.params.weight_hr
                                : args.params.weight_hh + 2 * outputs * outputs;
    for (Index u = 0; u < plan.hidden_size; ++u) {
      for (Index j = 0; j < outputs; ++j) {
        transposed[u * outputs + j] = w[j * plan.hidden_size + u];
      }
    }
    plan.kernels->pack_columns(natural_map(plan, plan.hidden_size), transposed, outputs,
                               0, column_blocks(plan, outputs), columns);
    if (!resets_before(plan)) return;
    std::fill_n(bias_hn, cell.stride, T(0));
    if (args.params.bias_hn != nullptr) {
      std::copy_n(args.params.bias_hn, plan.hidden_size, bias_hn);
    }
  }

  void take_step(Index t, Index row, Index count, T* own_scratch) const {
    const GeneralKernels<T>& k = plan.kernels->general;
    T* const sums = record_at(plan, records, keeps() ? plan.rows.first(t) + row : row);
    const T* const h_fed = feed(row, count);
    add_sums(t, row, count, h_fed, sums);

    GeneralForwardArgs<T> a{};
    a.rows = count;
    a.records = sums;
    a.row_stride = plan.panels * plan.record;
    a.h_prev = h + row * output_stride();
    a.h = plan.rows.at(args.output, t, row);
    a.h_stride = args.output.stride_n;
    a.scratch = own_scratch;
    switch (plan.cell) {
      case CellKind::lstm:
        a.c = c + row * cell.stride;
        if (keeps()) keep_c(a);
        if (plan.options.zoneout_c > 0) a.zone_c = zones_of(t, row, count, true);
        if (projects(plan)) {
          a.h = inner + row * cell.stride;
          a.h_stride = cell.stride;
        }
        k.lstm_forward(cell, a);
        if (projects(plan)) {
          multiply(row, count, nullptr, plan.output_size,
                   plan.rows.at(args.output, t, row), args.output.stride_n);
        }
        break;
      case CellKind::gru:
        if (resets_before(plan)) {
          a.h_fed = h_fed;
          a.reset_h = inner + row * cell.stride;
          k.gru_reset(cell, a);
          multiply(row, count, bias_hn, plan.hidden_size, n_h + row * cell.stride,
                   cell.stride);
          a.n_h = n_h + row * cell.stride;
        }
        k.gru_forward(cell, a);
        break;
      case CellKind::rnn:
        k.rnn_forward(cell, a);
        break;
    }
    take_state(t, row, count);
  }

  // h of these rows as W_hh sees it.
  const T* feed(Index row, Index count) const {
    const Index at = row * output_stride();
    if (!dropping()) return h + at;
    drop_rows(factors + at, count, output_stride(), h + at, fed + at);
    return fed + at;
  }

  // The record of a step begins with the sums and, for the LSTM, c before the step.
  // Layer normalisation keeps the sums of x and of h apart.
  void add_sums(Index t, Index row, Index count, const T* h_fed, T* sums) const {
    GateArgs<T> gate{};
    gate.rows = count;
    gate.panel_end = plan.panels;
    gate.x = plan.rows.at(args.x, t, row);
    gate.x_stride = args.x.stride_n;
    gate.x_size = plan.input_size;
    gate.h = h_fed;
    gate.h_stride = output_stride();
    gate.h_size = gate.h_steps = plan.output_size;
    gate.packed_x = packed.x;
    gate.packed_h = packed.h;
    gate.init = packed.bias;
    gate.init_panel_stride = plan.gate_line();
    gate.gates = sums;
    gate.gate_row_stride = plan.panels * plan.record;
    gate.gate_panel_stride = plan.record;
    if (!plan.options.layer_norm) return gates(gate);
    gate.init = vectors.zeros;
    gate.h_steps = 0;
    gates(gate);
    gate.x = nullptr;
    gate.h_steps = plan.output_size;
    gate.gates = sums + (kSlots + 1) * plan.width;
    gates(gate);
  }

  void keep_c(const GeneralForwardArgs<T>& a) const {
    for (Index n = 0; n < a.rows; ++n) {
      for (Index p = 0; p < plan.panels; ++p) {
        std::copy_n(a.c + n * cell.stride + p * plan.width, plan.width,
                    a.records + n * a.row_stride + p * plan.record + plan.gate_line());
      }
    }
  }

  // out = init + inner W^T
  void multiply(Index row, Index count, const T* init, Index outputs, T* out,
                Index out_stride) const {
    ProductArgs<T> a{};
    a.rows = count;
    a.block_end = column_blocks(plan, outputs);
    a.cols = outputs;
    a.a = inner + row * cell.stride;
    a.a_row_stride = cell.stride;
    a.panels = 1;
    a.panel_size = cell.stride;
    a.b = columns;
    a.init = init;
    a.c = out;
    a.c_stride = out_stride;
    plan.kernels->product(a);
  }

  T* zones_of(Index t, Index row, Index count, bool of_c) const {
    T* const zones = of_c ? zone_c + row * cell.stride : zone_h + row * output_stride();
    fill_zones(plan, args, plan.trains, t, row, count, of_c, zones);
    return zones;
  }

  // h = h~, both in the output and in the state.
  void take_state(Index t, Index row, Index count) const {
    const bool zoned = plan.options.zoneout_h > 0;
    const T* zones = zoned ? zones_of(t, row, count, false) : nullptr;
    for (Index n = 0; n < count; ++n) {
      T* out = plan.rows.at(args.output, t, row + n);
      T* state = h + (row + n) * output_stride();
      for (Index u = 0; zoned && u < plan.output_size; ++u) {
        const T kept = zones[n * output_stride() + u];
        out[u] = kept * state[u] + (T(1) - kept) * out[u];
      }
      std::copy_n(out, plan.output_size, state);
    }
  }

  void begin() const {
    const Index rows = plan.batch_size;
    pad_rows(args.h0, rows, plan.output_size, output_stride(), h);
    if (plan.lstm()) pad_rows(args.c0, rows, plan.hidden_size, cell.stride, c);
    if (dropping()) {
      args.dropout.fill(plan.batch_size, plan.output_size, output_stride(), factors);
    }
    const Index all = plan.batch_size * cell.stride;
    if (inner_product(plan)) std::fill_n(inner, all, T(0));
    if (resets_before(plan)) std::fill_n(n_h, all, T(0));
    if (plan.options.zoneout_c > 0) std::fill_n(zone_c, all, T(0));
  }

  void end() const {
    for (Index n = 0; n < plan.batch_size; ++n) {
      std::copy_n(h + n * output_stride(), plan.output_size,
                  args.h_n + n * plan.output_size);
      if (!plan.lstm()) continue;
      std::copy_n(c + n * cell.stride, plan.hidden_size,
                  args.c_n + n * plan.hidden_size);
    }
  }
};

}  // namespace fastlstm
