// The LSTM's forward step in training, its gates summed of triples. The cells of a
// block of rows and units are computed beside the products of the next one, for matrix
// units leave the vector units free.
#pragma once

#include "amx_tiles.hpp"
#include "lstm.hpp"

namespace fastlstm {
namespace {

// Rows of the terms [x | h], of a batch or of weights. Blocks of 16: those of x, then
// those of h, then zeros.
struct TermRows {
  const float* x;
  Index x_stride, x_size;
  const float* h;
  Index h_stride, h_size;

  Index steps() const { return (tiles_of(x_size) + tiles_of(h_size) + 1) / 2; }

  struct Block {
    const float* data;
    Index stride;
    int terms;
    V row(Index i) const { return load_lanes<V>(data + i * stride, terms); }
  };
  Block block(Index i) const {
    const Index of_x = tiles_of(x_size);
    if (i < of_x) return {x + i * kTileRows, x_stride, terms(x_size, i)};
    const Index of_h = i - of_x;
    return {h + of_h * kTileRows, h_stride, terms(h_size, of_h)};
  }
  static int terms(Index size, Index block) {
    return panel_lanes<V>(size, block * kTileRows);
  }
};

void pack_gates(const PanelMap& map, const float* w_x, Index x_size, const float* w_h,
                Index h_size, Index panel_begin, Index panel_end,
                BFloat16Pair* packed) {
  const Index steps = TermRows{w_x, x_size, x_size, w_h, h_size, h_size}.steps();
  BFloat16Pair* to = packed + panel_begin * steps * kGateStepWords;
  for (Index p = panel_begin; p < panel_end; ++p) {
    const int units = panel_lanes<V>(map.units, p * kTileRows);
    for (Index step = 0; step < steps; ++step, to += kGateStepWords) {
      for (Index slot = 0; slot < kSlots; ++slot) {
        const Index row = map.slot_row[slot] + p * kTileRows;
        const TermRows rows{w_x + row * x_size, x_size, x_size,
                            w_h + row * h_size, h_size, h_size};
        const TermRows::Block low = rows.block(2 * step);
        const TermRows::Block high = rows.block(2 * step + 1);
        BFloat16Pair* const tile = to + slot * kTileWords;
        for (Index unit = 0; unit < kTileRows; ++unit) {
          const bool real = unit < units;
          cut(real ? low.row(unit) : V::zero(), real ? high.row(unit) : V::zero(),
              tile + unit * kTileRows, kSlots * kTileWords);
        }
        for (int third = 0; third < kThirds; ++third) {
          transpose_tile(tile + third * kSlots * kTileWords);
        }
      }
    }
  }
}

// These steps of at most 32 rows of the left side.
void cut_terms(const TermRows& from, Index first_row, Index rows, Index step, Index end,
               BFloat16Pair* to) {
  for (; step < end; ++step, to += kStepWords) {
    const TermRows::Block low = from.block(2 * step);
    const TermRows::Block high = from.block(2 * step + 1);
    for (Index r = 0; r < rows; ++r) {
      cut(low.row(first_row + r), high.row(first_row + r), to + r * kTileRows,
          2 * kTileWords);
    }
  }
}

constexpr Index kLineBytes = kGates * Index{sizeof(float)};  // of sums

// A tile of sums, which begin with the bias or with those of the terms before.
struct SumTile {
  const float* init;
  Index init_stride;  // bytes; 0: the bias, for all rows
  float* sums;
  template <int kTile>
  void load(bool /*accumulate*/) const {
    load_tile<kTile>(init, init_stride);
  }
  template <int kTile>
  void store() const {
    store_tile<kTile>(sums, kLineBytes);
  }
};

// The cells of a block whose sums are there.
struct PendingCells {
  LstmStepArgs<float> step;
  const float* sums = nullptr;  // (rows, 4 W)
  Index panel = 0, row = 0, rows_left = 0;
  Index calls = 1;  // of some() that there will be
  Index share = 0, due = 0;

  void begin(const LstmStepArgs<float>& of, const float* block_sums, Index of_panel,
             Index first_row, Index rows) {
    step = of;
    sums = block_sums;
    panel = of_panel;
    row = first_row;
    rows_left = share = rows;
    due = 0;
  }
  // The share of one call.
  [[gnu::always_inline]] void some() {
    for (due += share; due >= calls && rows_left > 0; due -= calls) next();
  }
  void rest() {
    while (rows_left > 0) next();
  }
  [[gnu::always_inline]] void next() {
    V gates[1][kSlots];
#pragma GCC unroll 4
    for (int s = 0; s < kSlots; ++s) gates[0][s] = V::load(sums + s * kTileRows);
    cell_state<kTileRows>(step, row, panel, gates[0]);
    squash_c(gates);
    cell_output<kTileRows>(step, row, panel,
                           panel_lanes<V>(step.hidden_size, panel * kTileRows),
                           gates[0]);
    sums += kGates;
    ++row;
    --rows_left;
  }
};

using BlockSums = float[kPairRows * kGates];

// The products of one step, whose last block leaves its cells pending.
struct TripleStep {
  const LstmStepArgs<float>& step;
  const TripleGates& gates;
  BlockSums (&sums)[2];  // of a block that is summed and of one whose cells are pending
  PendingCells& pending;
  const GateArgs<float>& g = step.gate;
  TermRows terms = {g.x, g.x_stride, g.x_size, g.h, g.h_stride, g.h_steps};
  Index steps = terms.steps();
  bool in_pieces = gates.sums != nullptr;

  void run() const {
    const Index panels = in_pieces ? kPiecePanels : 1;
    const Index piece = in_pieces ? kPieceSteps : steps;
    for (Index row = 0; row < g.rows; row += kTripleRows) {
      const Index rows = least(g.rows - row, kTripleRows);
      for (Index i = 0; i < g.panel_end - g.panel_begin; i += panels) {
        const Index end = least(i + panels, g.panel_end - g.panel_begin);
        for (Index term = 0; term < steps; term += piece) {
          run_piece(row, rows, i, end, term, least(term + piece, steps));
        }
      }
    }
  }

  // The steps [term, term_end) of the sums of these rows and of the panels [i, end).
  void run_piece(Index first_row, Index all_rows, Index i, Index end, Index term,
                 Index term_end) const {
    for (Index at = i; at < end; ++at) {
      for (Index row = 0; row < all_rows; row += kPairRows) {
        const Index rows = least(kPairRows, all_rows - row);
        BFloat16Pair* const cut_rows =
            gates.scratch + (row / kPairRows * gates.steps + term) * kStepWords;
        if (at == 0) {
          if (g.rows <= kPairRows) pending.rest();  // they give h of these rows
          cut_terms(terms, first_row + row, rows, term, term_end, cut_rows);
        }
        // Where the sums are while there are more terms to come.
        float* const waiting =
            in_pieces ? gates.sums + ((at - i) * kTripleRows + row) * kGates : nullptr;
        run_block(at, first_row + row, rows, term, term_end, cut_rows, waiting);
      }
    }
  }

  void run_block(Index at, Index row, Index rows, Index term, Index term_end,
                 const BFloat16Pair* cut_rows, float* waiting) const {
    const Index p = g.descending ? g.panel_end - 1 - at : g.panel_begin + at;
    const bool last = term_end == steps;
    float* const to = !last ? waiting : sums[pending.sums == sums[0] ? 1 : 0];
    const auto result = [&](Index r, Index slot) {
      const Index place = r * kTileRows * kGates + slot * kTileRows;
      if (term > 0) return SumTile{waiting + place, kLineBytes, to + place};
      return SumTile{g.init + p * g.init_panel_stride + slot * kTileRows, 0,
                     to + place};
    };
    const Operand left{cut_rows, 0, kStepWords, 2 * kTileWords, kTileWords};
    const Operand weights{gates.packed + (p * gates.steps + term) * kGateStepWords,
                          2 * kTileWords, kGateStepWords, kSlots * kTileWords,
                          kTileWords};
    PendingCells& cells = pending;  // the compiler keeps it in a register
    cells.calls = kBesides * (term_end - term) * tiles_of(rows);
    tile_strip(left, weights, tiles_of(rows), kSlots, term_end - term, false, result,
               [&cells] { cells.some(); });
    cells.rest();
    if (last) cells.begin(step, to, p, row, rows);
  }
};

void triple_steps(const LstmStepArgs<float>& first, Index steps,
                  const StepStrides& strides, const TripleGates& gates) {
  const TileScope scope;
  alignas(kTileLine) BlockSums sums[2];
  PendingCells pending;
  LstmStepArgs<float> s = first;
  for (Index left = steps; left > 0; --left) {
    if (left < steps) next_step(s, strides);
    TripleStep{s, gates, sums, pending}.run();
  }
  pending.rest();
}

}  // namespace
}  // namespace fastlstm
