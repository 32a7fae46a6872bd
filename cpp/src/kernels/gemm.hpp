// The matrix products: one register tile, `accumulate`, and the loops around it.
// Every sum has one accumulator and a fixed order, so no tiling changes a bit.
#pragma once

#include "lanes.hpp"
#include "table.hpp"
#include "weights.hpp"

namespace fastlstm {
namespace {

// sums[r][first + v] += a[r * a_stride] * b[v], with b's vectors kSlot values apart.
template <int kFirst, int kVecs, int kSlot, class V, int kRows, int kAcc>
[[gnu::always_inline]] inline void add_products(V (&sums)[kRows][kAcc],
                                                const typename V::Value* a,
                                                Index a_stride,
                                                const typename V::Value* b) {
  V left[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) left[r] = V::set1(a[r * a_stride]);
#pragma GCC unroll 4
  for (int v = 0; v < kVecs; ++v) {
    const V right = V::load(b + v * kSlot);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      sums[r][kFirst + v] = fma(left[r], right, sums[r][kFirst + v]);
    }
  }
}

// Weights that lie one behind the other.
template <class Weight>
struct WeightRange {
  const Weight* begin = nullptr;
  Index count = 0;
};

// Weights that are read after a tile's, fetched into L2 beside its terms: each time a
// few lines, for many at once would fill the buffers that its own reads need.
template <class Weight>
struct Ahead {
  static constexpr Index kTerms = 4;  // between two times
  const Weight* next;
  const Weight* end;
  const Weight* later;  // a second range, after the first
  const Weight* later_end;
  Index each;  // values at a time

  // The part for the rows [row, row + height) of `rows`, beside `terms` terms.
  Ahead(const WeightRange<Weight>& first, const WeightRange<Weight>& second, Index row,
        Index height, Index rows, Index terms)
      : next(first.begin + first.count * row / rows),
        end(first.begin + first.count * (row + height) / rows),
        later(second.begin + second.count * row / rows),
        later_end(second.begin + second.count * (row + height) / rows) {
    constexpr Index kLine = 64 / sizeof(Weight);
    const Index times = (terms + kTerms - 1) / kTerms;
    const Index lines = (end - next) / kLine + (later_end - later) / kLine;
    each = (lines + times - 1) / times * kLine;
  }
  [[gnu::always_inline]] void fetch() {
    if (next >= end) {
      if (later >= later_end) return;
      next = later;
      end = later = later_end;
    }
    prefetch<kL2>(next, each);
    next += each;
  }
};

// The same summed over k: terms a[r * a_stride + k] * b[k * kVecs + v]. Inlined by
// force, as all that adds to sums: out of line they would live in memory. Four terms
// have an instruction each for their weights, so that what L1 fetches by the stride of
// an instruction comes four terms ahead, not one; measured against 1, 2, 6 and 8.
template <int kFirst, int kVecs, int kSlot, class V, int kRows, int kAcc>
[[gnu::always_inline]] inline void accumulate(V (&sums)[kRows][kAcc],
                                              const typename V::Value* a,
                                              Index a_stride, Index size,
                                              const typename V::Value* b) {
#pragma GCC unroll 4
  for (Index k = 0; k < size; ++k, b += kVecs * kSlot) {
    add_products<kFirst, kVecs, kSlot>(sums, a + k, a_stride, b);
  }
}

template <int kFirst, int kVecs, int kSlot, class V, int kRows, int kAcc, class T>
[[gnu::always_inline]] inline void accumulate(V (&sums)[kRows][kAcc], const T* a,
                                              Index a_stride, Index size, const T* b,
                                              Ahead<T>& ahead) {
  constexpr Index kTerms = Ahead<T>::kTerms;
  for (Index k = 0; k < size; k += kTerms, b += kTerms * kVecs * kSlot) {
    ahead.fetch();
    const Index count = size - k < kTerms ? size - k : kTerms;
    accumulate<kFirst, kVecs, kSlot>(sums, a + k, a_stride, count, b);
  }
}

// The same with bfloat16 weights.
template <int kFirst, int kVecs, int kSlot, class V, int kRows, int kAcc>
[[gnu::always_inline]] inline void accumulate(V (&sums)[kRows][kAcc],
                                              const typename V::Value* a,
                                              Index a_stride, Index size,
                                              const BFloat16Pair* b) {
  for (Index k = 0; k < size; k += 2, b += kVecs * kSlot) {
    const bool both = k + 1 < size;
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      V right[2];
      read_weights(b + v * kSlot, right);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        V& sum = sums[r][kFirst + v];
        sum = fma(V::set1(a[r * a_stride + k]), right[0], sum);
        if (both) sum = fma(V::set1(a[r * a_stride + k + 1]), right[1], sum);
      }
    }
  }
}

// tile.template run<height>(row), height at most R.
template <int R, class Tile>
inline void run_tile(const Tile& tile, Index row, Index height) {
  if constexpr (R > 1) {
    if (height < R) return run_tile<R - 1>(tile, row, height);
  }
  tile.template run<R>(row);
}

// Runs the tile over the rows [first, first + rows), in as few heights of at most kMax
// as possible, nearly equal: one of a row or two would need its weights faster than L2
// gives them.
template <int kMax, class Tile>
inline void for_row_tiles(Index rows, const Tile& tile, Index first = 0) {
  Index row = first;
  for (Index left = (rows + kMax - 1) / kMax; left > 0; --left) {
    const Index height = (first + rows - row + left - 1) / left;
    run_tile<kMax>(tile, row, height);
    row += height;
  }
}

// accumulate() for kVecs whole vectors of a line and the last one, which may be
// narrower.
template <int kVecs, int kSlot, class V, class Last, int kRows, int kAcc>
[[gnu::always_inline]] inline void accumulate_line(V (&sums)[kRows][kAcc],
                                                   Last (&last)[kRows][1],
                                                   const typename V::Value* a,
                                                   Index a_stride, Index size,
                                                   const typename V::Value* b) {
#pragma GCC unroll 4
  for (Index k = 0; k < size; ++k, b += (kVecs + 1) * kSlot) {
    add_products<0, kVecs, kSlot>(sums, a + k, a_stride, b);
    add_products<0, 1, kSlot>(last, a + k, a_stride, b + kVecs * kSlot);
  }
}

template <int kVecs, int kSlot, class V, class Last, int kRows, int kAcc, class T>
[[gnu::always_inline]] inline void accumulate_line(V (&sums)[kRows][kAcc],
                                                   Last (&last)[kRows][1], const T* a,
                                                   Index a_stride, Index size,
                                                   const T* b, Ahead<T>& ahead) {
  constexpr Index kTerms = Ahead<T>::kTerms;
  constexpr Index kLine = (kVecs + 1) * kSlot;
  for (Index k = 0; k < size; k += kTerms, b += kTerms * kLine) {
    ahead.fetch();
    const Index count = size - k < kTerms ? size - k : kTerms;
    accumulate_line<kVecs, kSlot>(sums, last, a + k, a_stride, count, b);
  }
}

// The next rows of a panel. Not inlined, for tiles have no registers left.
template <class V, class T>
[[gnu::noinline]] void fetch_rows(FetchArgs<T>& f) {
  constexpr int kWidth = V::kWidth;
  for (Index i = 0; i < f.each && f.panel < f.panel_end; ++i) {
    const Index unit = f.panel * kWidth;
    prefetch<kL2>(f.gates + f.panel * f.gate_panel_stride + f.row * f.gate_row_stride,
                  kSlots * kWidth);
    prefetch<kL2>(
        f.c_prev + f.panel * f.c_prev_panel_stride + f.row * f.c_prev_row_stride,
        kWidth);
    prefetch<kL2>(f.h + f.row * f.h_stride + unit, kWidth);
    if (f.d_output != nullptr) {
      prefetch<kL2>(f.d_output + f.row * f.d_output_stride + unit, kWidth);
    }
    if (++f.row < f.rows) continue;
    f.row = 0;
    ++f.panel;
  }
}

// The terms of the panels [panel_begin, panel_end) for rows of one block of columns:
// kVecs whole vectors and the last one, which may have fewer real lanes.
template <class V, class Last, int kVecs, class T>
struct ProductTile {
  const ProductArgs<T>& g;
  Index block;
  Index panel_begin, panel_end;
  const T* next;  // the weights of the panels that come after these, or null

  template <int R>
  void run(Index row) const {
    constexpr int kWidth = V::kWidth;
    constexpr int kLine = (kVecs + 1) * kWidth;
    const Index first_col = block * kSlots * kWidth;
    const int lanes = panel_lanes<Last>(g.cols, first_col + kVecs * kWidth);
    const bool more = g.accumulate || panel_begin > 0;
    const T* init = g.init == nullptr ? nullptr : g.init + first_col;
    T* c = g.c + row * g.c_stride + first_col;
    V sums[R][kVecs > 0 ? kVecs : 1];
    Last last[R][1];
    for (int r = 0; r < R; ++r) {
      const T* old = c + r * g.c_stride;
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        sums[r][v] = more              ? V::load(old + v * kWidth)
                     : init == nullptr ? V::zero()
                                       : V::load(init + v * kWidth);
      }
      last[r][0] = more              ? load_lanes<Last>(old + kVecs * kWidth, lanes)
                   : init == nullptr ? Last::zero()
                                     : Last::load(init + kVecs * kWidth);
    }
    const T* a = g.a + row * g.a_row_stride + panel_begin * g.a_panel_stride;
    const T* b = g.b + (first_col * g.panels + panel_begin * kLine) * g.panel_size;
    const bool padded = g.padding > 0 && panel_end == g.panels;
    const Index whole = padded ? panel_end - 1 : panel_end;
    for (Index p = panel_begin; p < whole; ++p) {
      for (int r = 0; r < R; ++r) {
        prefetch<kL1>(a + g.a_panel_stride + r * g.a_row_stride, g.panel_size);
      }
      if (__builtin_expect(g.fetch != nullptr, 0)) fetch_rows<V>(*g.fetch);
      if (next != nullptr) {
        const Index values = g.panel_size * kLine;
        Ahead<T> ahead({next + (p - panel_begin) * values, values}, {}, row, R, g.rows,
                       g.panel_size);
        accumulate_line<kVecs, kWidth>(sums, last, a, g.a_row_stride, g.panel_size, b,
                                       ahead);
      } else {
        accumulate_line<kVecs, kWidth>(sums, last, a, g.a_row_stride, g.panel_size, b);
      }
      a += g.a_panel_stride;
      b += g.panel_size * kLine;
    }
    if (padded) {
      for (Index slot = 0; slot < g.panel_size; slot += kWidth) {
        accumulate_line<kVecs, kWidth>(sums, last, a + slot, g.a_row_stride,
                                       kWidth - g.padding, b + slot * kLine);
      }
    }
    for (int r = 0; r < R; ++r) {
      T* out = c + r * g.c_stride;
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sums[r][v].store(out + v * kWidth);
      store_lanes(last[r][0], out + kVecs * kWidth, lanes);
    }
  }
};

// Panels of the sum to take for all rows before the next ones: as many as have their
// weights in L1 from one tile of rows to the next, or all.
template <class V, class Isa, int kVecs, class T>
inline Index panels_at_once(const ProductArgs<T>& g) {
  const Index block = Isa::block_bytes();
  if (block == 0 || g.rows <= 2 * Isa::kTileRows) return g.panels;
  const Index panel_bytes = g.panel_size * (kVecs + 1) * V::kWidth * Index{sizeof(T)};
  if (g.panels * panel_bytes <= Isa::least_pieces() * block) return g.panels;
  return panel_bytes < block ? block / panel_bytes : 1;
}

// As many rows beside each panel of a tile that all are fetched by the end.
template <class Isa, class T>
inline void share_fetch(const ProductArgs<T>& g) {
  const Index tiles = (g.rows + Isa::kTileRows - 1) / Isa::kTileRows;
  const Index times = tiles * (g.block_end - g.block_begin) * g.panels;
  const Index rows = g.fetch->rows * (g.fetch->panel_end - g.fetch->panel);
  g.fetch->each = times > 0 ? (rows + times - 1) / times : 0;
}

// One block of kVecs whole vectors of columns and the last one.
template <class V, class Isa, class Last, int kVecs, class T>
inline void product_block(const ProductArgs<T>& g, Index block) {
  constexpr Index kWidth = V::kWidth;
  const Index step = panels_at_once<V, Isa, kVecs>(g);
  const Index bytes = g.cols * g.panels * g.panel_size * Index{sizeof(T)};
  const bool large = step < g.panels && bytes > kBeyondL2;
  const Index after = g.descending ? block - 1 : block + 1;
  const auto weights = [&](Index of_block, Index p) {
    return g.b +
           (of_block * kSlots * g.panels + p * (kVecs + 1)) * kWidth * g.panel_size;
  };
  for (Index p = 0; p < g.panels; p += step) {
    const Index end = p + step < g.panels ? p + step : g.panels;
    const T* next = nullptr;
    if (large && end < g.panels) {
      next = weights(block, end);
    } else if (large && after >= g.block_begin && after < g.block_end) {
      next = weights(after, 0);
    }
    for_row_tiles<Isa::kTileRows>(
        g.rows, ProductTile<V, Last, kVecs, T>{g, block, p, end, next});
  }
}

template <class V, class Isa, class Last, class T>
inline void product_columns(const ProductArgs<T>& g, Index block, Index whole) {
  switch (whole) {
    case 0:
      return product_block<V, Isa, Last, 0>(g, block);
    case 1:
      return product_block<V, Isa, Last, 1>(g, block);
    case 2:
      return product_block<V, Isa, Last, 2>(g, block);
    default:
      return product_block<V, Isa, Last, 3>(g, block);
  }
}

template <class V, class Isa, class T = typename V::Value>
void product(const ProductArgs<T>& g) {
  constexpr Index kBlock = kSlots * V::kWidth;
  if (g.fetch != nullptr) share_fetch<Isa>(g);
  for (Index i = 0; i < g.block_end - g.block_begin; ++i) {
    const Index b = g.descending ? g.block_end - 1 - i : g.block_begin + i;
    const Index left = g.cols - b * kBlock < kBlock ? g.cols - b * kBlock : kBlock;
    const Index whole = (left - 1) / V::kWidth;
    if (fits_half<V, Isa>(static_cast<int>(left - whole * V::kWidth))) {
      product_columns<V, Isa, HalfOf<V, Isa>>(g, b, whole);
    } else {
      product_columns<V, Isa, V>(g, b, whole);
    }
  }
}

template <class V, int kVecs, class T>
inline void narrow_rows(const ProductArgs<T>& g) {
  constexpr int kWidth = V::kWidth;
  for (Index row = 0; row < g.rows; ++row) {
    for (Index col = 0; col < g.cols; ++col) {
      V sums[kSlots] = {V::zero(), V::zero(), V::zero(), V::zero()};
      for (Index p = 0; p < g.panels; ++p) {
        const T* a = g.a + row * g.a_row_stride + p * g.a_panel_stride;
        const T* b = g.b + (p * g.cols + col) * g.panel_size;
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
          sums[v] = fma(V::load(a + v * kWidth), V::load(b + v * kWidth), sums[v]);
        }
      }
      T* c = g.c + row * g.c_stride + col;
      const T sum = reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3]));
      *c = g.accumulate ? *c + sum : sum;
    }
  }
}

template <class V, class T = typename V::Value>
void narrow_product(const ProductArgs<T>& g) {
  if (g.panel_size == kSlots * V::kWidth) {
    narrow_rows<V, kSlots>(g);
  } else {
    narrow_rows<V, kSlots - 1>(g);
  }
}

// kTile columns: d_w[c][s] = [d_w +] sum over k of a[k][c] * d_gates[k][s].
// Slots are kSlot values apart, of which V holds the real ones.
template <class V, int kSlot, int kTile, int kVecs, class T>
inline void outer_tile(const OuterArgs<T>& g, const T* a, T* d_w) {
  V sums[kTile][kVecs];
#pragma GCC unroll 8
  for (int c = 0; c < kTile; ++c) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      sums[c][v] = g.accumulate ? V::load(d_w + (c * kVecs + v) * kSlot) : V::zero();
    }
  }
  prefetch<kL1>(d_w + kTile * kVecs * kSlot, kTile * kVecs * kSlot);
  const OuterSums<T>& from = g.sums;
  const T* d_gates = from.d_gates;
#pragma GCC unroll 2  // measured against 1 and 4
  for (Index k = 0; k < from.rows; ++k, a += from.a_stride, d_gates += kSlots * kSlot) {
    prefetch<kL1>(a + 2 * kTile - 1, 1);  // the end of the next tile's columns
    add_products<0, kVecs, kSlot>(sums, a, 1, d_gates);
  }
#pragma GCC unroll 8
  for (int c = 0; c < kTile; ++c) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) sums[c][v].store(d_w + (c * kVecs + v) * kSlot);
  }
}

template <class V, int kSlot, int kTile, class T>
inline void outer_slots(const OuterArgs<T>& g, const T* a, T* d_w) {
  switch (g.slots) {
    case 1:
      return outer_tile<V, kSlot, kTile, 1>(g, a, d_w);
    case 2:
      return outer_tile<V, kSlot, kTile, 2>(g, a, d_w);
    case 3:
      return outer_tile<V, kSlot, kTile, 3>(g, a, d_w);
    default:
      return outer_tile<V, kSlot, kTile, 4>(g, a, d_w);
  }
}

// The columns that are left after whole tiles: kTile - 1 at most.
template <class V, int kSlot, int kTile, class T>
inline void outer_remainder(const OuterArgs<T>& g, Index left, const T* a, T* d_w) {
  if constexpr (kTile > 0) {
    if (left == kTile) return outer_slots<V, kSlot, kTile>(g, a, d_w);
    outer_remainder<V, kSlot, kTile - 1>(g, left, a, d_w);
  }
}

template <class V, int kSlot, int kTile, class T>
inline void outer_columns(const OuterArgs<T>& g) {
  const Index line = Index{g.slots} * kSlot;
  Index col = 0;
  for (; col + kTile <= g.sums.cols; col += kTile) {
    outer_slots<V, kSlot, kTile>(g, g.sums.a + col, g.d_w + col * line);
  }
  outer_remainder<V, kSlot, kTile - 1>(g, g.sums.cols - col, g.sums.a + col,
                                       g.d_w + col * line);
}

template <class V, class Isa, class T = typename V::Value>
void outer(const OuterArgs<T>& whole) {
  OuterArgs<T> g = whole;
  OuterSums<T>& from = g.sums;
  const Index most = Isa::d_gate_rows();
  Index left = from.rows;
  do {
    from.rows = left < most ? left : most;
    if (fits_half<V, Isa>(g.lanes)) {
      outer_columns<HalfOf<V, Isa>, V::kWidth, Isa::kTileRows>(g);
    } else {
      outer_columns<V, V::kWidth, Isa::kTileRows>(g);
    }
    from.a += from.rows * from.a_stride;
    from.d_gates += from.rows * kSlots * V::kWidth;
    g.accumulate = true;
    left -= from.rows;
  } while (left > 0);
}

// Units of one slot x all columns: each row of w is read and written as it lies.
template <class V, class T>
struct OuterRowTile {
  const OuterSums<T>& from;
  const T* d_gates;
  T* w;
  Index w_stride;
  bool accumulate;

  template <int R>
  void run(Index unit) const {
    for (Index col = 0; col < from.cols; col += kSlots * V::kWidth) {
      switch ((from.cols - col + V::kWidth - 1) / V::kWidth) {
        case 1:
          sum<R, 1>(unit, col);
          break;
        case 2:
          sum<R, 2>(unit, col);
          break;
        case 3:
          sum<R, 3>(unit, col);
          break;
        default:
          sum<R, 4>(unit, col);
      }
    }
  }

  // kVecs vectors of columns, the last of which may have fewer real lanes.
  template <int R, int kVecs>
  void sum(Index unit, Index col) const {
    constexpr int kWidth = V::kWidth;
    constexpr int kLast = (kVecs - 1) * kWidth;
    const int lanes = panel_lanes<V>(from.cols, col + kLast);
    T* out = w + unit * w_stride + col;
    V sums[R][kVecs];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      prefetch<kL1>(out + r * w_stride, kVecs * kWidth);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) sums[r][v] = V::zero();
    }
    const T* left = d_gates + unit;
    const T* right = from.a + col;
    for (Index k = 0; k < from.rows; ++k) {
      add_products<0, kVecs, kWidth>(sums, left, 1, right);
      left += kSlots * kWidth;
      right += from.a_stride;
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r, out += w_stride) {
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        const int count = v < kVecs - 1 ? kWidth : lanes;
        V value = sums[r][v];
        if (accumulate) value = load_lanes<V>(out + v * kWidth, count) + value;
        store_lanes(value, out + v * kWidth, count);
      }
    }
  }
};

template <class V, class Isa, class T = typename V::Value>
void outer_rows(const PanelMap& map, Index panel, const OuterSums<T>& from, T* w,
                Index w_stride, bool accumulate) {
  for (int s = map.slot_begin; s < map.slot_end; ++s) {
    const Index unit = panel * map.panel_units + map.slot_unit[s];
    const T* d_gates = from.d_gates + (s - map.slot_begin) * V::kWidth;
    T* rows = w + (map.slot_row[s] + unit) * w_stride;
    for_row_tiles<Isa::kTileRows>(
        panel_lanes<V>(map.units, unit),
        OuterRowTile<V, T>{from, d_gates, rows, w_stride, accumulate});
  }
}

template <class V, class T = typename V::Value>
void column_sum(const T* d_gates, Index rows, bool accumulate, T* d_bias) {
  V sums[kSlots];
  for (int s = 0; s < kSlots; ++s) {
    sums[s] = accumulate ? V::load(d_bias + s * V::kWidth) : V::zero();
  }
  for (Index k = 0; k < rows; ++k, d_gates += kSlots * V::kWidth) {
    for (int s = 0; s < kSlots; ++s) {
      sums[s] = sums[s] + V::load(d_gates + s * V::kWidth);
    }
  }
  for (int s = 0; s < kSlots; ++s) sums[s].store(d_bias + s * V::kWidth);
}

}  // namespace
}  // namespace fastlstm
