// Lengths, masks and resets for tests.
#pragma once

#include <memory>
#include <vector>

#include "recurrent_problem.hpp"

namespace fastlstm::testing {

// Random marks of (T, N) steps and what StepMarks wants of them.
struct Marks {
  std::vector<Index> lengths;
  std::unique_ptr<bool[]> mask, reset;
  Index steps, rows;

  Marks(Index seq_len, Index batch_size)
      : mask(new bool[static_cast<std::size_t>(seq_len * batch_size)]),
        reset(new bool[static_cast<std::size_t>(seq_len * batch_size)]),
        steps(seq_len),
        rows(batch_size) {
    Random<double> random(5);
    for (Index n = 0; n < rows; ++n) {
      // 0 and T are among them.
      lengths.push_back(rows > 1 ? (n * 7 % rows) * steps / (rows - 1) : steps);
    }
    for (Index i = 0; i < steps * rows; ++i) {
      mask[static_cast<std::size_t>(i)] = random.next() < 0.3;
      reset[static_cast<std::size_t>(i)] = random.next() < -0.7;
    }
  }

  StepMarks view(bool ragged, bool masked, bool resets) const {
    const auto of = [&](bool wanted, const std::unique_ptr<bool[]>& flags) {
      return SequenceView<const bool>{wanted ? flags.get() : nullptr, rows, 1};
    };
    return {ragged ? lengths.data() : nullptr, of(masked, mask), of(resets, reset)};
  }

  bool real(Index t, Index n) const {
    return t < lengths[static_cast<std::size_t>(n)] &&
           mask[static_cast<std::size_t>(t * rows + n)];
  }
};

}  // namespace fastlstm::testing
