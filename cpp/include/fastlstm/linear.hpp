// Dense layer on rows, out = x weight^T + bias, forward and backward, and the sum that
// a table look-up needs backward. Softmax and losses are in losses.hpp. Called by the
// bindings and by C++ users.
#pragma once

#include <cstdint>

#include "fastlstm/export.h"
#include "fastlstm/types.hpp"

namespace fastlstm {

struct LinearShape {
  Index rows;           // batch, or batch times steps; may be 0
  Index in_features;    // >= 1
  Index out_features;   // >= 1
  int max_threads = 0;  // 0: as many as help
};

// x:      (rows, in_features), row-major; read
// weight: (out_features, in_features), row-major; read
// bias:   (out_features,); read; nullptr counts as zeros
// out:    (rows, out_features), row-major; written; must not alias the others
// The order of every sum depends on in_features alone, not on rows.
template <class T>
FASTLSTM_API void linear_forward(const LinearShape& shape, const T* x, const T* weight,
                                 const T* bias, T* out) noexcept;

// x, weight: as in linear_forward; read
// d_out:    (rows, out_features); read
// d_weight: (out_features, in_features); accumulated, rows in ascending order
// d_bias:   (out_features,); accumulated; nullptr where there is no bias
// d_x:      (rows, in_features); written; nullptr where nobody needs it
// No output may alias another array.
template <class T>
FASTLSTM_API void linear_backward(const LinearShape& shape, const T* x, const T* weight,
                                  const T* d_out, T* d_weight, T* d_bias,
                                  T* d_x) noexcept;

// table[indices[i]] += values[i] for i ascending
// indices: (count,), each a row of table; read
// values:  (count, columns), row-major; read
// table:   (any, columns), row-major; accumulated
template <class T>
FASTLSTM_API void scatter_add(Index count, Index columns, const std::int64_t* indices,
                              const T* values, T* table) noexcept;

}  // namespace fastlstm
