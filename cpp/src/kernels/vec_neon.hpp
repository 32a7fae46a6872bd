// Vec<T, NeonIsa>: 128-bit registers of armv8-a. Members are described in
// vec_scalar.hpp. Included by neon.cpp only.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#include "table.hpp"

namespace fastlstm {
namespace {

template <class T, class Isa>
struct Vec;

struct NeonIsa {
  static constexpr const char* kName = "neon";
  // 6 rows x 4 vectors = 24 sums + 4 weights + broadcasts in 32 registers.
  static constexpr int kTileRows = 6;
  // See vec_avx2.hpp; the tile needs less.
  static constexpr int block_bytes() { return 0; }
  static constexpr int least_pieces() { return 1; }
  static constexpr Index piece_bytes(Index) { return 0; }
  static constexpr int d_gate_rows() { return 512; }
  static constexpr int kAtOnceRows = 64;
  // None: not measured. See vec_avx512.hpp.
  static constexpr int kLeastSingle = 1;
  static constexpr int most_single() { return 0; }
  static constexpr int kProjectedSteps = 0;
  // What a panel of at most W/2 units is computed with: nothing smaller pays here.
  template <class T>
  using Half = Vec<T, NeonIsa>;
};

template <>
struct Vec<float, NeonIsa> {
  using Value = float;
  static constexpr int kWidth = 4;
  float32x4_t v;

  static Vec zero() { return {vdupq_n_f32(0.0f)}; }
  static Vec set1(float x) { return {vdupq_n_f32(x)}; }
  static Vec load(const float* p) { return {vld1q_f32(p)}; }
  void store(float* p) const { vst1q_f32(p, v); }
  static Vec load_partial(const float* p, int n) {
    float lanes[kWidth] = {};
    for (int j = 0; j < n; ++j) lanes[j] = p[j];
    return load(lanes);
  }
  void store_partial(float* p, int n) const {
    float lanes[kWidth];
    store(lanes);
    for (int j = 0; j < n; ++j) p[j] = lanes[j];
  }
  static void load_pairs(const std::uint32_t* p, Vec& low, Vec& high) {
    const uint32x4_t words = vld1q_u32(p);
    low.v = vreinterpretq_f32_u32(vshlq_n_u32(words, 16));
    high.v = vreinterpretq_f32_u32(vandq_u32(words, vdupq_n_u32(0xffff0000u)));
  }

  friend Vec operator+(Vec a, Vec b) { return {vaddq_f32(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {vsubq_f32(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {vmulq_f32(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {vdivq_f32(a.v, b.v)}; }
  friend Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
  friend Vec min(Vec bound, Vec x) { return {vminq_f32(bound.v, x.v)}; }
  friend Vec max(Vec bound, Vec x) { return {vmaxq_f32(bound.v, x.v)}; }
  friend Vec sqrt(Vec a) { return {vsqrtq_f32(a.v)}; }
  friend Vec keep_where_positive(Vec y, Vec a) {
    const uint32x4_t m = vcgtq_f32(y.v, vdupq_n_f32(0.0f));
    return {vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(a.v)))};
  }
  friend Vec add_exponent(Vec a, Vec magic) {
    const uint32x4_t n = vshlq_n_u32(vreinterpretq_u32_f32(magic.v), 23);
    return {vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(a.v), n))};
  }
  friend float reduce_add(Vec a) { return vaddvq_f32(a.v); }
  friend void interleave(Vec a, Vec b, Vec& low, Vec& high) {
    low.v = vzip1q_f32(a.v, b.v);
    high.v = vzip2q_f32(a.v, b.v);
  }
};

template <>
struct Vec<double, NeonIsa> {
  using Value = double;
  static constexpr int kWidth = 2;
  float64x2_t v;

  static Vec zero() { return {vdupq_n_f64(0.0)}; }
  static Vec set1(double x) { return {vdupq_n_f64(x)}; }
  static Vec load(const double* p) { return {vld1q_f64(p)}; }
  void store(double* p) const { vst1q_f64(p, v); }
  static Vec load_partial(const double* p, int n) {
    return {vsetq_lane_f64(n > 0 ? *p : 0.0, vdupq_n_f64(0.0), 0)};
  }
  void store_partial(double* p, int n) const {
    if (n > 0) *p = vgetq_lane_f64(v, 0);
  }

  friend Vec operator+(Vec a, Vec b) { return {vaddq_f64(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {vsubq_f64(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {vmulq_f64(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {vdivq_f64(a.v, b.v)}; }
  friend Vec fma(Vec a, Vec b, Vec c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
  friend Vec min(Vec bound, Vec x) { return {vminq_f64(bound.v, x.v)}; }
  friend Vec max(Vec bound, Vec x) { return {vmaxq_f64(bound.v, x.v)}; }
  friend Vec sqrt(Vec a) { return {vsqrtq_f64(a.v)}; }
  friend Vec keep_where_positive(Vec y, Vec a) {
    const uint64x2_t m = vcgtq_f64(y.v, vdupq_n_f64(0.0));
    return {vreinterpretq_f64_u64(vandq_u64(m, vreinterpretq_u64_f64(a.v)))};
  }
  friend Vec add_exponent(Vec a, Vec magic) {
    const uint64x2_t n = vshlq_n_u64(vreinterpretq_u64_f64(magic.v), 52);
    return {vreinterpretq_f64_u64(vaddq_u64(vreinterpretq_u64_f64(a.v), n))};
  }
  friend double reduce_add(Vec a) { return vaddvq_f64(a.v); }
  friend void interleave(Vec a, Vec b, Vec& low, Vec& high) {
    low.v = vzip1q_f64(a.v, b.v);
    high.v = vzip2q_f64(a.v, b.v);
  }
};

}  // namespace
}  // namespace fastlstm
