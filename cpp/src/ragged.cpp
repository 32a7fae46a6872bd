// See ragged.hpp.
#include "ragged.hpp"

#include <algorithm>
#include <numeric>

namespace fastlstm {
namespace {

std::uint8_t flags_at(const StepMarks& marks, Index t, Index n) {
  const auto read = [&](const SequenceView<const bool>& view) {
    return view.data[t * view.stride_t + n * view.stride_n];
  };
  std::uint8_t flags = 0;
  if (marks.mask.data != nullptr && !read(marks.mask)) flags |= kRowHeld;
  if (marks.reset.data != nullptr && read(marks.reset)) flags |= kRowReset;
  return flags;
}

bool is_held(const SequenceRows& rows, Index t, Index n) {
  return (rows.flags_at(t) & kRowHeld) != 0 && (rows.flags_of(t)[n] & kRowHeld) != 0;
}

}  // namespace

RowOrder make_order(const StepMarks& marks, Index seq_len, Index batch_size) {
  RowOrder order;
  order.packed = marks.lengths != nullptr || marks.mask.data != nullptr;
  order.seq_len = seq_len;
  const auto length = [&](Index n) {
    return marks.lengths != nullptr ? marks.lengths[n] : seq_len;
  };
  if (order.packed) {
    order.source.resize(static_cast<std::size_t>(batch_size));
    std::iota(order.source.begin(), order.source.end(), Index{0});
    std::stable_sort(order.source.begin(), order.source.end(),
                     [&](Index a, Index b) { return length(a) > length(b); });
    order.seq_len = batch_size > 0 ? length(order.source[0]) : 0;
    order.offsets.assign(1, 0);
    Index count = batch_size;
    for (Index t = 0; t < order.seq_len; ++t) {
      while (count > 0 &&
             length(order.source[static_cast<std::size_t>(count - 1)]) <= t)
        --count;
      order.offsets.push_back(order.offsets.back() + count);
    }
  }
  if (marks.mask.data == nullptr && marks.reset.data == nullptr) return order;

  for (Index t = 0; t < order.seq_len; ++t) {
    const auto at = static_cast<std::size_t>(t);
    const Index count =
        order.packed ? order.offsets[at + 1] - order.offsets[at] : batch_size;
    std::uint8_t any = 0;
    for (Index n = 0; n < count; ++n) {
      const Index row = order.packed ? order.source[static_cast<std::size_t>(n)] : n;
      order.flags.push_back(flags_at(marks, t, row));
      any |= order.flags.back();
    }
    order.any.push_back(any);
  }
  return order;
}

SequenceRows rows_of(const RowOrder& order, Index batch_size) {
  SequenceRows rows;
  rows.seq_len = order.seq_len;
  rows.batch_size = batch_size;
  if (order.packed) rows.offsets = order.offsets.data();
  if (!order.flags.empty()) {
    rows.flags = order.flags.data();
    rows.any = order.any.data();
  }
  return rows;
}

template <class T>
void gather_steps(const RowOrder& order, const SequenceRows& rows,
                  SequenceView<const T> view, Index units, bool clean, T* packed,
                  const Team& team) {
  const Team::Range times = team.share(rows.seq_len);
  for (Index t = times.begin; t < times.end; ++t) {
    for (Index n = 0; n < rows.count(t); ++n) {
      T* to = packed + (rows.first(t) + n) * units;
      if (clean && is_held(rows, t, n)) {
        std::fill_n(to, units, T(0));
        continue;
      }
      const Index row = order.source[static_cast<std::size_t>(n)];
      std::copy_n(view.data + (rows.start + t) * view.stride_t + row * view.stride_n,
                  units, to);
    }
  }
}

template <class T>
void scatter_steps(const RowOrder& order, const SequenceRows& rows, const T* packed,
                   Index units, bool clean, Index seq_len, SequenceView<T> view,
                   const Team& team) {
  const Team::Range times = team.share(seq_len);
  for (Index t = times.begin; t < times.end; ++t) {
    const Index count = t < rows.seq_len ? rows.count(t) : 0;
    for (Index n = 0; n < rows.batch_size; ++n) {
      const Index row = order.source[static_cast<std::size_t>(n)];
      T* to = view.data + (rows.start + t) * view.stride_t + row * view.stride_n;
      if (n < count && !(clean && is_held(rows, t, n))) {
        std::copy_n(packed + (rows.first(t) + n) * units, units, to);
      } else {
        std::fill_n(to, units, T(0));
      }
    }
  }
}

template <class T>
void gather_states(const RowOrder& order, Index count, Index units, const T* states,
                   T* sorted) {
  for (Index i = 0; i < count; ++i) {
    const auto size = static_cast<Index>(order.source.size());
    const T* from = states + i * size * units;
    for (const Index row : order.source) {
      sorted = std::copy_n(from + row * units, units, sorted);
    }
  }
}

template <class T>
void scatter_states(const RowOrder& order, Index count, Index units, const T* sorted,
                    T* states) {
  for (Index i = 0; i < count; ++i) {
    const auto size = static_cast<Index>(order.source.size());
    T* to = states + i * size * units;
    for (const Index row : order.source) {
      std::copy_n(sorted, units, to + row * units);
      sorted += units;
    }
  }
}

#define FASTLSTM_RAGGED(T)                                                            \
  template void gather_steps<T>(const RowOrder&, const SequenceRows&,                 \
                                SequenceView<const T>, Index, bool, T*, const Team&); \
  template void scatter_steps<T>(const RowOrder&, const SequenceRows&, const T*,      \
                                 Index, bool, Index, SequenceView<T>, const Team&);   \
  template void gather_states<T>(const RowOrder&, Index, Index, const T*, T*);        \
  template void scatter_states<T>(const RowOrder&, Index, Index, const T*, T*);
FASTLSTM_RAGGED(float)
FASTLSTM_RAGGED(double)
#undef FASTLSTM_RAGGED

}  // namespace fastlstm
