// The plan of one layer in one direction: its sizes, how units map to panels, how its
// work is shared by threads, and its packed weights. Used by the two time loops.
#pragma once

#include <algorithm>

#include "arena.hpp"
#include "cache_line.hpp"
#include "fastlstm/recurrent.hpp"
#include "kernels/table.hpp"
#include "parallel.hpp"
#include "rows.hpp"

namespace fastlstm {

// From this many units on, a row alone goes back with one barrier a step instead of
// two: see in_pieces() in backward_products.hpp.
constexpr Index kPieceUnits = 64;
// For a few rows, bias + x W_ih^T is projected for many steps at once, unless the
// inputs are fewer than this: writing and reading the sums would cost more than it
// saves. From so many steps on, and where W_hh is too large for L1 and both weights
// are small enough for L3, the steps to come are projected while W_hh is waited for; or
// small enough for a large L2, which keeps more of W_hh without W_ih beside it.
constexpr Index kLeastProjected = 8;
constexpr Index kLeastStepsAhead = 48;
constexpr Index kLeastUnitsAhead = 64;
constexpr Index kMostBytesAhead = 16 << 20;
constexpr Index kLargeL2 = 2 << 20;

// Products are of triples from so many rows and weights (in panels) on: with fewer,
// cutting the numbers takes longer than matrix units save, and threads that share the
// rows leave tiles half empty. Measured for backward with 8 to 128 rows on one and two
// threads, and with hidden 24 to 1024 of every cell.
constexpr Index kLeastTripleRows = 32;
constexpr Index kLeastTripleWeights = 20 << 10;
// Forward, if it has so many units in all rows of a step: two threads that have 16 rows
// each of 64 to 96 units take 4 to 9% longer. Measured on one and two threads.
constexpr Index kLeastTripleCells = 4096;

// What products of triples take columns in, see kernels/triple_table.hpp.
inline Index whole_tiles(Index columns) {
  return (columns + kTileRows - 1) / kTileRows * kTileRows;
}
inline Index tile_pairs(Index columns) { return (columns + kPairRows - 1) / kPairRows; }

template <class T>
struct LayerPlan {
  const Kernels<T>* kernels;
  CellKind cell;
  Activation cell_activation;
  Activation output_activation;
  CellOptions options;
  bool reverse;
  SequenceRows rows;
  Index seq_len, batch_size, input_size, hidden_size;
  Index stored_rows;    // rows that records hold: N, also in the plan of some rows
  Index first_row;      // of those: that of row 0 here, see rows_plan()
  Index output_size;    // features of h: H, or fewer with a projection
  Index width;          // W
  Index panels;         // P
  Index panel_units;    // W, or 4 W for the RNN
  Index padded_units;   // P * panel_units
  Index record;         // values kept per row and panel: 4 W gates (+ W c for the LSTM)
  PanelMap map_x;       // rows of weight_ih
  PanelMap map_h;       // rows of weight_hh
  int max_threads = 0;  // 0: as many as help
  bool trains;          // back-propagation is to follow
  bool unpacked;        // W_hh is read as it lies, forward as well, see reads_panels
  bool projects_ahead;  // see kLeastStepsAhead
  bool triples;         // backward's products are of triples, see kLeastTripleRows

  bool lstm() const { return cell == CellKind::lstm; }
  Index gate_line() const { return kSlots * width; }
  // Values at the end of each slot of the last panel that belong to no unit. The RNN's
  // slots end at different units, so its padding is not skipped.
  Index padding() const {
    return cell == CellKind::rnn ? 0 : panels * width - hidden_size;
  }
  // The activations are the standard ones and W_hh is packed, so that the fused step
  // applies.
  bool fused() const {
    return lstm() && !unpacked && cell_activation == Activation::tanh &&
           output_activation == Activation::tanh;
  }
  // Forward's products are of triples as well. Not in inference, where a row has the
  // same bits in any batch.
  bool triple_gates() const {
    return triples && trains && fused() &&
           batch_size * hidden_size >= kLeastTripleCells;
  }
  Index gate_steps() const {  // of these, for each panel
    const Index blocks = whole_tiles(input_size) + whole_tiles(hidden_size);
    return (blocks / kTileRows + 1) / 2;
  }
  Index time_of(Index step) const { return reverse ? seq_len - 1 - step : step; }
  Index time_per_step() const { return reverse ? -1 : 1; }
  // The earliest time of the steps [begin, end), and how many rows they have in all.
  Index first_time(Index begin, Index end) const {
    return reverse ? seq_len - end : begin;
  }
  Index rows_between(Index begin, Index end) const {
    const Index t = first_time(begin, end);
    return rows.first(t + end - begin) - rows.first(t);
  }
  // The most rows that one of these steps has.
  Index widest(Index begin, Index end) const {
    return rows.count(first_time(begin, end));
  }
  Index record_count() const { return checked_product(rows.total(), panels * record); }
  // The plan of the steps [begin, end) as a sequence of their own.
  LayerPlan piece(Index begin, Index end) const {
    LayerPlan plan = *this;
    const Index first = first_time(begin, end);
    plan.rows = rows.piece(first, first + end - begin);
    plan.seq_len = end - begin;
    plan.projects_ahead = projects_ahead && plan.seq_len >= kLeastStepsAhead;
    return plan;
  }
};

// A batch of one reads W_hh on its way back where it lies, if it has at most
// kUnpackedBytes or L2 does not hold it, or if the steps are too few to repay packing;
// beyond L2 it does so forward as well. Else it reads panels, for rows that straddle
// cache lines come from L2 at three quarters of its speed, and from L3 at all of it.
constexpr Index kUnpackedBytes = 512 << 10;
constexpr Index kUnpackedSteps = 4;

template <class T>
bool row_alone(const LayerPlan<T>& plan, Index least, Index most) {
  const Index bytes = plan.hidden_size * plan.hidden_size * kSlots * Index{sizeof(T)};
  return plan.batch_size == 1 && plan.options.plain() && bytes > least && bytes <= most;
}

// steps: of the whole sequence.
template <class T>
bool reads_panels(const LayerPlan<T>& plan, Index steps) {
  return row_alone(plan, kUnpackedBytes, kBeyondL2) && steps > kUnpackedSteps;
}

template <class T>
LayerPlan<T> make_plan(const RecurrentConfig& config, Index layer, bool reverse,
                       const SequenceRows& rows, bool trains = false);

// How far apart the rows of an operand of `size` columns lie that the kernel `outer`
// reads down its columns: an odd number of cache lines, or packed if a line holds a
// row, so that lines below each other fall into all sets of the cache.
template <class T>
Index operand_stride(Index size) {
  constexpr Index kLine = kCacheLine / sizeof(T);
  return size <= kLine ? size : ((size + kLine - 1) / kLine | 1) * kLine;
}

// The plan of `count` rows of the batch from `first` on; not where rows are packed or
// flagged.
template <class T>
LayerPlan<T> rows_plan(LayerPlan<T> plan, Index first, Index count) {
  plan.batch_size = plan.rows.batch_size = count;
  plan.first_row = first;
  return plan;
}

// How threads share a layer. By rows: each thread runs its batch rows through time on
// its own. By panels: all threads work on each step, with a barrier between steps.
// Neither changes the order of any sum.
struct Split {
  int threads;
  bool by_rows;
};

template <class T>
Split choose_split(const LayerPlan<T>& plan);

// Threads of each direction where two of this layer run side by side; 0: they do not.
template <class T>
int threads_side_by_side(const LayerPlan<T>& plan);

struct Part {
  Team::Range rows;
  Team::Range panels;
  // The part's rows among the first `count`.
  Part first(Index count) const {
    return {
        {rows.begin < count ? rows.begin : count, rows.end < count ? rows.end : count},
        panels};
  }
  Index row_count() const { return rows.end - rows.begin; }
  Index cells() const { return row_count() * (panels.end - panels.begin); }
};

// The units of a part's panels.
template <class T>
Team::Range units_of(const LayerPlan<T>& plan, const Part& part) {
  return {part.panels.begin * plan.panel_units,
          std::min(part.panels.end * plan.panel_units, plan.hidden_size)};
}

// This thread's part of the first `rows` rows.
template <class T>
Part part_of(const LayerPlan<T>& plan, const Split& split, const Team& team,
             Index rows);

// Values kept by row and panel: those of row n and panel p at
// data + n * row_stride + p * panel_stride.
template <class Value>
struct PanelRows {
  Value* data;
  Index row_stride, panel_stride;
  Value* at(Index row, Index panel) const {
    return data + row * row_stride + panel * panel_stride;
  }
  operator PanelRows<const Value>() const { return {data, row_stride, panel_stride}; }
};

// (P, N, W)
template <class T, class Value>
PanelRows<Value> state_rows(const LayerPlan<T>& plan, Value* state) {
  return {state, plan.width, plan.batch_size * plan.width};
}

// Piece i of the records, in rows of the whole batch.
template <class T>
Part record_piece(const LayerPlan<T>& plan, const RecordCut& cut, int i) {
  const Team piece(i, cut.pieces);
  if (cut.by_rows) return {piece.share(plan.stored_rows), {0, plan.panels}};
  return {{0, plan.stored_rows}, piece.share(plan.panels)};
}

// Calls body(part, piece) for each part of these rows and panels that lies in one piece
// of the records.
template <class T, class Body>
void for_record_pieces(const LayerPlan<T>& plan, const RecordCut& cut, const Part& part,
                       const Body& body) {
  const auto common = [](const Team::Range& a, const Team::Range& b, Index shift) {
    return Team::Range{std::max(a.begin, b.begin - shift),
                       std::min(a.end, b.end - shift)};
  };
  if (part.cells() == 0) return;
  if (cut.pieces == 1) return body(part, record_piece(plan, cut, 0));
  const Index total = cut.by_rows ? plan.stored_rows : plan.panels;
  const Index begin =
      cut.by_rows ? part.rows.begin + plan.first_row : part.panels.begin;
  const Index end = cut.by_rows ? part.rows.end + plan.first_row : part.panels.end;
  // Piece i begins with floor(total * i / pieces).
  auto i = static_cast<int>(((begin + 1) * cut.pieces - 1) / total);
  for (Part piece = record_piece(plan, cut, i);; piece = record_piece(plan, cut, ++i)) {
    body(Part{common(part.rows, piece.rows, plan.first_row),
              common(part.panels, piece.panels, 0)},
         piece);
    if ((cut.by_rows ? piece.rows.end : piece.panels.end) >= end) return;
  }
}

// The records of one piece at time t: gates at offset 0, c behind them at offset
// gate_line(). Pieces follow each other, each (T, panels, rows, record), so that the
// hardware, which fetches lines beyond those that a thread reads or writes, meets lines
// of other threads at the ends of a piece only. Where rows are packed there is one
// piece, whose rows at t are count(t).
template <class T, class Value>
PanelRows<Value> record_rows(const LayerPlan<T>& plan, const Part& piece,
                             Value* records, Index t, Index offset) {
  if (plan.rows.offsets != nullptr) {
    return {records + plan.rows.first(t) * plan.panels * plan.record + offset,
            plan.record, plan.rows.count(t) * plan.record};
  }
  const Index rows = piece.row_count();
  const Index before =
      plan.seq_len * (piece.rows.begin * plan.panels + piece.panels.begin * rows);
  const Index first =  // where row 0 of panel 0 would be at time 0
      before + plan.first_row - piece.rows.begin - piece.panels.begin * rows;
  return {records + (first + t * piece.cells()) * plan.record + offset, plan.record,
          rows * plan.record};
}

// (N, H) -> (P, N, W), padded with zeros; null reads as zeros.
template <class T>
void pack_state(const LayerPlan<T>& plan, const T* state, T* packed);

// The inverse, of a part.
template <class T>
void unpack_state(const LayerPlan<T>& plan, const PanelRows<const T>& packed,
                  const Part& part, T* state);

inline Index slots_of(const PanelMap& map) { return map.slot_end - map.slot_begin; }

// Where narrow_width() is set, a copy of the last panel lies behind x and h, (size,
// slots * narrow width).
template <class T>
struct PackedWeights {
  T* x;        // (P, I, x slots * W); null if nobody reads it
  T* x_slots;  // (P, x slots, I, W) for a plan that projects ahead, else null
  T* h;        // (P, output_size, h slots * W); null for an unpacked plan
  T* bias;     // (P, 4 W)
  BFloat16Pair* triples;  // for triple_gates(), see pack_gates; then x and h are null
};

// Lanes of the narrow copy of a last panel that half a vector holds; 0: there is none.
template <class T>
Index narrow_width(const LayerPlan<T>& plan) {
  const Index left = plan.hidden_size - (plan.panels - 1) * plan.width;
  const bool fused = plan.options.plain() && plan.fused();
  return fused && left <= plan.kernels->half_width ? plan.kernels->half_width : 0;
}

// Makes the copy: of a packed matrix of this many lines of one slot in a panel.
template <class T>
void copy_narrow(const LayerPlan<T>& plan, Index lines, T* packed);

// shared: also for a plan of the layer that projects nothing ahead.
template <class T>
PackedWeights<T> take_weights(const LayerPlan<T>& plan, Arena& arena,
                              bool shared = false);

// All threads of the team call this; ends with a barrier.
template <class T>
void pack_weights(const LayerPlan<T>& plan, const LayerArrays<const T>& params,
                  const Team& team, const PackedWeights<T>& packed);

// to = [to +] the line of one panel (slots of the map * W); to: a vector with an
// element for each row of the map.
template <class T>
void add_line(const LayerPlan<T>& plan, const PanelMap& map, Index panel, const T* line,
              bool accumulate, T* to) {
  for (int s = map.slot_begin; s < map.slot_end; ++s) {
    const Index unit = panel * map.panel_units + map.slot_unit[s];
    const Index lanes = std::min(plan.width, map.units - unit);
    const T* from = line + (s - map.slot_begin) * plan.width;
    T* const row = to + map.slot_row[s] + unit;
    for (Index j = 0; j < lanes; ++j) row[j] = accumulate ? row[j] + from[j] : from[j];
  }
}

// The map of the one slot that bias_hn feeds: n_h, whose rows in bias_hn start at 0.
inline PanelMap bias_hn_map(PanelMap map_h) {
  map_h.slot_begin = kSlots - 1;
  map_h.slot_row[kSlots - 1] = 0;
  return map_h;
}

}  // namespace fastlstm
