// Vec<T, Avx512Isa>: 512-bit registers (AVX-512 F, VL, BW, DQ). Members are described
// in vec_scalar.hpp. Included by avx512.cpp only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "vec_avx2.hpp"

namespace fastlstm {
namespace {

struct Avx512Isa {
  static constexpr const char* kName = "avx512";
  // 6 rows x 4 vectors = 24 sums + 4 weights + broadcasts in 32 registers; measured
  // against 4, 5 and 7 rows.
  static constexpr int kTileRows = 6;
  // See vec_avx2.hpp. The CPUs with a large L1 do two FMA of 512 bits a cycle, for
  // which six rows, too, read 21 bytes. With one (Zen 4) the tile needs less than L2
  // gives, and pieces cost 1 to 4%.
  static int block_bytes() { return large_l1() ? 32 << 10 : 0; }
  static constexpr int least_pieces() { return 1; }
  // See vec_avx2.hpp; six rows read half as many weights for each multiply-add.
  static Index piece_bytes(Index panel) {
    if (!large_l1()) return 0;
    return panel <= Index{480} << 10 ? panel : Index{128} << 10;
  }
  static int d_gate_rows() { return large_l1() ? 96 : 512; }
  // Rows summed into the gradients at once; more leave L1 between two rows of these.
  // Measured against 64 and 256.
  static constexpr int kAtOnceRows = 128;
  // Panels of a layer whose row alone takes them one by one, see lstm.hpp; measured.
  // Not for two FMA a cycle: a panel has too few sums for that.
  static constexpr int kLeastSingle = 3;
  static int most_single() { return large_l1() ? 0 : 7; }
  // Whether a panel alone is computed in halves: two FMA a cycle leave no work waiting,
  // and the clock is higher. Measured.
  static bool halves_alone() { return large_l1(); }
  // Steps of a row alone that are projected beside the sums of two panels: 12 + 8 sums,
  // a weight and a broadcast. Measured against 10, 14 and 16.
  static constexpr int kProjectedSteps = 12;
  // What a panel of at most W/2 units is computed with: a 256-bit register does half
  // the work in half the time where a core runs 512 bits in two halves, as Zen 4 does.
  template <class T>
  using Half = Vec<T, Avx2Isa>;
};

template <>
struct Vec<float, Avx512Isa> {
  using Value = float;
  static constexpr int kWidth = 16;
  __m512 v;

  static __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec set1(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  static Vec load_partial(const float* p, int n) {
    return {_mm512_maskz_loadu_ps(first(n), p)};
  }
  void store_partial(float* p, int n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  using Half = Vec<float, Avx2Isa>;
  static Vec join(Half low, Half high) {
    return {_mm512_insertf32x8(_mm512_castps256_ps512(low.v), high.v, 1)};
  }
  Half lower_half() const { return {_mm512_castps512_ps256(v)}; }
  Half upper_half() const { return {_mm512_extractf32x8_ps(v, 1)}; }
  static void load_pairs(const std::uint32_t* p, Vec& low, Vec& high) {
    const __m512i words = _mm512_loadu_si512(p);
    const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    low.v = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
    high.v = _mm512_castsi512_ps(_mm512_and_si512(words, mask));
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  friend Vec min(Vec bound, Vec x) { return {_mm512_min_ps(bound.v, x.v)}; }
  friend Vec max(Vec bound, Vec x) { return {_mm512_max_ps(bound.v, x.v)}; }
  friend Vec sqrt(Vec a) { return {_mm512_sqrt_ps(a.v)}; }
  friend Vec keep_where_positive(Vec y, Vec a) {
    const __mmask16 m = _mm512_cmp_ps_mask(y.v, _mm512_setzero_ps(), _CMP_GT_OQ);
    return {_mm512_maskz_mov_ps(m, a.v)};
  }
  friend Vec add_exponent(Vec a, Vec magic) {
    const __m512i n = _mm512_slli_epi32(_mm512_castps_si512(magic.v), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.v), n))};
  }
  friend float reduce_add(Vec a) { return _mm512_reduce_add_ps(a.v); }
  friend void interleave(Vec a, Vec b, Vec& low, Vec& high) {
    const __m512i first =
        _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    low.v = _mm512_permutex2var_ps(a.v, first, b.v);
    high.v = _mm512_permutex2var_ps(a.v, second, b.v);
  }
};

template <>
struct Vec<double, Avx512Isa> {
  using Value = double;
  static constexpr int kWidth = 8;
  __m512d v;

  static __mmask8 first(int n) { return static_cast<__mmask8>((1u << n) - 1u); }
  static Vec zero() { return {_mm512_setzero_pd()}; }
  static Vec set1(double x) { return {_mm512_set1_pd(x)}; }
  static Vec load(const double* p) { return {_mm512_loadu_pd(p)}; }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  static Vec load_partial(const double* p, int n) {
    return {_mm512_maskz_loadu_pd(first(n), p)};
  }
  void store_partial(double* p, int n) const { _mm512_mask_storeu_pd(p, first(n), v); }
  using Half = Vec<double, Avx2Isa>;
  static Vec join(Half low, Half high) {
    return {_mm512_insertf64x4(_mm512_castpd256_pd512(low.v), high.v, 1)};
  }
  Half lower_half() const { return {_mm512_castpd512_pd256(v)}; }
  Half upper_half() const { return {_mm512_extractf64x4_pd(v, 1)}; }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_pd(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_pd(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_pd(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_pd(a.v, b.v)}; }
  friend Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
  friend Vec min(Vec bound, Vec x) { return {_mm512_min_pd(bound.v, x.v)}; }
  friend Vec max(Vec bound, Vec x) { return {_mm512_max_pd(bound.v, x.v)}; }
  friend Vec sqrt(Vec a) { return {_mm512_sqrt_pd(a.v)}; }
  friend Vec keep_where_positive(Vec y, Vec a) {
    const __mmask8 m = _mm512_cmp_pd_mask(y.v, _mm512_setzero_pd(), _CMP_GT_OQ);
    return {_mm512_maskz_mov_pd(m, a.v)};
  }
  friend Vec add_exponent(Vec a, Vec magic) {
    const __m512i n = _mm512_slli_epi64(_mm512_castpd_si512(magic.v), 52);
    return {_mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(a.v), n))};
  }
  friend double reduce_add(Vec a) { return _mm512_reduce_add_pd(a.v); }
  friend void interleave(Vec a, Vec b, Vec& low, Vec& high) {
    const __m512i first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    const __m512i second = _mm512_add_epi64(first, _mm512_set1_epi64(4));
    low.v = _mm512_permutex2var_pd(a.v, first, b.v);
    high.v = _mm512_permutex2var_pd(a.v, second, b.v);
  }
};

}  // namespace
}  // namespace fastlstm
