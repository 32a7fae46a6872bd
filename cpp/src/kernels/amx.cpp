// Products of triples on the matrix units of AMX, see triple_table.hpp; all else is as
// with AVX-512. Built with the flags of the latter, so nothing outside the anonymous
// namespace may be a template or inline: see vec_scalar.hpp.
#include "vec_avx512.hpp"
// The bodies are written over the Vec above.
#include "isa_tables.hpp"
#include "lanes.hpp"
#include "pack.hpp"

namespace fastlstm {
namespace {

using V = Vec<float, Avx512Isa>;
static_assert(V::kWidth == kTileRows);

constexpr const char* kName = "amx";
constexpr Index kLine = 64;  // bytes of a row of a tile

// The tile registers, by number. As the compilers' own functions these are assembly,
// but here the numbers may be template arguments.
template <int kTile>
[[gnu::always_inline]] inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
template <int kTile>
[[gnu::always_inline]] inline void load_tile(const void* p, Index stride = kLine) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(kTile)
               : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void store_tile(void* p, Index stride = kLine) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(kTile)
               : "memory");
}
// c += a b
template <int kC, int kA, int kB>
[[gnu::always_inline]] inline void multiply_add() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
}

// Between these two the eight registers are whole tiles.
struct TileScope {
  struct alignas(64) Config {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {kLine, kLine, kLine, kLine,
                                   kLine, kLine, kLine, kLine};
    std::uint8_t rows[16] = {kTileRows, kTileRows, kTileRows, kTileRows,
                             kTileRows, kTileRows, kTileRows, kTileRows};
  };
  TileScope() {
    static constexpr Config config;
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  ~TileScope() { asm volatile("tilerelease"); }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
};

constexpr Index least(Index a, Index b) { return a < b ? a : b; }

// Cuts two vectors and stores the thirds as words, `low` in the low halves. A third is
// the upper half of a float; the first two are rounded, and what is left then has no
// lower half.
[[gnu::always_inline]] inline void cut(V low, V high, BFloat16Pair* to,
                                       Index third_stride) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const __m512i half = _mm512_set1_epi32(0x8000);
  const auto rounded = [&](V x) {
    const __m512i sum = _mm512_add_epi32(_mm512_castps_si512(x.v), half);
    return V{_mm512_castsi512_ps(_mm512_and_si512(sum, upper))};
  };
  const auto store = [&](V low_third, V high_third, int third) {
    const __m512i words = _mm512_srli_epi32(_mm512_castps_si512(low_third.v), 16);
    const __m512i above = _mm512_and_si512(_mm512_castps_si512(high_third.v), upper);
    _mm512_storeu_si512(to + third * third_stride, _mm512_or_si512(words, above));
  };
#pragma GCC unroll 2
  for (int third = 0; third + 1 < kThirds; ++third) {
    const V low_third = rounded(low);
    const V high_third = rounded(high);
    store(low_third, high_third, third);
    low = low - low_third;
    high = high - high_third;
  }
  store(low, high, kThirds - 1);
}

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

// Where the tiles of one side lie, in words.
struct Operand {
  const BFloat16Pair* data;
  Index pair_stride, step_stride, third_stride, tile_stride;
  template <int kTile>
  [[gnu::always_inline]] void load(Index tile, int third) const {
    load_tile<kTile>(data + tile / 2 * pair_stride + third * third_stride +
                     tile % 2 * tile_stride);
  }
};

// A tile of results, (16, 16) or what there is of it.
struct Result {
  float* c;
  Index stride;
  int rows, cols;

  bool whole() const { return rows == kTileRows && cols == kTileRows; }
  template <int kTile>
  void load(bool accumulate) const {
    if (!accumulate) return zero_tile<kTile>();
    if (whole()) return load_tile<kTile>(c, stride * Index{sizeof(float)});
    alignas(kLine) float part[kTileWords] = {};
    for (int r = 0; r < rows; ++r) {
      load_lanes<V>(c + r * stride, cols).store(part + r * kTileRows);
    }
    load_tile<kTile>(part);
  }
  template <int kTile>
  void store() const {
    if (whole()) return store_tile<kTile>(c, stride * Index{sizeof(float)});
    alignas(kLine) float part[kTileWords];
    store_tile<kTile>(part);
    for (int r = 0; r < rows; ++r) {
      store_lanes(V::load(part + r * kTileRows), c + r * stride, cols);
    }
  }
};

// To store a tile takes 0.26 us where no tile was stored within the last 120 products,
// else 5 ns (measured on Sapphire Rapids): a store that nobody needs, every few steps,
// makes the loop 10 to 25% faster.
constexpr Index kStepsPerStore = 4;

// A number that is known when this is compiled.
template <int kTile>
struct Register {
  constexpr operator int() const { return kTile; }
};

// kRows x kCols tiles of results in the registers from 0 on. The six products of a step
// are in the order of triple_table.hpp. Two rows: a third of a is in the registers 4
// and 5 and one of b in 6 and 7, and every other load serves two thirds of the other
// side. One row: the thirds of a are in 4 to 6, those of b go through 7.
template <int kRows, int kCols>
struct TileBlock {
  static_assert(kRows * kCols <= 4);

  static void step(const Operand& a, const Operand& b) {
    if constexpr (kRows == 2) {
      load_a(a, 0);
      load_b(b, 2);
      multiply();
      load_b(b, 1);
      multiply();
      load_a(a, 1);
      multiply();
      load_b(b, 0);
      multiply();
      load_a(a, 2);
      multiply();
      load_a(a, 0);
      multiply();
    } else {
      a.load<4>(0, 0);
      a.load<5>(0, 1);
      a.load<6>(0, 2);
      for_tiles([&](auto c, Index, Index col) {
        b.load<7>(col, 2);
        multiply_add<c, 4, 7>();
      });
      for_tiles([&](auto c, Index, Index col) {
        b.load<7>(col, 1);
        multiply_add<c, 4, 7>();
        multiply_add<c, 5, 7>();
      });
      for_tiles([&](auto c, Index, Index col) {
        b.load<7>(col, 0);
        multiply_add<c, 5, 7>();
        multiply_add<c, 6, 7>();
        multiply_add<c, 4, 7>();
      });
    }
  }

  [[gnu::always_inline]] static void load_a(const Operand& a, int third) {
    a.load<4>(0, third);
    a.load<5>(1, third);
  }
  [[gnu::always_inline]] static void load_b(const Operand& b, int third) {
    b.load<6>(0, third);
    if constexpr (kCols > 1) b.load<7>(1, third);
  }
  [[gnu::always_inline]] static void multiply() {
    multiply_add<0, 4, 6>();
    if constexpr (kCols > 1) multiply_add<1, 4, 7>();
    multiply_add<kCols, 5, 6>();
    if constexpr (kCols > 1) multiply_add<kCols + 1, 5, 7>();
  }

  // Calls body(register, row, column) for every tile of the results.
  template <int kTile = 0, class Body>
  [[gnu::always_inline]] static void for_tiles(const Body& body) {
    if constexpr (kTile < kRows * kCols) {
      body(Register<kTile>{}, kTile / kCols, kTile % kCols);
      for_tiles<kTile + 1>(body);
    }
  }
};

// result(row, column): a tile; beside(): what goes on beside every step.
template <int kRows, int kCols, class At, class Beside>
[[gnu::always_inline]] inline void tile_block(Operand a, Operand b, Index steps,
                                              bool accumulate, const At& result,
                                              const Beside& beside) {
  using Block = TileBlock<kRows, kCols>;
  alignas(kLine) std::uint32_t unused[kTileWords];
  Block::for_tiles([&](auto c, Index row, Index col) {
    result(row, col).template load<c>(accumulate);
  });
  for (Index k = 0; k < steps; ++k) {
    beside();
    Block::step(a, b);
    a.data += a.step_stride;
    b.data += b.step_stride;
    if (k % kStepsPerStore == kStepsPerStore - 1) store_tile<7>(unused);
  }
  Block::for_tiles(
      [&](auto c, Index row, Index col) { result(row, col).template store<c>(); });
}

// One or two rows of tiles x up to four columns.
template <class At, class Beside>
inline void tile_strip(const Operand& a, const Operand& b, Index rows, Index cols,
                       Index steps, bool accumulate, const At& result,
                       const Beside& beside) {
  if (rows > 1) {
    for (Index col = 0; col < cols; col += 2) {
      Operand pair = b;
      pair.data += col / 2 * b.pair_stride;
      const auto from = [&](Index r, Index c) { return result(r, col + c); };
      if (col + 1 < cols) {
        tile_block<2, 2>(a, pair, steps, accumulate, from, beside);
      } else {
        tile_block<2, 1>(a, pair, steps, accumulate, from, beside);
      }
    }
    return;
  }
  switch (cols) {
    case 1:
      return tile_block<1, 1>(a, b, steps, accumulate, result, beside);
    case 2:
      return tile_block<1, 2>(a, b, steps, accumulate, result, beside);
    case 3:
      return tile_block<1, 3>(a, b, steps, accumulate, result, beside);
    default:
      return tile_block<1, 4>(a, b, steps, accumulate, result, beside);
  }
}

constexpr Index tiles_of(Index values) { return (values + kTileRows - 1) / kTileRows; }

constexpr Index kGates = kSlots * kTileRows;  // of a row and panel

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

// Row i becomes column i; the words are moved, whatever they are.
inline void transpose_tile(BFloat16Pair* tile) {
  auto* const words = reinterpret_cast<float*>(tile);
  V rows[kTileRows];
#pragma GCC unroll 16
  for (Index r = 0; r < kTileRows; ++r) rows[r] = V::load(words + r * kTileRows);
  transpose(rows);
#pragma GCC unroll 16
  for (Index r = 0; r < kTileRows; ++r) rows[r].store(words + r * kTileRows);
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

// The lines of a d_w that comes next, a few beside every step.
struct LinesAhead {
  static constexpr int kLines = 8;
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
    t.triples = {pack_columns, product, cut_columns, cut_panel, outer};
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
