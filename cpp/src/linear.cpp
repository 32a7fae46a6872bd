// Dense layer, forward and backward: its rows and columns dealt out to threads. The
// products themselves are kernels.
#include "fastlstm/linear.hpp"

#include "fastlstm/threads.hpp"
#include "kernels/table.hpp"
#include "parallel.hpp"

namespace fastlstm {
namespace {

// Fewer multiply-adds than this are done within about 100 us.
constexpr Index kMinParallelWork = 4000000;

int threads_for(const LinearShape& shape) {
  const Index work = shape.rows * shape.in_features * shape.out_features;
  return work < kMinParallelWork ? 1 : useful_threads(shape.max_threads);
}

}  // namespace

template <class T>
void linear_forward(const LinearShape& shape, const T* x, const T* weight,
                    const T* bias, T* out) noexcept {
  const Kernels<T>& k = kernels<T>();
  auto body = [&](const Team& team) {
    const Team::Range rows = team.share(shape.rows, k.outer_tile);
    k.dense_forward({rows.end - rows.begin, shape.in_features, shape.out_features,
                     x + rows.begin * shape.in_features, weight, bias,
                     out + rows.begin * shape.out_features});
  };
  parallel(threads_for(shape), body);
}

template <class T>
void linear_backward(const LinearShape& shape, const T* x, const T* weight,
                     const T* d_out, T* d_weight, T* d_bias, T* d_x) noexcept {
  const Kernels<T>& k = kernels<T>();
  DenseBackwardArgs<T> all{};
  all.rows = shape.rows;
  all.inputs = shape.in_features;
  all.outputs = shape.out_features;
  all.x = x;
  all.w = weight;
  all.d_out = d_out;
  all.d_w = d_weight;
  all.d_bias = d_bias;
  all.d_x = d_x;
  auto body = [&](const Team& team) {
    DenseBackwardArgs<T> part = all;
    const Team::Range columns = team.share(shape.in_features, k.width);
    part.col_begin = columns.begin;
    part.col_end = columns.end;
    k.dense_d_w(part);
    if (d_x == nullptr) return;
    const Team::Range rows = team.share(shape.rows, k.outer_tile);
    part.rows = rows.end - rows.begin;
    part.d_out = d_out + rows.begin * shape.out_features;
    part.d_x = d_x + rows.begin * shape.in_features;
    k.dense_d_x(part);
  };
  parallel(threads_for(shape), body);
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
