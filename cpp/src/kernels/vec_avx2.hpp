// Vec<T, Avx2Isa>: 256-bit registers (AVX2 and FMA). Members are described in
// vec_scalar.hpp. Included by avx2.cpp only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "table.hpp"

namespace fastlstm {
namespace {

template <class T, class Isa>
struct Vec;

// 48 KB: Intel from Ice Lake on, and Zen 5.
inline bool large_l1() { return l1_bytes() >= Index{48} << 10; }

struct Avx2Isa {
  static constexpr const char* kName = "avx2";
  // 3 rows x 4 vectors = 12 sums + 3 broadcasts + 1 weight: exactly 16 registers.
  static constexpr int kTileRows = 3;
  // Of weights that a product reads for all rows before the next ones, 0 for all: three
  // rows read 21 bytes a cycle, more than L3 gives and most of what L2 does.
  static int block_bytes() { return large_l1() ? 32 << 10 : 20 << 10; }
  // Fewer pieces are read from L2 as fast as sums are stored and loaded again.
  static int least_pieces() { return large_l1() ? 1 : 8; }
  // Of a panel's weights that gates take at a time, the next ones fetched beside them:
  // all, if L2 has room for two panels, else pieces; 0: all, nothing fetched. See
  // gates.hpp; measured with 8 to 256 rows.
  static Index piece_bytes(Index panel) {
    return panel <= Index{80} << 10 ? panel : block_bytes();
  }
  // Of d_gates that the sums of d_W take for all columns before the next ones: 16 KB,
  // so that they stay in L1; three columns, too, read 21 bytes a cycle.
  static constexpr int d_gate_rows() { return 128; }
  // See vec_avx512.hpp; measured against 128.
  static constexpr int kAtOnceRows = 64;
  // None, and sums beside those of two panels have no registers. See vec_avx512.hpp.
  static constexpr int kLeastSingle = 1;
  static constexpr int most_single() { return 0; }
  static constexpr int kProjectedSteps = 0;
  // What a panel of at most W/2 units is computed with: nothing smaller pays here.
  template <class T>
  using Half = Vec<T, Avx2Isa>;
};

template <>
struct Vec<float, Avx2Isa> {
  using Value = float;
  static constexpr int kWidth = 8;
  __m256 v;

  static __m256i first(int n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
  }
  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec set1(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  static Vec load_partial(const float* p, int n) {
    return {_mm256_maskload_ps(p, first(n))};
  }
  void store_partial(float* p, int n) const { _mm256_maskstore_ps(p, first(n), v); }
  static void load_pairs(const std::uint32_t* p, Vec& low, Vec& high) {
    const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    low.v = _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
    high.v = _mm256_castsi256_ps(_mm256_and_si256(words, mask));
  }

  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
  friend Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  friend Vec min(Vec bound, Vec x) { return {_mm256_min_ps(bound.v, x.v)}; }
  friend Vec max(Vec bound, Vec x) { return {_mm256_max_ps(bound.v, x.v)}; }
  friend Vec sqrt(Vec a) { return {_mm256_sqrt_ps(a.v)}; }
  friend Vec keep_where_positive(Vec y, Vec a) {
    return {_mm256_and_ps(_mm256_cmp_ps(y.v, _mm256_setzero_ps(), _CMP_GT_OQ), a.v)};
  }
  friend Vec add_exponent(Vec a, Vec magic) {
    const __m256i n = _mm256_slli_epi32(_mm256_castps_si256(magic.v), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), n))};
  }
  friend float reduce_add(Vec a) {
    const __m128 four =
        _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
  }
  friend void interleave(Vec a, Vec b, Vec& low, Vec& high) {
    const __m256 even = _mm256_unpacklo_ps(a.v, b.v);
    const __m256 odd = _mm256_unpackhi_ps(a.v, b.v);
    low.v = _mm256_permute2f128_ps(even, odd, 0x20);
    high.v = _mm256_permute2f128_ps(even, odd, 0x31);
  }
};

template <>
struct Vec<double, Avx2Isa> {
  using Value = double;
  static constexpr int kWidth = 4;
  __m256d v;

  static __m256i first(int n) {
    const __m256i lane = _mm256_setr_epi64x(0, 1, 2, 3);
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), lane);
  }
  static Vec zero() { return {_mm256_setzero_pd()}; }
  static Vec set1(double x) { return {_mm256_set1_pd(x)}; }
  static Vec load(const double* p) { return {_mm256_loadu_pd(p)}; }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
  static Vec load_partial(const double* p, int n) {
    return {_mm256_maskload_pd(p, first(n))};
  }
  void store_partial(double* p, int n) const { _mm256_maskstore_pd(p, first(n), v); }

  friend Vec operator+(Vec a, Vec b) { return {_mm256_add_pd(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm256_sub_pd(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm256_mul_pd(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm256_div_pd(a.v, b.v)}; }
  friend Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
  friend Vec min(Vec bound, Vec x) { return {_mm256_min_pd(bound.v, x.v)}; }
  friend Vec max(Vec bound, Vec x) { return {_mm256_max_pd(bound.v, x.v)}; }
  friend Vec sqrt(Vec a) { return {_mm256_sqrt_pd(a.v)}; }
  friend Vec keep_where_positive(Vec y, Vec a) {
    return {_mm256_and_pd(_mm256_cmp_pd(y.v, _mm256_setzero_pd(), _CMP_GT_OQ), a.v)};
  }
  friend Vec add_exponent(Vec a, Vec magic) {
    const __m256i n = _mm256_slli_epi64(_mm256_castpd_si256(magic.v), 52);
    return {_mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(a.v), n))};
  }
  friend double reduce_add(Vec a) {
    const __m128d two =
        _mm_add_pd(_mm256_castpd256_pd128(a.v), _mm256_extractf128_pd(a.v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
  friend void interleave(Vec a, Vec b, Vec& low, Vec& high) {
    const __m256d even = _mm256_unpacklo_pd(a.v, b.v);
    const __m256d odd = _mm256_unpackhi_pd(a.v, b.v);
    low.v = _mm256_permute2f128_pd(even, odd, 0x20);
    high.v = _mm256_permute2f128_pd(even, odd, 0x31);
  }
};

}  // namespace
}  // namespace fastlstm
