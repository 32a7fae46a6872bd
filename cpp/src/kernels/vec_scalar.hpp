// Vec<T, ScalarIsa>: one lane, plain C++. It is the specification of what a Vec can do;
// the other vec_*.hpp give the same members for their registers. Included by
// scalar.cpp.
//
// Every per-ISA file keeps its code in an anonymous namespace and uses no std template,
// so that the linker can never choose a copy built for a newer CPU.
#pragma once

#include <cstdint>
#include <cstring>

#include "table.hpp"

namespace fastlstm {
namespace {

template <class T, class Isa>
struct Vec;

struct ScalarIsa {
  static constexpr const char* kName = "scalar";
  // Four rows x four lanes keep 16 sums in flight, enough for the FMA latency.
  static constexpr int kTileRows = 4;
  // See vec_avx2.hpp; the tile needs less.
  static constexpr int block_bytes() { return 0; }
  static constexpr int least_pieces() { return 1; }
  static constexpr Index piece_bytes(Index) { return 0; }
  static constexpr int d_gate_rows() { return 512; }
  static constexpr int kAtOnceRows = 64;
  // See vec_avx512.hpp.
  static constexpr int kLeastSingle = 1;
  static constexpr int most_single() { return 0; }
  static constexpr int kProjectedSteps = 4;
  // What a panel of at most W/2 units is computed with, if anything smaller pays.
  template <class T>
  using Half = Vec<T, ScalarIsa>;
};

template <class T>
struct ScalarBits;
template <>
struct ScalarBits<float> {
  using Int = std::uint32_t;
};
template <>
struct ScalarBits<double> {
  using Int = std::uint64_t;
};

template <class T>
struct Vec<T, ScalarIsa> {
  using Value = T;
  static constexpr int kWidth = 1;
  T v;

  static Vec zero() { return {T(0)}; }
  static Vec set1(T x) { return {x}; }
  static Vec load(const T* p) { return {*p}; }
  void store(T* p) const { *p = v; }
  // The first n lanes, 0 < n < kWidth; the others read as zero and are not written.
  static Vec load_partial(const T* p, int n) { return {n > 0 ? *p : T(0)}; }
  void store_partial(T* p, int n) const {
    if (n > 0) *p = v;
  }

  // Float only: W words, each with a bfloat16 in its low half and one in its high half.
  static void load_pairs(const std::uint32_t* p, Vec& low, Vec& high) {
    const std::uint32_t bits_low = *p << 16;
    const std::uint32_t bits_high = *p & 0xffff0000u;
    std::memcpy(&low.v, &bits_low, sizeof bits_low);
    std::memcpy(&high.v, &bits_high, sizeof bits_high);
  }

  friend Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
  // a * b + c; fused where the instruction set has it.
  friend Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
  // A NaN in x comes back as NaN.
  friend Vec min(Vec bound, Vec x) { return {bound.v < x.v ? bound.v : x.v}; }
  friend Vec max(Vec bound, Vec x) { return {bound.v > x.v ? bound.v : x.v}; }
  friend Vec sqrt(Vec a) { return {static_cast<T>(__builtin_sqrt(a.v))}; }
  // where(y > 0, a, 0)
  friend Vec keep_where_positive(Vec y, Vec a) { return {y.v > T(0) ? a.v : T(0)}; }
  // a * 2^n, where the low mantissa bits of `magic` hold the integer n and both a and
  // the result are normal numbers: n is added to the exponent field of a.
  friend Vec add_exponent(Vec a, Vec magic) {
    using Int = typename ScalarBits<T>::Int;
    constexpr int kMantissaBits = sizeof(T) == 4 ? 23 : 52;
    Int bits_a = 0;
    Int bits_n = 0;
    std::memcpy(&bits_a, &a.v, sizeof(T));
    std::memcpy(&bits_n, &magic.v, sizeof(T));
    bits_a += bits_n << kMantissaBits;
    std::memcpy(&a.v, &bits_a, sizeof(T));
    return a;
  }
  // Sum of the lanes, always in the same order.
  friend T reduce_add(Vec a) { return a.v; }
  // Lanes of a and b in turn: low is a0 b0 a1 b1 ... up to half the lanes, high the
  // rest.
  friend void interleave(Vec a, Vec b, Vec& low, Vec& high) {
    low = a;
    high = b;
  }
};

}  // namespace
}  // namespace fastlstm
