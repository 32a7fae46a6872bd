// StaticLstm<I, H>: one LSTM layer whose sizes the compiler knows, for small models in
// real time. This header is all of it: no library, no heap, no exceptions, no threads.
// Equations, polynomials and order of sums are the library's, so where the compiler may
// use FMA the results are those of Stream, bit for bit. GCC and clang.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Units compiled with different flags must not share code: the linker would keep one
// copy, and it could need more than the CPU has.
#if defined(__AVX512F__) && defined(__AVX512VL__)
#define FASTLSTM_STATIC_ISA static_avx512
#define FASTLSTM_STATIC_LANES 16
#elif defined(__AVX2__) && defined(__FMA__)
#define FASTLSTM_STATIC_ISA static_avx2
#define FASTLSTM_STATIC_LANES 8
#elif defined(__x86_64__)
#define FASTLSTM_STATIC_ISA static_sse2
#define FASTLSTM_STATIC_LANES 4
#else
#define FASTLSTM_STATIC_ISA static_plain
#define FASTLSTM_STATIC_LANES 4
#endif

namespace fastlstm {
inline namespace FASTLSTM_STATIC_ISA {
namespace static_detail {

template <int N>
struct Lanes {
  using Float __attribute__((vector_size(N * 4))) = float;
  using Int __attribute__((vector_size(N * 4))) = std::int32_t;
};
using Float4 = Lanes<4>::Float;

// fma(a, b, c) = a * b + c; min and max give back a NaN in x.
inline Float4 fma(Float4 a, Float4 b, Float4 c) noexcept {
#if defined(__FMA__)
  return _mm_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}
inline Float4 min(Float4 bound, Float4 x) noexcept { return bound < x ? bound : x; }
inline Float4 max(Float4 bound, Float4 x) noexcept { return bound > x ? bound : x; }

#if FASTLSTM_STATIC_LANES >= 8
using Float8 = Lanes<8>::Float;
inline Float8 fma(Float8 a, Float8 b, Float8 c) noexcept {
  return _mm256_fmadd_ps(a, b, c);
}
inline Float8 min(Float8 bound, Float8 x) noexcept { return _mm256_min_ps(bound, x); }
inline Float8 max(Float8 bound, Float8 x) noexcept { return _mm256_max_ps(bound, x); }
#endif
#if FASTLSTM_STATIC_LANES >= 16
using Float16 = Lanes<16>::Float;
inline Float16 fma(Float16 a, Float16 b, Float16 c) noexcept {
  return _mm512_fmadd_ps(a, b, c);
}
inline Float16 min(Float16 bound, Float16 x) noexcept {
  return _mm512_maskz_min_ps(0xffff, bound, x);
}
inline Float16 max(Float16 bound, Float16 x) noexcept {
  return _mm512_maskz_max_ps(0xffff, bound, x);
}
#endif

template <class V>
inline V load(const float* p) noexcept {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class V>
inline void store(float* p, V v) noexcept {
  std::memcpy(p, &v, sizeof v);
}

// x in every lane; x - 0 is x, also for -0.
template <class V>
inline V all(float x) noexcept {
  return x - V{};
}

// The first lanes of wide: saves a second broadcast.
template <class Tail, class Wide>
inline Tail narrow(Wide wide) noexcept {
  static_assert(sizeof(Tail) <= sizeof(Wide));
  Tail tail;
  std::memcpy(&tail, &wide, sizeof tail);
  return tail;
}

// a * 2^n, where the low bits of magic hold n.
template <class V>
inline V add_exponent(V a, V magic) noexcept {
  using Int = typename Lanes<sizeof(V) / 4>::Int;
  return reinterpret_cast<V>(reinterpret_cast<Int>(a) +
                             (reinterpret_cast<Int>(magic) << 23));
}

// Each x becomes sigmoid(x) = 1 / (1 + exp(-x)), held where exp is a normal number, or,
// where kTanh has the bit k, tanh(x) = expm1(2x) / (expm1(2x) + 2), which rounds to 1
// beyond 9.02. With n = round(x / ln 2), r = x - n ln 2: expm1(r) = r + r^2 q(r),
// relative error 2.5e-8 on |r| <= ln(2)/2; q from tests/reference/fit_expm1.py. Stage
// by stage for all: one alone would wait for itself.
template <unsigned kTanh, int K, class V>
inline void squash(V (&x)[K]) noexcept {
  const V round = all<V>(12582912.0f);  // 1.5 * 2^23 leaves n in the low bits
  V magic[K], q[K];
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) {
    const float bound = (kTanh >> k & 1) != 0 ? 9.1f : 87.0f;
    if ((kTanh >> k & 1) == 0) x[k] = V{} - x[k];
    x[k] = max(all<V>(-bound), min(all<V>(bound), x[k]));
    if ((kTanh >> k & 1) != 0) x[k] = x[k] + x[k];
    magic[k] = fma(x[k], all<V>(1.44269504088896341f), round);
  }
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) {
    const V n = magic[k] - round;
    if ((kTanh >> k & 1) != 0) {
      x[k] = fma(n, all<V>(-0.693147180559945309f), x[k]);
    } else {
      x[k] = fma(n, all<V>(-0.693359375f), x[k]);
      x[k] = fma(n, all<V>(2.12194440e-4f), x[k]);
    }
    q[k] = all<V>(0.0013926183587713494542f);
  }
  constexpr float kQ[] = {0.0083631790527225773704f, 0.041666554617204574203f,
                          0.16666576989698775683f, 0.5f};
#pragma GCC unroll 4
  for (const float term : kQ) {
#pragma GCC unroll 4
    for (int k = 0; k < K; ++k) q[k] = fma(q[k], x[k], all<V>(term));
  }
#pragma GCC unroll 4
  for (int k = 0; k < K; ++k) {
    x[k] = fma(x[k] * x[k], q[k], x[k]);
    if ((kTanh >> k & 1) != 0) {
      const V power = add_exponent(all<V>(1.0f), magic[k]);
      const V em1 = fma(power, x[k], power - 1.0f);
      x[k] = em1 / (em1 + 2.0f);
    } else {
      x[k] = 1.0f / (1.0f + add_exponent(1.0f + x[k], magic[k]));
    }
  }
}

// Vectors of a group's units, widest first: the registers that hold its sums.
constexpr int kGroupPanels = FASTLSTM_STATIC_LANES == 16 ? 4 : 2;

// Lanes of the panel that holds the units from `left` units before the end on.
constexpr int panel_lanes(int left) {
  int lanes = FASTLSTM_STATIC_LANES;
  while (lanes > 4 && left <= lanes / 2) lanes /= 2;
  return lanes;
}

constexpr int padded_units(int units) {
  int padded = 0;
  while (padded < units) padded += panel_lanes(units - padded);
  return padded;
}

}  // namespace static_detail

// x (I), h and c (H) floats. The object holds weights and state; it may lie anywhere.
template <int I, int H>
class StaticLstm {
 public:
  static_assert(I >= 1 && H >= 1, "StaticLstm needs at least one input and one unit");

  StaticLstm() noexcept = default;

  // weight_ih (4H, I), weight_hh (4H, H), row-major, bias (4H) or null; gates i, f, g,
  // o. Copied; the state becomes zero.
  void set_weights(const float* weight_ih, const float* weight_hh,
                   const float* bias) noexcept {
    for (int unit = 0; unit < kPadded;) {
      const int lanes = static_detail::panel_lanes(H - unit);
      float* out = packed_ + unit * kRows * 4;
      for (int row = 0; row < kRows; ++row) {
        for (int gate = 0; gate < 4; ++gate) {
          for (int j = 0; j < lanes; ++j, ++out) {
            const int line = gate * H + unit + j;
            *out = unit + j >= H ? 0.0f
                   : row == 0    ? (bias == nullptr ? 0.0f : bias[line])
                   : row <= I    ? weight_ih[line * I + row - 1]
                                 : weight_hh[line * H + row - 1 - I];
          }
        }
      }
      unit += lanes;
    }
    reset();
  }

  void reset() noexcept {
    std::memset(h_, 0, sizeof h_);
    std::memset(c_, 0, sizeof c_);
  }

  // One step; the new h, (H), is valid until the next one.
  const float* step(const float* x) noexcept {
    alignas(64) float next[kPadded];
    run_groups<0>(x, next);
    std::memcpy(h_, next, sizeof h_);
    return h_;
  }

  // n steps: x (n, I), y (n, H)
  void process(const float* x, float* y, int n) noexcept {
    for (int t = 0; t < n; ++t) std::memcpy(y + t * H, step(x + t * I), H * 4);
  }

  const float* h() const noexcept { return h_; }  // (H)
  const float* c() const noexcept { return c_; }  // (H)

  void set_state(const float* h, const float* c) noexcept {
    std::memcpy(h_, h, H * 4);
    std::memcpy(c_, c, H * 4);
  }

 private:
  static constexpr int kRows = 1 + I + H;  // bias, weights of x, weights of h
  static constexpr int kPadded = static_detail::padded_units(H);

  // The panels from unit kFirst on: kWide whole ones, and the last, narrower one where
  // the group reaches the end.
  template <int kFirst>
  void run_groups(const float* x, float* next) noexcept {
    if constexpr (kFirst < H) {
      constexpr int kLanes = FASTLSTM_STATIC_LANES;
      constexpr int kLeft = (H - kFirst) / kLanes;
      constexpr int kLimit = static_detail::kGroupPanels;
      constexpr int kWide = kLeft < kLimit ? kLeft : kLimit;
      constexpr int kAfter = kFirst + kWide * kLanes;
      constexpr bool kEnds = kAfter < H && H - kAfter < kLanes && kWide < kLimit;
      constexpr int kTail = kEnds ? static_detail::panel_lanes(H - kAfter) : 0;
      run_group<kFirst, kWide, kTail>(x, next);
      run_groups<kAfter + kTail>(x, next);
    }
  }

  template <int kFirst, int kWide, int kTail>
  void run_group(const float* x, float* next) noexcept {
    using Wide = typename static_detail::Lanes<FASTLSTM_STATIC_LANES>::Float;
    using Tail = typename static_detail::Lanes<(kTail > 0 ? kTail : 4)>::Float;
    constexpr int kLanes = FASTLSTM_STATIC_LANES;
    constexpr int kAfter = kFirst + kWide * kLanes;
    const float* wide[kWide > 0 ? kWide : 1];
    for (int p = 0; p < kWide; ++p) {
      wide[p] = packed_ + (kFirst + p * kLanes) * kRows * 4;
    }
    const float* tail = packed_ + kAfter * kRows * 4;

    Wide sums[kWide > 0 ? kWide : 1][4];
    Tail tail_sums[4];
    for (int g = 0; g < 4; ++g) {
      for (int p = 0; p < kWide; ++p) {
        sums[p][g] = static_detail::load<Wide>(wide[p] + g * kLanes);
      }
      if constexpr (kTail > 0) {
        tail_sums[g] = static_detail::load<Tail>(tail + g * kTail);
      }
    }
    const auto add = [&](const float* a, int size, int first_row) {
#pragma GCC unroll 4
      for (int k = 0; k < size; ++k) {
        const int row = first_row + k;
        const Wide left = static_detail::all<Wide>(a[k]);
#pragma GCC unroll 4
        for (int p = 0; p < kWide; ++p) {
#pragma GCC unroll 4
          for (int g = 0; g < 4; ++g) {
            sums[p][g] = static_detail::fma(
                left, static_detail::load<Wide>(wide[p] + (row * 4 + g) * kLanes),
                sums[p][g]);
          }
        }
        if constexpr (kTail > 0) {
#pragma GCC unroll 4
          for (int g = 0; g < 4; ++g) {
            tail_sums[g] = static_detail::fma(
                static_detail::narrow<Tail>(left),
                static_detail::load<Tail>(tail + (row * 4 + g) * kTail), tail_sums[g]);
          }
        }
      }
    };
    add(x, I, 1);
    add(h_, H, 1 + I);
#pragma GCC unroll 4
    for (int p = 0; p < kWide; ++p) {
      update(sums[p], c_ + kFirst + p * kLanes, next + kFirst + p * kLanes);
    }
    if constexpr (kTail > 0) update(tail_sums, c_ + kAfter, next + kAfter);
  }

  // c = f * c + i * g;  h = o * tanh(c)
  template <class V>
  static void update(V (&sums)[4], float* c, float* h) noexcept {
    static_detail::squash<1u << 2>(sums);
    const V state =
        static_detail::fma(sums[1], static_detail::load<V>(c), sums[0] * sums[2]);
    static_detail::store(c, state);
    V out[1] = {state};
    static_detail::squash<1>(out);
    static_detail::store(h, sums[3] * out[0]);
  }

  // For each panel (rows, 4 gates, its lanes), one after another.
  alignas(64) float packed_[kRows * 4 * kPadded] = {};
  alignas(64) float h_[kPadded] = {};
  alignas(64) float c_[kPadded] = {};
};

}  // namespace FASTLSTM_STATIC_ISA
}  // namespace fastlstm

#undef FASTLSTM_STATIC_ISA
#undef FASTLSTM_STATIC_LANES
