"""What surrounds the code of a header, in C and in C++; assemble.py fills it in.

The marks are those of code.py and ``$about``, ``$state``, ``$weights``, ``$arithmetic``
and ``$offered``: the parts that depend on the model.
"""

from __future__ import annotations

USE_C = """\
     static $State state;         one for each stream
     ${p}reset(&state);
     ${p}step(&state, x, y);      again and again
     ${p}self_test()              largest error against the library: below 1e-5
"""

USE_CPP = """\
     $name::Model model;          one for each stream
     model.step(x, y);            again and again; model.reset() starts anew
     $name::self_test()           largest error against the library: below 1e-5
"""

C_STORED = ("static const struct $Weights ${p}stored = {", "};")
CPP_STORED = (
    "inline const Weights* weights() noexcept {\n"
    "  static constexpr Weights kStored = {",
    "};\n  return &kStored;\n}",
)

C = """\
$about
#ifndef ${NAME}_H_INCLUDED
#define ${NAME}_H_INCLUDED

#include <stdint.h>
#include <string.h>

#if defined(__cplusplus)
#define $restrict __restrict
#else
#define $restrict restrict
#endif

enum {
  ${NAME}_INPUT_SIZE = $inputs,
  ${NAME}_OUTPUT_SIZE = $outputs,
  ${NAME}_HIDDEN_SIZE = $hidden,
  ${NAME}_NUM_LAYERS = $layers
};

/* What a stream remembers between steps; begins with ${p}reset. */
typedef struct $State {
  $state
} $State;

$weights

$arithmetic
$offered
#undef $restrict

#endif
"""

CPP = """\
$about
#ifndef ${NAME}_HPP_INCLUDED
#define ${NAME}_HPP_INCLUDED

#include <stdint.h>
#include <string.h>

#define $restrict __restrict

/* Units compiled for different CPUs must not share functions. */
#if defined(__AVX512F__)
#define ${NAME}_ISA isa_avx512
#elif defined(__AVX2__)
#define ${NAME}_ISA isa_avx2
#elif defined(__AVX__)
#define ${NAME}_ISA isa_avx
#else
#define ${NAME}_ISA isa_base
#endif

namespace $name {
inline namespace ${NAME}_ISA {

constexpr int kInputSize = $inputs;
constexpr int kOutputSize = $outputs;
constexpr int kHiddenSize = $hidden;
constexpr int kNumLayers = $layers;

/* What a stream remembers between steps. */
struct State {
  $state
};

namespace detail {

$weights

$arithmetic
}  // namespace detail

/* One stream. Copy it to fork the stream. */
class Model {
 public:
  Model() noexcept { reset(); }
  void reset() noexcept { detail::reset(&state_); }
  void step($step_x, float* y) noexcept { detail::step(&state_, x, y); }
  void process($block_x, float* y, int n) noexcept {
    detail::process(&state_, x, y, n);
  }

 private:
  State state_;
};

$offered
}  // namespace ${NAME}_ISA
}  // namespace $name

#undef $restrict
#undef ${NAME}_ISA

#endif
"""
