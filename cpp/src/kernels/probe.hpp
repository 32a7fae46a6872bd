// What the instruction set in force can do at most: multiply-adds from registers, and
// reads. They compute nothing of use; probe.cpp times them.
#pragma once

#include "table.hpp"

namespace fastlstm {
namespace {

// sums[i] = 1/2 sums[i] + 1, from y + i on; it tends to 2. As many independent sums as
// the register tile of the products has, so the latency is covered and nothing spills;
// they differ, or the compiler would compute one for all.
template <class V, class Isa, class T = typename V::Value>
Index multiply_adds(Index rounds, T* y) {
  constexpr int kSums = Isa::kTileRows * kSlots;
  const V half = V::set1(T(0.5));
  const V one = V::set1(T(1));
  V sums[kSums];
#pragma GCC unroll 32
  for (int i = 0; i < kSums; ++i) sums[i] = V::load(y) + V::set1(static_cast<T>(i));
  for (Index round = 0; round < rounds; ++round) {
#pragma GCC unroll 32
    for (int i = 0; i < kSums; ++i) sums[i] = fma(half, sums[i], one);
  }
#pragma GCC unroll 32
  for (int i = 1; i < kSums; ++i) sums[0] = sums[0] + sums[i];
  sums[0].store(y);
  return rounds * kSums * V::kWidth;
}

// y[j] += sum over i of x[i * W + j], over whole rounds of eight vectors: enough
// independent sums for two loads a cycle.
template <class V, class T = typename V::Value>
Index read_array(const T* x, Index count, T* y) {
  constexpr int kSums = 8;
  constexpr Index kRound = Index{kSums} * V::kWidth;
  V sums[kSums];
#pragma GCC unroll 8
  for (V& sum : sums) sum = V::zero();
  const Index whole = count / kRound * kRound;
  for (Index begin = 0; begin < whole; begin += kRound) {
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) {
      sums[i] = sums[i] + V::load(x + begin + i * V::kWidth);
    }
  }
#pragma GCC unroll 8
  for (int i = 1; i < kSums; ++i) sums[0] = sums[0] + sums[i];
  (sums[0] + V::load(y)).store(y);
  return whole;
}

}  // namespace
}  // namespace fastlstm
