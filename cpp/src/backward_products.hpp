// The products of the backward time loop of one layer, and the weights packed for them:
//   d_h_{t -> t-1} = d_gates_t W_hh;  d_x_t = d_gates_t W_ih
// Threads share rows or columns of the results, so no sum is split between them. Used
// by backward_loop.hpp; layer_backward.cpp has the weights packed.
#pragma once

#include <algorithm>

#include "triple_products.hpp"
#include "weight_gradient.hpp"

namespace fastlstm {

// A row alone of kPieceUnits and more goes back in pieces of the panels, whose sums are
// added at the end: a thread reads no weights and no d_gates but its own, and a step
// has one barrier instead of two. Of small layers there are two, for more would cost
// one thread more; of those read as they lie, enough for eight threads.
constexpr Index kPieces = 2;
constexpr Index kUnpackedPieces = 8;

template <class T>
struct BackwardProducts {
  const LayerPlan<T>& plan;  // of the piece at hand, as the arguments
  const LayerBackward<T>& args;
  const PreviousState<T>& previous;
  const WeightGradient<T>& weights;  // for d_gates, which it reads as well
  Index seq_len;                     // of the whole sequence
  T* columns_x = nullptr;  // W_ih for d_x: in column blocks, or in panels if narrow
  T* columns_h = nullptr;  // W_hh in column blocks, for d_h; not for a batch of one
  const T* panels_h = nullptr;  // W_hh in panels, where reads_panels()
  T* own_panels = nullptr;      // these, where forward's are not there
  T* panel_sums = nullptr;      // of their product
  T* piece_sums = nullptr;      // d_h of each piece of the panels, of two steps
  TripleProducts<T> triples{plan, args};

  Index blocks(Index cols) const {
    return (cols + plan.gate_line() - 1) / plan.gate_line();
  }
  bool from_panels() const { return reads_panels(plan, seq_len); }
  bool packs_panels() const { return from_panels() && args.packed_h == nullptr; }
  bool in_pieces() const {
    return plan.batch_size == 1 && !from_panels() && plan.hidden_size >= kPieceUnits;
  }
  Index pieces() const {
    return std::min(plan.unpacked ? kUnpackedPieces : kPieces, plan.panels);
  }
  // The panels of the pieces [first, last).
  Team::Range piece_panels(Index first, Index last) const {
    return {plan.panels * first / pieces(), plan.panels * last / pieces()};
  }
  Team::Range piece_panels(const Team& team) const {
    const Team::Range own = team.share(pieces());
    return piece_panels(own.begin, own.end);
  }
  // Whether d_x comes chunk by chunk; else step by step, with d_h.
  bool d_x_by_chunks() const { return args.d_x.data != nullptr && !triples.with_d_x(); }
  bool narrow() const { return plan.input_size < kNarrowInput; }

  // The weights packed for d_h and d_x, which pack_columns fills.
  void take_columns(Arena& arena) {
    const Index lanes = plan.panels * plan.width;
    const auto padded = [&](Index cols) {
      return (cols + plan.width - 1) / plan.width * plan.width;
    };
    const Index h_lines = lanes * slots_of(plan.map_h);
    const Index x_lines = d_x_by_chunks() ? lanes * slots_of(plan.map_x) : 0;
    const bool by_columns = plan.batch_size > 1 && !plan.triples;
    columns_h = arena.take<T>(
        checked_product(by_columns ? h_lines : 0, padded(plan.hidden_size)));
    own_panels =
        arena.take<T>(checked_product(packs_panels() ? h_lines : 0, plan.hidden_size));
    panels_h = packs_panels() ? own_panels : args.packed_h;
    panel_sums = arena.take<T>(
        from_panels() ? checked_product(plan.hidden_size, plan.width) : 0);
    columns_x = arena.take<T>(checked_product(x_lines, padded(plan.input_size)));
    triples.take_columns(arena);
  }
  void share_columns(const BackwardProducts& other) {
    columns_x = other.columns_x;
    columns_h = other.columns_h;
    triples.w_x = other.triples.w_x;
    triples.w_h = other.triples.w_h;
  }

  void take_scratch(Arena& arena, int threads) {
    piece_sums = arena.take<T>(in_pieces() ? 2 * pieces() * piece_stride() : 0);
    triples.take_scratch(arena, threads);
  }

  // All threads of the team call this; ends with a barrier.
  void pack_columns(const Team& team) const {
    const Kernels<T>& k = *plan.kernels;
    if (packs_panels()) {
      const Team::Range h = team.share(plan.panels);
      k.pack_panels(plan.map_h, args.params.weight_hh, plan.hidden_size, h.begin, h.end,
                    own_panels);
    } else if (plan.triples) {
      triples.pack(team);
    } else if (plan.batch_size > 1) {
      const Team::Range h = team.share(blocks(plan.hidden_size));
      k.pack_columns(plan.map_h, args.params.weight_hh, plan.hidden_size, h.begin,
                     h.end, columns_h);
    }
    if (d_x_by_chunks()) {
      const Team::Range x =
          team.share(narrow() ? plan.panels : blocks(plan.input_size));
      (narrow() ? k.pack_panels : k.pack_columns)(plan.map_x, args.params.weight_ih,
                                                  plan.input_size, x.begin, x.end,
                                                  columns_x);
    }
    team.barrier();
  }

  // A product whose left side is rows of d_gates, over the slots of `map`.
  ProductArgs<T> product_args(const PanelMap& map, Index chunk_row, Index rows) const {
    ProductArgs<T> a{};
    a.rows = rows;
    a.a = weights.d_gates_of(0, chunk_row) + map.slot_begin * plan.width;
    a.a_row_stride = plan.gate_line();
    a.a_panel_stride = weights.d_gate_panel();
    a.panels = plan.panels;
    a.panel_size = slots_of(map) * plan.width;
    a.padding = plan.padding();
    return a;
  }

  // d_h_{t -> t-1} = d_gates_t W_hh, on top of the GRU's direct part; `fetch` goes on
  // meanwhile. step: of the whole, for the order of panels may be that of their sums.
  // Returns the units that this thread has computed.
  Team::Range state_gradient(Index step, Index chunk_row, const Part& part,
                             const Team& team, FetchArgs<T>* fetch, T* d_h) const {
    const bool dropped = previous.factors != nullptr;
    ProductArgs<T> a = product_args(plan.map_h, chunk_row, part.row_count());
    a.c = (dropped ? previous.dropped_h : d_h) + part.rows.begin * plan.padded_units;
    a.c_stride = plan.padded_units;
    a.accumulate = plan.cell == CellKind::gru && !dropped;
    Team::Range units{};
    if (from_panels()) {
      units = team.share(plan.hidden_size, plan.width);
      plan.kernels->panel_product({&plan.map_h, plan.panels, plan.hidden_size,
                                   units.begin, units.end, step % 2 != 0, a.a,
                                   a.a_panel_stride, panels_h, panel_sums, a.c,
                                   a.accumulate});
    } else if (plan.batch_size == 1) {
      units = team.share(plan.hidden_size, plan.width);
      plan.kernels->row_product({&plan.map_h, units.begin, units.end, plan.hidden_size,
                                 a.a, a.a_panel_stride, 0, plan.panels, false,
                                 args.params.weight_hh, a.c, a.accumulate});
    } else {
      const Team::Range range = team.share(blocks(plan.hidden_size));
      a.block_begin = range.begin;
      a.block_end = range.end;
      a.descending = step % 2 != 0;
      a.cols = plan.hidden_size;
      a.b = columns_h;
      a.fetch = fetch;
      plan.kernels->product(a);
      units = {std::min(range.begin * plan.gate_line(), plan.hidden_size),
               std::min(range.end * plan.gate_line(), plan.hidden_size)};
    }
    if (dropped) add_dropped(part, units, d_h);
    return units;
  }

  // The same with triples, on top of which comes d_x of time t; d_h null: only that.
  // rank: of the thread, also where `team` is it alone.
  Team::Range triple_gradients(Index t, Index step, Index chunk_row, const Part& part,
                               const Team& team, int rank, T* d_h) const {
    TripleProductArgs<T> a =
        triples.product_args(weights.d_gates_of(0, chunk_row), weights.d_gate_panel(),
                             part.row_count(), rank);
    a.descending = step % 2 != 0;
    if (triples.with_d_x()) {
      a.x = triples.target_x(team, plan.rows.at(args.d_x, t, part.rows.begin));
    }
    const bool dropped = previous.factors != nullptr;
    if (d_h != nullptr) {
      T* const out = dropped ? previous.dropped_h : d_h;
      a.h = triples.target_h(team, out + part.rows.begin * plan.padded_units);
      a.h.accumulate = plan.cell == CellKind::gru && !dropped;
    }
    plan.kernels->triples.product(a);
    const Team::Range units = {std::min(a.h.pair_begin * kPairRows, plan.hidden_size),
                               std::min(a.h.pair_end * kPairRows, plan.hidden_size)};
    if (dropped) add_dropped(part, units, d_h);
    return units;
  }

  // The same where in_pieces(), in two parts with a barrier between them: the sums of
  // this thread's pieces, then d_h of its units. Steps use `piece_sums` in turn, so
  // that nobody writes what another thread still reads. step: of the whole, for the
  // order of panels is that of their sums.
  void piece_products(Index step, Index chunk_row, const Team& team) const {
    const ProductArgs<T> a = product_args(plan.map_h, chunk_row, 1);
    const bool descending = plan.unpacked && step % 2 != 0;
    const Team::Range own = team.share(pieces());
    for (Index i = 0; i < own.end - own.begin; ++i) {
      const Index piece = descending ? own.end - 1 - i : own.begin + i;
      const Team::Range panels = piece_panels(piece, piece + 1);
      plan.kernels->row_product({&plan.map_h, 0, plan.hidden_size, plan.hidden_size,
                                 a.a, a.a_panel_stride, panels.begin, panels.end,
                                 descending, args.params.weight_hh,
                                 sums_of_piece(step, piece), false});
    }
  }
  Team::Range add_pieces(Index step, const Part& part, T* d_h) const {
    const Team::Range units = units_of(plan, part);
    for (Index u = units.begin; u < units.end; ++u) {
      T sum = sums_of_piece(step, 0)[u];
      for (Index i = 1; i < pieces(); ++i) sum += sums_of_piece(step, i)[u];
      take_back(u, sum, d_h);
    }
    return units;
  }
  T* sums_of_piece(Index step, Index piece) const {
    return piece_sums + (step % 2 * pieces() + piece) * piece_stride();
  }
  // Two lines between pieces, for CPUs fetch lines in pairs.
  Index piece_stride() const {
    constexpr Index kLine = kCacheLine / sizeof(T);
    return (plan.padded_units + 3 * kLine - 1) / kLine * kLine;
  }

  // The same where the products are in dropped_h.
  void add_dropped(const Part& part, const Team::Range& units, T* d_h) const {
    for (Index n = part.rows.begin; n < part.rows.end; ++n) {
      const Index row = n * plan.padded_units;
      for (Index u = row + units.begin; u < row + units.end; ++u) {
        take_back(u, previous.dropped_h[u], d_h);
      }
    }
  }
  // What W_hh hands back passes the mask that h passed; the GRU's direct part does not.
  void take_back(Index at, T through, T* d_h) const {
    if (previous.factors != nullptr) through *= previous.factors[at];
    d_h[at] = plan.cell == CellKind::gru ? d_h[at] + through : through;
  }

  // d_x of the steps [begin, end) of a chunk, of these rows of the batch. The rows of a
  // register tile are taken along all rows of the chunk where they follow each other,
  // else along the longer of the two axes, batch or time.
  void input_gradient(const Chunk& chunk, Index begin, Index end,
                      const Team::Range& batch_rows, const Team& team) const {
    const Index steps = end - begin;
    const Index first = plan.first_time(begin, end);
    const SequenceView<T>& d_x = args.d_x;
    ProductArgs<T> a = product_args(plan.map_x, 0, 0);
    a.block_end = blocks(plan.input_size);
    a.cols = plan.input_size;
    a.b = columns_x;
    a.accumulate = args.accumulate_d_x;
    const auto product =
        narrow() ? plan.kernels->narrow_product : plan.kernels->product;
    // As many rows from row n of time t on.
    const auto rows_from = [&](Index t, Index n, Index count) {
      const Index chunk_row = plan.rows.first(t) - chunk.first_row + n;
      a.rows = count;
      a.a = product_args(plan.map_x, chunk_row, 0).a;
      a.c = plan.rows.at(d_x, t, n);
      product(a);
    };
    const bool whole =
        batch_rows.begin == 0 && batch_rows.end == plan.widest(begin, end);
    const bool packed = plan.rows.offsets != nullptr;
    a.c_stride = d_x.stride_n;
    if (whole && (packed || d_x.stride_t == plan.batch_size * d_x.stride_n)) {
      const Team::Range share = team.share(plan.rows_between(begin, end));
      rows_from(first, share.begin, share.end - share.begin);
    } else if (packed || batch_rows.end - batch_rows.begin >= steps) {
      for (Index t = first; t < first + steps; ++t) {
        const Team::Range rows = Part{batch_rows, {}}.first(plan.rows.count(t)).rows;
        const Team::Range share = team.share(rows.end - rows.begin);
        rows_from(t, rows.begin + share.begin, share.end - share.begin);
      }
    } else {
      const Team::Range share = team.share(steps);
      a.a_row_stride = plan.batch_size * plan.gate_line();
      a.c_stride = d_x.stride_t;
      for (Index n = batch_rows.begin; n < batch_rows.end; ++n) {
        rows_from(first + share.begin, n, share.end - share.begin);
      }
    }
  }
};

}  // namespace fastlstm
