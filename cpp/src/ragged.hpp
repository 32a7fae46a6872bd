// Ragged and masked batches: sorts the rows of a call by length and copies between the
// caller's arrays and packed ones, which hold only the steps before each row's length.
// Used by recurrent.cpp.
#pragma once

#include "parallel.hpp"
#include "rows.hpp"

namespace fastlstm {

RowOrder make_order(const StepMarks& marks, Index seq_len, Index batch_size);

// The rows as the time loops see them; points into the order.
SequenceRows rows_of(const RowOrder& order, Index batch_size);

// packed (rows, units) = view at these steps: `rows` are all of the order's, or a piece
// of them; the view is of the whole sequence. With clean, masked steps become zero:
// what stands there is never read. All threads of the team call these.
template <class T>
void gather_steps(const RowOrder& order, const SequenceRows& rows,
                  SequenceView<const T> view, Index units, bool clean, T* packed,
                  const Team& team);

// The inverse, over `seq_len` times from the first of the rows on; the view is zero
// where a row has no step and, with clean, where a step is masked.
template <class T>
void scatter_steps(const RowOrder& order, const SequenceRows& rows, const T* packed,
                   Index units, bool clean, Index seq_len, SequenceView<T> view,
                   const Team& team);

// states (count, N, units) by place from the caller's rows, and back.
template <class T>
void gather_states(const RowOrder& order, Index count, Index units, const T* states,
                   T* sorted);
template <class T>
void scatter_states(const RowOrder& order, Index count, Index units, const T* sorted,
                    T* states);

}  // namespace fastlstm
