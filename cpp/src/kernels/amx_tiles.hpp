// Tiles of AMX, for amx.cpp alone: floats cut in triples, and what multiplies them.
// Built with the flags of AVX-512, so nothing outside the anonymous namespace may be a
// template or inline: see vec_scalar.hpp.
#pragma once

#include "lanes.hpp"
#include "pack.hpp"
#include "vec_avx512.hpp"

namespace fastlstm {
namespace {

using V = Vec<float, Avx512Isa>;
static_assert(V::kWidth == kTileRows);

constexpr Index kTileLine = 64;  // bytes of a row of a tile

// The tile registers, by number. As the compilers' own functions these are assembly,
// but here the numbers may be template arguments.
template <int kTile>
[[gnu::always_inline]] inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}
template <int kTile>
[[gnu::always_inline]] inline void load_tile(const void* p, Index stride = kTileLine) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(kTile)
               : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void store_tile(void* p, Index stride = kTileLine) {
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
    std::uint16_t row_bytes[16] = {kTileLine, kTileLine, kTileLine, kTileLine,
                                   kTileLine, kTileLine, kTileLine, kTileLine};
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
    alignas(kTileLine) float part[kTileWords] = {};
    for (int r = 0; r < rows; ++r) {
      load_lanes<V>(c + r * stride, cols).store(part + r * kTileRows);
    }
    load_tile<kTile>(part);
  }
  template <int kTile>
  void store() const {
    if (whole()) return store_tile<kTile>(c, stride * Index{sizeof(float)});
    alignas(kTileLine) float part[kTileWords];
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
// beside() is called kBesides times a step, but for a single tile half as often.
constexpr Index kBesides = 6;
template <int kRows, int kCols>
struct TileBlock {
  static_assert(kRows * kCols <= 4);

  template <class Beside>
  [[gnu::always_inline]] static void step(const Operand& a, const Operand& b,
                                          const Beside& beside) {
    if constexpr (kRows == 2) {
      beside();
      load_a(a, 0);
      load_b(b, 2);
      multiply();
      beside();
      load_b(b, 1);
      multiply();
      beside();
      load_a(a, 1);
      multiply();
      beside();
      load_b(b, 0);
      multiply();
      beside();
      load_a(a, 2);
      multiply();
      beside();
      load_a(a, 0);
      multiply();
    } else {
      constexpr Index kHalf = (kCols + 1) / 2;  // of the columns
      a.load<4>(0, 0);
      a.load<5>(0, 1);
      a.load<6>(0, 2);
      for_tiles([&](auto c, Index, Index col) {
        if (col % kHalf == 0) beside();
        b.load<7>(col, 2);
        multiply_add<c, 4, 7>();
      });
      for_tiles([&](auto c, Index, Index col) {
        if (col % kHalf == 0) beside();
        b.load<7>(col, 1);
        multiply_add<c, 4, 7>();
        multiply_add<c, 5, 7>();
      });
      for_tiles([&](auto c, Index, Index col) {
        if (col % kHalf == 0) beside();
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

// result(row, column): a tile; beside(): what goes on beside the products.
template <int kRows, int kCols, class At, class Beside>
[[gnu::always_inline]] inline void tile_block(Operand a, Operand b, Index steps,
                                              bool accumulate, const At& result,
                                              const Beside& beside) {
  using Block = TileBlock<kRows, kCols>;
  alignas(kTileLine) std::uint32_t unused[kTileWords];
  Block::for_tiles([&](auto c, Index row, Index col) {
    result(row, col).template load<c>(accumulate);
  });
  for (Index k = 0; k < steps; ++k) {
    Block::step(a, b, beside);
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

constexpr Index kGates = kSlots * kTileRows;  // of a row and panel

constexpr Index tiles_of(Index values) { return (values + kTileRows - 1) / kTileRows; }

}  // namespace
}  // namespace fastlstm
