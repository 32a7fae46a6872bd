// A dense layer on rows, forward and backward, on arrays as they are: heads are narrow,
// so packing would cost as much as the product. Included through bodies.hpp.
#pragma once

#include "gemm.hpp"
#include "lanes.hpp"
#include "table.hpp"

namespace fastlstm {
namespace {

// out[r][o] = bias[o] + sum over k of x[r][k] w[o][k] for R rows, kOuts outputs
template <class V, int R, int kOuts, class T>
inline void dense_tile(const DenseArgs<T>& a, Index row, Index output) {
  const T* x = a.x + row * a.inputs;
  const T* w = a.w + output * a.inputs;
  V sums[R][kOuts];
  for (auto& line : sums) {
    for (V& sum : line) sum = V::zero();
  }
  for_vectors<V>(a.inputs, [&](Index k, int lanes) {
    V left[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) left[r] = load_lanes<V>(x + r * a.inputs + k, lanes);
#pragma GCC unroll 4
    for (int o = 0; o < kOuts; ++o) {
      const V right = load_lanes<V>(w + o * a.inputs + k, lanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[r][o] = fma(left[r], right, sums[r][o]);
    }
  });
  for (int r = 0; r < R; ++r) {
    for (int o = 0; o < kOuts; ++o) {
      const T sum = reduce_add(sums[r][o]);
      a.out[(row + r) * a.outputs + output + o] =
          a.bias == nullptr ? sum : sum + a.bias[output + o];
    }
  }
}

template <class V, class T>
struct DenseTile {
  const DenseArgs<T>& a;
  explicit DenseTile(const DenseArgs<T>& args) : a(args) {}

  template <int R>
  void run(Index row) const {
    Index o = 0;
    for (; o + kSlots <= a.outputs; o += kSlots) dense_tile<V, R, kSlots>(a, row, o);
    for (; o < a.outputs; ++o) dense_tile<V, R, 1>(a, row, o);
  }
};

template <class V, class Isa, class T = typename V::Value>
void dense_forward(const DenseArgs<T>& a) {
  for_row_tiles<Isa::kTileRows>(a.rows, DenseTile<V, T>(a));
}

// out[i][k] = [out[i][k] +] sum over j, ascending, of a(i, j) b[j][k], where a(i, j) is
// at a + i * a_line + j * a_step, for the columns k in [begin, end).
template <class T>
struct LinesArgs {
  const T* a;
  Index a_line, a_step;
  const T* b;  // (count, columns)
  Index count, columns;
  Index begin, end;
  T* out;  // (lines, columns)
  bool accumulate;
};

// R lines and kVecs vectors of columns, the last of which has `lanes` real lanes.
template <class V, int R, int kVecs, class T>
inline void lines_block(const LinesArgs<T>& g, Index line, Index first, int lanes) {
  constexpr int kWidth = V::kWidth;
  T* out = g.out + line * g.columns + first;
  V sums[R][kVecs];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const T* old = out + r * g.columns + v * kWidth;
      sums[r][v] = !g.accumulate   ? V::zero()
                   : v + 1 < kVecs ? V::load(old)
                                   : load_lanes<V>(old, lanes);
    }
  }
  const T* a = g.a + line * g.a_line;
  const T* b = g.b + first;
  for (Index j = 0; j < g.count; ++j, a += g.a_step, b += g.columns) {
    V left[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) left[r] = V::set1(a[r * g.a_line]);
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      const T* next = b + v * kWidth;
      const V right = v + 1 < kVecs ? V::load(next) : load_lanes<V>(next, lanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[r][v] = fma(left[r], right, sums[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      T* next = out + r * g.columns + v * kWidth;
      if (v + 1 < kVecs) {
        sums[r][v].store(next);
      } else {
        store_lanes(sums[r][v], next, lanes);
      }
    }
  }
}

template <class V, class T>
struct LinesTile {
  const LinesArgs<T>& g;
  explicit LinesTile(const LinesArgs<T>& args) : g(args) {}

  template <int R>
  void run(Index line) const {
    constexpr Index kBlock = kSlots * V::kWidth;
    Index k = g.begin;
    for (; k + kBlock <= g.end; k += kBlock) {
      lines_block<V, R, kSlots>(g, line, k, V::kWidth);
    }
    for (; k < g.end; k += V::kWidth) {
      lines_block<V, R, 1>(g, line, k, panel_lanes<V>(g.end, k));
    }
  }
};

template <class V, class Isa, class T = typename V::Value>
void dense_d_x(const DenseBackwardArgs<T>& g) {
  const LinesArgs<T> lines = {g.d_out,  g.outputs, 1,        g.w,   g.outputs,
                              g.inputs, 0,         g.inputs, g.d_x, false};
  for_row_tiles<Isa::kTileRows>(g.rows, LinesTile<V, T>(lines));
}

template <class V, class Isa, class T = typename V::Value>
void dense_d_w(const DenseBackwardArgs<T>& g) {
  const LinesArgs<T> lines = {g.d_out,  1,           g.outputs, g.x,   g.rows,
                              g.inputs, g.col_begin, g.col_end, g.d_w, true};
  for_row_tiles<Isa::kTileRows>(g.outputs, LinesTile<V, T>(lines));
  // Once, with the first columns.
  if (g.d_bias == nullptr || g.col_begin > 0 || g.col_end == 0) return;
  for_vectors<V>(g.outputs, [&](Index i, int lanes) {
    V sum = load_lanes<V>(g.d_bias + i, lanes);
    for (Index row = 0; row < g.rows; ++row) {
      sum = sum + load_lanes<V>(g.d_out + row * g.outputs + i, lanes);
    }
    store_lanes(sum, g.d_bias + i, lanes);
  });
}

}  // namespace
}  // namespace fastlstm
