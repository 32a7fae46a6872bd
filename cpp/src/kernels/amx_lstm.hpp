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

// At most 32 rows of the left side.
void cut_terms(const TermRows& from, Index first_row, Index rows, BFloat16Pair* to) {
  for (Index step = 0; step < from.steps(); ++step, to += kStepWords) {
    const TermRows::Block low = from.block(2 * step);
    const TermRows::Block high = from.block(2 * step + 1);
    for (Index r = 0; r < rows; ++r) {
      cut(low.row(first_row + r), high.row(first_row + r), to + r * kTileRows,
          2 * kTileWords);
    }
  }
}

// A tile of sums, which begin with the bias.
struct SumTile {
  const float* bias;
  float* sums;
  template <int kTile>
  void load(bool /*accumulate*/) const {
    load_tile<kTile>(bias, 0);
  }
  template <int kTile>
  void store() const {
    store_tile<kTile>(sums, kGates * Index{sizeof(float)});
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

// Leaves the cells of the last block pending.
void triple_step(const LstmStepArgs<float>& s, const TripleGates& gates,
                 BlockSums (&sums)[2], PendingCells& pending) {
  const GateArgs<float>& g = s.gate;
  const TermRows terms{g.x, g.x_stride, g.x_size, g.h, g.h_stride, g.h_steps};
  const Index steps = terms.steps();
  for (Index group = 0; group < g.rows; group += kTripleRows) {
    const Index group_end = least(g.rows, group + kTripleRows);
    for (Index i = 0; i < g.panel_end - g.panel_begin; ++i) {
      const Index p = g.descending ? g.panel_end - 1 - i : g.panel_begin + i;
      const Operand weights{gates.packed + p * gates.steps * kGateStepWords,
                            2 * kTileWords, kGateStepWords, kSlots * kTileWords,
                            kTileWords};
      const float* bias = g.init + p * g.init_panel_stride;
      for (Index row = group; row < group_end; row += kPairRows) {
        const Index rows = least(kPairRows, group_end - row);
        BFloat16Pair* const cut_rows =
            gates.scratch + (row - group) / kPairRows * gates.steps * kStepWords;
        if (i == 0) {
          if (g.rows <= kPairRows) pending.rest();  // they give h of these rows
          cut_terms(terms, row, rows, cut_rows);
        }
        float* const to = sums[pending.sums == sums[0] ? 1 : 0];
        const auto result = [&](Index r, Index slot) {
          return SumTile{bias + slot * kTileRows,
                         to + r * kTileRows * kGates + slot * kTileRows};
        };
        pending.calls = kBesides * steps * tiles_of(rows);
        tile_strip(Operand{cut_rows, 0, kStepWords, 2 * kTileWords, kTileWords},
                   weights, tiles_of(rows), kSlots, steps, false, result,
                   [&] { pending.some(); });
        pending.rest();
        pending.begin(s, to, p, row, rows);
      }
    }
  }
}

void triple_steps(const LstmStepArgs<float>& first, Index steps,
                  const StepStrides& strides, const TripleGates& gates) {
  const TileScope scope;
  alignas(kTileLine) BlockSums sums[2];
  PendingCells pending;
  LstmStepArgs<float> s = first;
  for (Index left = steps; left > 0; --left) {
    if (left < steps) next_step(s, strides);
    triple_step(s, gates, sums, pending);
  }
  pending.rest();
}

}  // namespace
}  // namespace fastlstm
