// Inter-layer dropout and zoneout from a counter-based generator: whether a value is
// kept depends on (seed, layer, t, n, unit) alone, so backward draws the same mask
// again and no split of the work can change it. Used by recurrent.cpp and the general
// path.
#pragma once

#include <cstdint>

#include "fastlstm/recurrent.hpp"
#include "parallel.hpp"
#include "rows.hpp"

namespace fastlstm {

// Finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
inline std::uint64_t mix_bits(std::uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Recurrent dropout of one layer and direction; p = 0: none.
struct RecurrentDropout {
  double p = 0;
  std::uint64_t seed = 0;
  const Index* source = nullptr;  // (N), as for apply_dropout; null: first + place
  Index first = 0;

  // factors (N, padded units): 0 or 1 / (1 - p); 0 in the padding.
  template <class T>
  void fill(Index batch_size, Index units, Index padded, T* factors) const {
    const auto threshold = static_cast<std::uint64_t>(p * 4294967296.0);
    const T scale = static_cast<T>(p < 1.0 ? 1.0 / (1.0 - p) : 0.0);
    for (Index place = 0; place < batch_size; ++place) {
      const Index n = source != nullptr ? source[place] : first + place;
      const std::uint64_t key = mix_bits(seed ^ static_cast<std::uint64_t>(n));
      for (Index u = 0; u < padded; ++u) {
        const bool keep =
            (mix_bits(key + static_cast<std::uint64_t>(u)) >> 32) >= threshold;
        *factors++ = keep && u < units ? scale : T(0);
      }
    }
  }
};

// out = kept ? in / (1 - p) : 0 over (rows, units); in may be out. source: (N), the n
// that stands for each row of a step; null: its place.
template <class T>
void apply_dropout(double p, std::uint64_t seed, Index layer, const SequenceRows& rows,
                   const Index* source, Index units, const T* in, T* out,
                   const Team& team) {
  const auto threshold = static_cast<std::uint64_t>(p * 4294967296.0);
  const T scale = static_cast<T>(p < 1.0 ? 1.0 / (1.0 - p) : 0.0);
  const std::uint64_t layer_key =
      mix_bits(seed ^ mix_bits(static_cast<std::uint64_t>(layer)));
  const Team::Range times = team.share(rows.seq_len);
  for (Index t = times.begin; t < times.end; ++t) {
    for (Index place = 0; place < rows.count(t); ++place) {
      const Index n = source != nullptr ? source[place] : place;
      const auto number =
          static_cast<std::uint64_t>((rows.start + t) * rows.batch_size + n);
      const std::uint64_t key = mix_bits(layer_key ^ number);
      const T* from = in + (rows.first(t) + place) * units;
      T* to = out + (rows.first(t) + place) * units;
      for (Index u = 0; u < units; ++u) {
        const bool keep =
            (mix_bits(key + static_cast<std::uint64_t>(u)) >> 32) >= threshold;
        to[u] = keep ? from[u] * scale : T(0);
      }
    }
  }
}

// out[u] = 1 with probability p, else 0: the units whose state zoneout keeps, of one
// row (t, n) and one stream of numbers (layer, direction, and h or c).
template <class T>
void draw_zoneout(double p, std::uint64_t seed, Index stream, Index row, Index units,
                  T* out) {
  const auto threshold = static_cast<std::uint64_t>(p * 4294967296.0);
  // The streams of dropout are those of 0 up to the number of layers.
  const std::uint64_t key =
      mix_bits(mix_bits(seed ^ mix_bits(~static_cast<std::uint64_t>(stream))) ^
               static_cast<std::uint64_t>(row));
  for (Index u = 0; u < units; ++u) {
    const bool zoned =
        (mix_bits(key + static_cast<std::uint64_t>(u)) >> 32) < threshold;
    out[u] = zoned ? T(1) : T(0);
  }
}

}  // namespace fastlstm
