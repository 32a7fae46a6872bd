// The state that a step starts from. Mostly it is that of the step before and read
// where it lies. Where rows of a step differ (some start, are reset or held), it is
// staged: a copy is made in which each row has its own. The kernels never know.
#pragma once

#include <algorithm>

#include "dropout.hpp"
#include "layer_plan.hpp"

namespace fastlstm {

template <class T>
struct PreviousState {
  const LayerPlan<T>& plan;
  SequenceView<const T> output;
  const T* h0 = nullptr;     // (N, H) or null: zeros
  const T* zeros = nullptr;  // (padded units)
  T* staged_h = nullptr;     // (N, padded units)
  T* staged_c = nullptr;     // LSTM: (P, N, W)
  T* factors = nullptr;      // recurrent dropout of h: (N, padded units); null: none
  T* dropped_h = nullptr;    // (N, padded units): h that W_hh sees

  // Takes the memory to stage in: none where no step can need it.
  void take(Arena& arena, const RecurrentDropout& dropout) {
    const bool may = plan.rows.flags != nullptr || plan.rows.offsets != nullptr;
    const Index rows = may ? plan.batch_size : 0;
    staged_h = arena.take<T>(checked_product(rows, plan.padded_units));
    const Index values = checked_product(plan.batch_size, plan.padded_units);
    factors = dropout.p > 0 ? arena.take<T>(values) : nullptr;
    dropped_h = dropout.p > 0 ? arena.take<T>(values) : nullptr;
    staged_c = arena.take<T>(
        plan.lstm() ? checked_product(rows, plan.panels * plan.width) : 0);
  }

  Index time_before(Index t) const { return plan.reverse ? t + 1 : t - 1; }
  Index carried(Index t) const { return plan.rows.carried(t, plan.reverse); }

  bool staged(Index t) const {
    const Index rows = carried(t);
    return plan.rows.flags_at(t) != 0 || (rows > 0 && rows < plan.rows.count(t));
  }
  bool reset(Index t, Index n) const {
    return (plan.rows.flags_at(t) & kRowReset) != 0 &&
           (plan.rows.flags_of(t)[n] & kRowReset) != 0;
  }
  bool held(Index t, Index n) const {
    return (plan.rows.flags_at(t) & kRowHeld) != 0 &&
           (plan.rows.flags_of(t)[n] & kRowHeld) != 0;
  }

  // h of one row before time t: (H).
  const T* h_row(Index t, Index n) const {
    if (reset(t, n)) return zeros;
    if (n < carried(t)) return plan.rows.at(output, time_before(t), n);
    return h0 != nullptr ? h0 + n * plan.hidden_size : zeros;
  }

  // h of the rows from `row` on before time t, and their stride; not where staged.
  const T* h_rows(Index t, Index row, Index& stride) const {
    if (carried(t) > 0) {
      stride = output.stride_n;
      return plan.rows.at(output, time_before(t), row);
    }
    stride = h0 != nullptr ? plan.hidden_size : 0;
    return h0 != nullptr ? h0 + row * stride : zeros;
  }

  // Copies the part's rows and units of h.
  void stage_h(Index t, const Part& part) const {
    const auto [unit, end] = units_of(plan, part);
    for (Index n = part.rows.begin; n < part.rows.end && unit < end; ++n) {
      const T* from = h_row(t, n);
      std::copy(from + unit, from + end, staged_h + n * plan.padded_units + unit);
    }
  }

  // h of the part's rows and units as W_hh sees it: with recurrent dropout only.
  void drop_h(Index t, const Part& part) const {
    const auto [unit, end] = units_of(plan, part);
    for (Index n = part.rows.begin; n < part.rows.end; ++n) {
      const T* h = h_row(t, n);
      const T* factor = factors + n * plan.padded_units;
      T* to = dropped_h + n * plan.padded_units;
      for (Index u = unit; u < end; ++u)
        to[u] = factor[u] != 0 ? h[u] * factor[u] : T(0);
    }
  }

  // Copies c as stage_h copies h. `before`: of the step before; `first`: the initial
  // one.
  void stage_c(Index t, const Part& part, const PanelRows<const T>& before,
               const PanelRows<const T>& first) const {
    const Index rows = carried(t);
    const PanelRows<T> to = state_rows(plan, staged_c);
    for (Index p = part.panels.begin; p < part.panels.end; ++p) {
      for (Index n = part.rows.begin; n < part.rows.end; ++n) {
        if (reset(t, n)) {
          std::fill_n(to.at(n, p), plan.width, T(0));
        } else {
          std::copy_n((n < rows ? before : first).at(n, p), plan.width, to.at(n, p));
        }
      }
    }
  }
};

}  // namespace fastlstm
