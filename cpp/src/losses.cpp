// Losses with their gradients, and softmax, one row at a time.
// Heads are narrow: the rows are few beside the recurrence, plain loops do.
#include "fastlstm/losses.hpp"

#include <algorithm>
#include <cmath>

namespace fastlstm {
namespace {

// Rows are summed in blocks of this many and the blocks in order, so that the value
// is the same however blocks are dealt to threads.
constexpr Index kBlockRows = 256;

// out[c] = exp(logits[c] - top), top the largest; returns the sum, sets top
template <class T>
T exp_row(Index columns, const T* logits, T* out, T& top) noexcept {
  top = *std::max_element(logits, logits + columns);
  T sum = 0;
  for (Index c = 0; c < columns; ++c) {
    const T value = std::exp(logits[c] - top);
    if (out != nullptr) out[c] = value;
    sum += value;
  }
  return sum;
}

template <class T>
bool is_real(const LossRows<T>& which, Index row) noexcept {
  return which.mask == nullptr || which.mask[row] != 0;
}

template <class T>
double row_weight(const LossRows<T>& which, Index row) noexcept {
  return which.weight == nullptr ? 1.0 : static_cast<double>(which.weight[row]);
}

template <class T>
Index count_real(Index rows, const LossRows<T>& which) noexcept {
  if (which.mask == nullptr) return rows;
  return rows - std::count(which.mask, which.mask + rows, std::uint8_t{0});
}

// Sum over the real rows of row_loss(row, weight); masked rows of d are zeroed.
template <class T, class RowLoss>
double sum_rows(const LossShape& shape, const LossRows<T>& which, T* d,
                RowLoss row_loss) noexcept {
  double total = 0;
  for (Index begin = 0; begin < shape.rows; begin += kBlockRows) {
    const Index end = std::min(begin + kBlockRows, shape.rows);
    double block = 0;
    for (Index row = begin; row < end; ++row) {
      if (is_real(which, row)) {
        block += row_loss(row, row_weight(which, row));
      } else if (d != nullptr) {
        std::fill_n(d + row * shape.columns, shape.columns, T(0));
      }
    }
    total += block;
  }
  return total;
}

// value: penalty(e); slope: its derivative
template <class T>
struct Squared {
  T value(T e) const noexcept { return e * e; }
  T slope(T e) const noexcept { return 2 * e; }
};

template <class T>
struct Absolute {
  T value(T e) const noexcept { return std::abs(e); }
  T slope(T e) const noexcept { return e > 0 ? T(1) : (e < 0 ? T(-1) : e); }
};

template <class T>
struct Huber {
  T delta;
  T value(T e) const noexcept {
    const T size = std::abs(e);
    return size > delta ? delta * (size - delta / 2) : e * e / 2;
  }
  T slope(T e) const noexcept { return e > delta ? delta : (e < -delta ? -delta : e); }
};

template <class T, class Penalty>
double mean_penalty(const LossShape& shape, Penalty penalty, const T* prediction,
                    const T* target, const LossRows<T>& which, T* d) noexcept {
  const Index real = count_real(shape.rows, which);
  const double values = static_cast<double>(real * shape.columns);
  const double scale = real == 0 ? 0.0 : 1.0 / values;
  const auto row_loss = [&](Index row, double weight) noexcept {
    const T factor = static_cast<T>(weight * scale);
    double sum = 0;
    for (Index c = 0; c < shape.columns; ++c) {
      const Index i = row * shape.columns + c;
      const T error = prediction[i] - target[i];
      sum += static_cast<double>(penalty.value(error));
      if (d != nullptr) d[i] = factor * penalty.slope(error);
    }
    return weight * sum;
  };
  return scale * sum_rows(shape, which, d, row_loss);
}

}  // namespace

template <class T>
void softmax(const LossShape& shape, const T* logits, T* out) noexcept {
  for (Index row = 0; row < shape.rows; ++row) {
    T* row_out = out + row * shape.columns;
    T top;
    const T sum = exp_row(shape.columns, logits + row * shape.columns, row_out, top);
    for (Index c = 0; c < shape.columns; ++c) row_out[c] /= sum;
  }
}

Index find_bad_label(const LossShape& shape, const std::int64_t* labels,
                     const std::uint8_t* mask) noexcept {
  for (Index row = 0; row < shape.rows; ++row) {
    if (mask != nullptr && mask[row] == 0) continue;
    if (labels[row] < 0 || labels[row] >= shape.columns) return row;
  }
  return -1;
}

// d_logits[r][c] = weight[r] (softmax(logits[r])[c] - [c == label]) / real rows
template <class T>
double cross_entropy(const LossShape& shape, const T* logits,
                     const std::int64_t* labels, const LossRows<T>& which,
                     T* d_logits) noexcept {
  const Index real = count_real(shape.rows, which);
  const double scale = real == 0 ? 0.0 : 1.0 / static_cast<double>(real);
  const auto row_loss = [&](Index row, double weight) noexcept {
    const T* in = logits + row * shape.columns;
    T* d = d_logits == nullptr ? nullptr : d_logits + row * shape.columns;
    const T label_logit = in[labels[row]];  // read before d, which may be in
    T top;
    const T sum = exp_row(shape.columns, in, d, top);
    if (d != nullptr) {
      const T factor = static_cast<T>(weight * scale);
      for (Index c = 0; c < shape.columns; ++c) {
        const T hit = c == labels[row] ? T(1) : T(0);
        d[c] = factor * (d[c] / sum - hit);
      }
    }
    return weight * static_cast<double>(std::log(sum) + (top - label_logit));
  };
  return scale * sum_rows(shape, which, d_logits, row_loss);
}

template <class T>
double regression_loss(const LossShape& shape, ErrorPenalty penalty, double delta,
                       const T* prediction, const T* target, const LossRows<T>& which,
                       T* d_prediction) noexcept {
  switch (penalty) {
    case ErrorPenalty::absolute:
      return mean_penalty(shape, Absolute<T>{}, prediction, target, which,
                          d_prediction);
    case ErrorPenalty::huber:
      return mean_penalty(shape, Huber<T>{static_cast<T>(delta)}, prediction, target,
                          which, d_prediction);
    case ErrorPenalty::squared:
      break;
  }
  return mean_penalty(shape, Squared<T>{}, prediction, target, which, d_prediction);
}

#define FASTLSTM_LOSSES(T)                                                             \
  template void softmax<T>(const LossShape&, const T*, T*) noexcept;                   \
  template double cross_entropy<T>(const LossShape&, const T*, const std::int64_t*,    \
                                   const LossRows<T>&, T*) noexcept;                   \
  template double regression_loss<T>(const LossShape&, ErrorPenalty, double, const T*, \
                                     const T*, const LossRows<T>&, T*) noexcept;
FASTLSTM_LOSSES(float)
FASTLSTM_LOSSES(double)
#undef FASTLSTM_LOSSES

}  // namespace fastlstm
