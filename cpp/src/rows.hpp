// Which batch rows take part in each step of a call, and at which steps something is
// special about one of them. Every time loop finds the place of a row through this.
#pragma once

#include <cstdint>

#include "fastlstm/recurrent.hpp"

namespace fastlstm {

// Held: the step is masked, state and output stay as they were. Reset: the row's state
// is zero before the step. A row may be both: then its state is zero, and held.
enum RowFlag : std::uint8_t { kRowHeld = 1, kRowReset = 2 };

// Rows are sorted so that those which take part at time t are the rows [0, count(t)),
// and count never grows with t. With offsets, sequence arrays and records are packed:
// they hold these rows only, time by time, and row n of time t is row first(t) + n.
struct SequenceRows {
  Index seq_len = 0;
  Index batch_size = 0;
  Index start = 0;                 // of a piece: its first time in the whole sequence
  const Index* offsets = nullptr;  // (T + 1): rows before time t, from any number
                                   // on; null: t * batch_size
  const std::uint8_t* flags = nullptr;  // (total): RowFlag bits; null: none
  const std::uint8_t* any = nullptr;    // (T): union of the flags of time t

  Index first(Index t) const {
    return offsets != nullptr ? offsets[t] - offsets[0] : t * batch_size;
  }
  Index count(Index t) const {
    return offsets != nullptr ? offsets[t + 1] - offsets[t] : batch_size;
  }
  Index total() const { return first(seq_len); }

  std::uint8_t flags_at(Index t) const { return flags != nullptr ? any[t] : 0; }
  // (count(t)); only where flags_at(t) is not 0.
  const std::uint8_t* flags_of(Index t) const { return flags + first(t); }

  // Rows that have a step before time t in their direction; the rows after them, up to
  // count(t), start from the initial state.
  Index carried(Index t, bool reverse) const {
    if (!reverse) return t > 0 ? count(t) : 0;
    return t + 1 < seq_len ? count(t + 1) : 0;
  }

  // Row n of time t of a sequence array.
  template <class Value>
  Value* at(const SequenceView<Value>& view, Index t, Index n) const {
    const Index row = offsets != nullptr ? (first(t) + n) * view.stride_n
                                         : t * view.stride_t + n * view.stride_n;
    return view.data + row;
  }

  // The times [begin, end) as a sequence of their own, whose arrays start with them.
  SequenceRows piece(Index begin, Index end) const {
    SequenceRows rows = *this;
    rows.seq_len = end - begin;
    rows.start = start + begin;
    if (offsets != nullptr) rows.offsets = offsets + begin;
    if (flags != nullptr) {
      rows.flags = flags_of(begin);
      rows.any = any + begin;
    }
    return rows;
  }
};

}  // namespace fastlstm
