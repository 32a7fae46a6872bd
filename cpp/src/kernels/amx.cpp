// Products of triples on the matrix units of AMX, see triple_table.hpp; all else is as
// with AVX-512. Built with the flags of the latter, so nothing outside the anonymous
// namespace may be a template or inline: see vec_scalar.hpp.
#include "amx_tiles.hpp"
// The bodies are written over the Vec above.
#include "amx_lstm.hpp"
#include "isa_tables.hpp"

namespace fastlstm {
namespace {

constexpr const char* kName = "amx";

// Two steps for each panel; words pair two slots of a unit.
void pack_columns(const PanelMap& map, const float* w, Index cols, Index pair_begin,
                  Index pair_end, BFloat16Pair* packed) {
  const Index panels = (map.units + map.panel_units - 1) / map.panel_units;
  const auto load = [&](Index p, Index slot, Index lane, Index col) {
    const Index unit = p * map.panel_units + map.slot_unit[slot] + lane;
    if (slot < map.slot_begin || slot >= map.slot_end || unit >= map.units) {
      return V::zero();
    }
    return load_lanes<V>(w + (map.slot_row[slot] + unit) * cols + col,
                         panel_lanes<V>(cols, col));
  };
  BFloat16Pair* to = packed + pair_begin * panels * kPanelSteps * kStepWords;
  for (Index pair = pair_begin; pair < pair_end; ++pair) {
    for (Index p = 0; p < panels; ++p) {
      for (Index step = 0; step < kPanelSteps; ++step, to += kStepWords) {
        for (Index tile = 0; tile < 2; ++tile) {
          const Index col = pair * kPairRows + tile * kTileRows;
          for (Index lane = 0; lane < kTileRows; ++lane) {
            cut(load(p, 2 * step, lane, col), load(p, 2 * step + 1, lane, col),
                to + tile * kTileWords + lane * kTileRows, 2 * kTileWords);
          }
        }
      }
    }
  }
}

// Rows of d_gates as the left side; words pair two slots of a unit.
void cut_rows(const TripleProductArgs<float>& g, Index panel, Index panels) {
  for (Index p = 0; p < panels; ++p) {
    const bool last = panel + p + 1 == g.panels;
    const int lanes = static_cast<int>(kTileRows - (last ? g.padding : 0));
    const float* from = g.d_gates + (panel + p) * g.panel_stride;
    for (Index row = 0; row < g.rows; ++row, from += kGates) {
      BFloat16Pair* to = g.scratch +
                         (row / kPairRows * panels + p) * kPanelSteps * kStepWords +
                         row % kPairRows * kTileRows;
#pragma GCC unroll 2
      for (Index step = 0; step < kPanelSteps; ++step) {
        const float* slots = from + 2 * step * kTileRows;
        cut(load_lanes<V>(slots, lanes), load_lanes<V>(slots + kTileRows, lanes),
            to + step * kStepWords, 2 * kTileWords);
      }
    }
  }
}

// The terms of these panels for one of the targets.
void add_panels(const TripleProductArgs<float>& g, const TripleTarget<float>& t,
                Index panel, Index panels) {
  constexpr Index kPairs = 2;  // of columns side by side
  constexpr Index kPanelWords = kPanelSteps * kStepWords;
  const Index strips = (t.pair_end - t.pair_begin + kPairs - 1) / kPairs;
  for (Index i = 0; i < strips; ++i) {
    const Index strip = g.descending ? strips - 1 - i : i;
    const Index pair = t.pair_begin + strip * kPairs;
    const Index col = pair * kPairRows;
    const Index end = least(least(pair + kPairs, t.pair_end) * kPairRows, t.cols);
    const Operand w{t.w + (pair * g.panels + panel) * kPanelWords,
                    g.panels * kPanelWords, kStepWords, 2 * kTileWords, kTileWords};
    for (Index row = 0; row < g.rows; row += kPairRows) {
      const Operand d_gates{g.scratch + row / kPairRows * panels * kPanelWords, 0,
                            kStepWords, 2 * kTileWords, kTileWords};
      const auto result = [&](Index r, Index c) {
        const Index first_row = row + r * kTileRows;
        const Index first_col = col + c * kTileRows;
        return Result{t.c + first_row * t.c_stride + first_col, t.c_stride,
                      panel_lanes<V>(g.rows, first_row),
                      panel_lanes<V>(end, first_col)};
      };
      tile_strip(d_gates, w, tiles_of(least(g.rows - row, kPairRows)),
                 tiles_of(end - col), panels * kPanelSteps, t.accumulate || panel > 0,
                 result, [] {});
    }
  }
}

void product(const TripleProductArgs<float>& whole) {
  const TileScope scope;
  TripleProductArgs<float> g = whole;
  for (Index left = whole.rows; left > 0; left -= g.rows) {
    g.rows = least(left, kTripleRows);
    const Index pairs = (g.rows + kPairRows - 1) / kPairRows;
    const Index most = kTripleScratch / (pairs * kPanelSteps * kStepWords);
    for (Index panel = 0; panel < g.panels; panel += most) {
      const Index panels = least(most, g.panels - panel);
      cut_rows(g, panel, panels);
      if (g.h.w != nullptr) add_panels(g, g.h, panel, panels);
      if (g.x.w != nullptr) add_panels(g, g.x, panel, panels);
    }
    g.d_gates += g.rows * kGates;
    g.h.c += g.rows * g.h.c_stride;
    g.x.c += g.rows * g.x.c_stride;
  }
}

// A tile of the words of a band, 16 columns of which `cols` are real; rows beyond
// `rows` are zeros.
inline void cut_band(const float* from, Index stride, Index rows, int cols,
                     BFloat16Pair* to, Index third_stride) {
  const auto load = [&](Index r) {
    return r < rows ? load_lanes<V>(from + r * stride, cols) : V::zero();
  };
  for (Index r = 0; r < kTileRows; ++r) {
    cut(load(r), load(r + kTileRows), to + r * kTileRows, third_stride);
  }
}

void cut_columns(const CutColumnsArgs<float>& g) {
  for (Index pair = g.pair_begin; pair < g.pair_end; ++pair) {
    BFloat16Pair* to = g.cut + pair * g.bands * kStepWords;
    for (Index row = 0; row < g.rows; row += kBandRows) {
      for (Index tile = 0; tile < 2; ++tile) {
        const Index col = pair * kPairRows + tile * kTileRows;
        cut_band(g.a + row * g.a_stride + col, g.a_stride, g.rows - row,
                 panel_lanes<V>(g.cols, col), to + tile * kTileWords, 2 * kTileWords);
      }
      for (int i = 0; i < 2 * kThirds; ++i, to += kTileWords) transpose_tile(to);
    }
  }
}

void cut_panel(const float* d_gates, Index rows, BFloat16Pair* to) {
  for (Index row = 0; row < rows; row += kBandRows) {
    for (Index slot = 0; slot < kSlots; ++slot, to += kThirds * kTileWords) {
      cut_band(d_gates + row * kGates + slot * kTileRows, kGates, rows - row, kTileRows,
               to, kTileWords);
    }
  }
}

// The lines of a d_w that comes next, a few beside the products.
struct LinesAhead {
  static constexpr int kLines = 2;
  const float* next;
  const float* end;
  void operator()() {
    if (next >= end) return;
    for (int i = 0; i < kLines; ++i) __builtin_prefetch(next + i * kTileRows, 1, 3);
    next += kLines * kTileRows;
  }
};

void outer(const TripleOuterArgs<float>& g) {
  const TileScope scope;
  constexpr Index kSlotWords = kThirds * kTileWords;
  const Index line = g.slots * kTileRows;
  const Operand d_gates{g.d_gates, 2 * kSlotWords, kSlots * kSlotWords, kTileWords,
                        kSlotWords};
  for (Index col = 0; col < g.cols; col += kPairRows) {
    const Operand a{g.a + col / kPairRows * g.pair_stride, 0, kStepWords,
                    2 * kTileWords, kTileWords};
    float* const d_w = g.d_w + col * line;
    const float* next = col + kPairRows < g.cols ? d_w + kPairRows * line : g.next;
    LinesAhead ahead{next, next != nullptr ? next + kPairRows * line : nullptr};
    const auto result = [&](Index r, Index slot) {
      return Result{d_w + r * kTileRows * line + slot * kTileRows, line, kTileRows,
                    kTileRows};
    };
    tile_strip(a, d_gates, least(2, (g.cols - col) / kTileRows), g.slots, g.bands,
               g.accumulate, result, [&] { ahead(); });
  }
}

}  // namespace

const Kernels<float>& amx_kernels_float() {
  static const Kernels<float> table = [] {
    Kernels<float> t = avx512_kernels_float();
    t.name = kName;
    t.triples = {pack_columns, product,    cut_columns, cut_panel,
                 outer,        pack_gates, triple_steps};
    return t;
  }();
  return table;
}

const Kernels<double>& amx_kernels_double() {
  static const Kernels<double> table = [] {
    Kernels<double> t = avx512_kernels_double();
    t.name = kName;
    return t;
  }();
  return table;
}

}  // namespace fastlstm
