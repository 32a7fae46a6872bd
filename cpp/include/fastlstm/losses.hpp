// Losses on rows, each with its gradient, and softmax.
// A row is one real step: masked rows are never read and their gradient is 0.
// Called by the bindings and by C++ users.
#pragma once

#include <cstdint>

#include "fastlstm/export.h"
#include "fastlstm/types.hpp"

namespace fastlstm {

struct LossShape {
  Index rows;     // batch, or batch times steps; may be 0
  Index columns;  // classes or values in a row, >= 1
};

// Which rows count and how much.
// weight: (rows,); read; nullptr counts as ones
// mask:   (rows,), nonzero where the row is real; read; nullptr: all rows are real
template <class T>
struct LossRows {
  const T* weight = nullptr;
  const std::uint8_t* mask = nullptr;
};

// How a regression loss grows with the error e = prediction - target.
enum class ErrorPenalty {
  squared,   // e^2
  absolute,  // |e|; its slope at 0 is 0
  huber,     // e^2/2 up to |e| = delta, then delta (|e| - delta/2)
};

// logits, out: (rows, columns), row-major; may be the same array
// out[r] = exp(logits[r] - max) / sum exp(logits[r] - max)
template <class T>
FASTLSTM_API void softmax(const LossShape& shape, const T* logits, T* out) noexcept;

// First real row whose label is not in 0..columns-1, or -1.
// labels: (rows,); read
// mask:   (rows,) or nullptr, as in LossRows; read
FASTLSTM_API Index find_bad_label(const LossShape& shape, const std::int64_t* labels,
                                  const std::uint8_t* mask) noexcept;

// Mean over the real rows of weight[r] (log sum_c exp(logits[r][c]) -
// logits[r][label]). logits:   (rows, columns), row-major; read labels:   (rows,),
// checked with find_bad_label; read d_logits: (rows, columns); written; may be logits
// itself; nullptr: value only 0 where no row is real. Sums are double, rows in blocks
// of fixed size.
template <class T>
FASTLSTM_API double cross_entropy(const LossShape& shape, const T* logits,
                                  const std::int64_t* labels, const LossRows<T>& which,
                                  T* d_logits) noexcept;

// Mean over the real rows and all columns of weight[r] penalty(prediction - target).
// prediction, target: (rows, columns), row-major; read
// d_prediction: (rows, columns); written; may be prediction itself; or nullptr
// delta: where Huber's loss turns linear, > 0; unused by the others
template <class T>
FASTLSTM_API double regression_loss(const LossShape& shape, ErrorPenalty penalty,
                                    double delta, const T* prediction, const T* target,
                                    const LossRows<T>& which, T* d_prediction) noexcept;

}  // namespace fastlstm
