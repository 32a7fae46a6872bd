// How packed weights are read: as T, or as two bfloat16 values in a word.
#pragma once

#include "table.hpp"

namespace fastlstm {
namespace {

// Rows of the packed matrix that one stored line holds.
template <class Weight>
struct StoredRows {
  static constexpr int kCount = 1;
};
template <>
struct StoredRows<BFloat16Pair> {
  static constexpr int kCount = 2;
};

template <class V>
inline void read_weights(const typename V::Value* p, V (&rows)[1]) {
  rows[0] = V::load(p);
}
template <class V>
inline void read_weights(const BFloat16Pair* p, V (&rows)[2]) {
  V::load_pairs(&p->bits, rows[0], rows[1]);
}

// Panel `panel` of (P, size, line), stored as Weight.
template <class Weight, class T>
inline const Weight* packed_panel(const T* packed, Index panel, Index size,
                                  Index line) {
  constexpr int kRows = StoredRows<Weight>::kCount;
  return reinterpret_cast<const Weight*>(packed) +
         panel * ((size + kRows - 1) / kRows) * line;
}

}  // namespace
}  // namespace fastlstm
