// Dense layer, forward and backward, in plain loops that the compiler vectorises.
// Heads are small beside the recurrence they follow, so nothing is packed.
#include "fastlstm/linear.hpp"

namespace fastlstm {
namespace {

// A tile of 4 x 4 sums is 16 independent chains of additions: enough to hide the
// latency of 4 cycles at two additions a cycle, and it still fits 16 registers.
constexpr Index kTile = 4;

// out[r][o] = bias[o] + sum_k x[r][k] weight[o][k] for one tile of rows and outputs
template <class T, Index kRows, Index kOuts>
void forward_tile(const LinearShape& shape, const T* x, const T* weight, const T* bias,
                  T* out) noexcept {
  T sum[kRows][kOuts];
  for (Index r = 0; r < kRows; ++r) {
    for (Index o = 0; o < kOuts; ++o) sum[r][o] = bias ? bias[o] : T(0);
  }
  const Index depth = shape.in_features;
  for (Index k = 0; k < depth; ++k) {
    for (Index r = 0; r < kRows; ++r) {
      for (Index o = 0; o < kOuts; ++o) {
        sum[r][o] += x[r * depth + k] * weight[o * depth + k];
      }
    }
  }
  for (Index r = 0; r < kRows; ++r) {
    for (Index o = 0; o < kOuts; ++o) {
      out[r * shape.out_features + o] = sum[r][o];
    }
  }
}

// Tiles of kRows rows over all outputs.
template <class T, Index kRows>
void forward_rows(const LinearShape& shape, const T* x, const T* weight, const T* bias,
                  T* out) noexcept {
  Index o = 0;
  for (; o + kTile <= shape.out_features; o += kTile) {
    forward_tile<T, kRows, kTile>(shape, x, weight + o * shape.in_features,
                                  bias ? bias + o : nullptr, out + o);
  }
  for (; o < shape.out_features; ++o) {
    forward_tile<T, kRows, 1>(shape, x, weight + o * shape.in_features,
                              bias ? bias + o : nullptr, out + o);
  }
}

// sum[k] += a[0] row0[k] + ... + a[3] row3[k], rows `stride` apart
template <class T>
void add_four_rows(Index n, const T* a, Index a_stride, const T* rows, Index stride,
                   T* sum) noexcept {
  const T a0 = a[0], a1 = a[a_stride], a2 = a[2 * a_stride], a3 = a[3 * a_stride];
  for (Index k = 0; k < n; ++k) {
    sum[k] = (((sum[k] + a0 * rows[k]) + a1 * rows[stride + k]) +
              a2 * rows[2 * stride + k]) +
             a3 * rows[3 * stride + k];
  }
}

// sum[k] += sum_j a[j] rows[j][k], j ascending: one order whatever the unrolling
template <class T>
void add_rows(Index count, Index n, const T* a, Index a_stride, const T* rows,
              T* sum) noexcept {
  Index j = 0;
  for (; j + 4 <= count; j += 4) {
    add_four_rows(n, a + j * a_stride, a_stride, rows + j * n, n, sum);
  }
  for (; j < count; ++j) {
    const T factor = a[j * a_stride];
    for (Index k = 0; k < n; ++k) sum[k] += factor * rows[j * n + k];
  }
}

}  // namespace

template <class T>
void linear_forward(const LinearShape& shape, const T* x, const T* weight,
                    const T* bias, T* out) noexcept {
  Index row = 0;
  for (; row + kTile <= shape.rows; row += kTile) {
    forward_rows<T, kTile>(shape, x + row * shape.in_features, weight, bias,
                           out + row * shape.out_features);
  }
  for (; row < shape.rows; ++row) {
    forward_rows<T, 1>(shape, x + row * shape.in_features, weight, bias,
                       out + row * shape.out_features);
  }
}

// d_x = d_out weight;  d_weight += d_out^T x;  d_bias += sum over rows of d_out
template <class T>
void linear_backward(const LinearShape& shape, const T* x, const T* weight,
                     const T* d_out, T* d_weight, T* d_bias, T* d_x) noexcept {
  const Index in = shape.in_features;
  const Index outs = shape.out_features;
  for (Index o = 0; o < outs; ++o) {
    add_rows(shape.rows, in, d_out + o, outs, x, d_weight + o * in);
  }
  if (d_bias != nullptr) {
    for (Index row = 0; row < shape.rows; ++row) {
      for (Index o = 0; o < outs; ++o) d_bias[o] += d_out[row * outs + o];
    }
  }
  if (d_x == nullptr) return;
  for (Index row = 0; row < shape.rows; ++row) {
    T* d_x_row = d_x + row * in;
    for (Index k = 0; k < in; ++k) d_x_row[k] = T(0);
    add_rows(outs, in, d_out + row * outs, 1, weight, d_x_row);
  }
}

template <class T>
void scatter_add(Index count, Index columns, const std::int64_t* indices,
                 const T* values, T* table) noexcept {
  for (Index i = 0; i < count; ++i) {
    T* row = table + indices[i] * columns;
    for (Index c = 0; c < columns; ++c) row[c] += values[i * columns + c];
  }
}

#define FASTLSTM_LINEAR(T)                                                           \
  template void linear_forward<T>(const LinearShape&, const T*, const T*, const T*,  \
                                  T*) noexcept;                                      \
  template void linear_backward<T>(const LinearShape&, const T*, const T*, const T*, \
                                   T*, T*, T*) noexcept;                             \
  template void scatter_add<T>(Index, Index, const std::int64_t*, const T*,          \
                               T*) noexcept;
FASTLSTM_LINEAR(float)
FASTLSTM_LINEAR(double)
#undef FASTLSTM_LINEAR

}  // namespace fastlstm
