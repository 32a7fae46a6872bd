// Vectors of which only some lanes are real: the tails of rows and panels.
#pragma once

#include "cache_line.hpp"
#include "table.hpp"

namespace fastlstm {
namespace {

// Lanes of the vector that starts at first_unit which are real units, 0 to W.
template <class V>
inline int panel_lanes(Index hidden_size, Index first_unit) {
  const Index left = hidden_size - first_unit;
  return static_cast<int>(left < V::kWidth ? (left > 0 ? left : 0) : V::kWidth);
}

// Half of V where that is smaller and holds all lanes of a panel.
template <class V, class Isa>
using HalfOf = typename Isa::template Half<typename V::Value>;

template <class V, class Isa>
inline bool fits_half(int lanes) {
  return HalfOf<V, Isa>::kWidth < V::kWidth && lanes <= HalfOf<V, Isa>::kWidth;
}

template <class V, class T>
inline V load_lanes(const T* p, int lanes) {
  return lanes == V::kWidth ? V::load(p) : V::load_partial(p, lanes);
}

template <class V, class T>
inline void store_lanes(V v, T* p, int lanes) {
  if (lanes == V::kWidth) {
    v.store(p);
  } else {
    v.store_partial(p, lanes);
  }
}

enum CacheLevel { kL1 = 3, kL2 = 2 };  // as the compiler's prefetch names them

// Asks for `count` values that are read soon, into L1 or, where much else is read
// before, into L2. Only where the hardware does not see them coming: it follows lines
// that are read one after another, not jumps.
template <CacheLevel kLevel, class T>
inline void prefetch(const T* p, Index count) {
  constexpr Index kLine = kCacheLine / sizeof(T);
  for (Index i = 0; i < count; i += kLine) __builtin_prefetch(p + i, 0, kLevel);
}

// Calls body(i, lanes) for every vector of n elements; the last may have fewer lanes.
template <class V, class Body>
inline void for_vectors(Index n, const Body& body) {
  Index i = 0;
  for (; i + V::kWidth <= n; i += V::kWidth) body(i, V::kWidth);
  if (i < n) body(i, static_cast<int>(n - i));
}

}  // namespace
}  // namespace fastlstm
