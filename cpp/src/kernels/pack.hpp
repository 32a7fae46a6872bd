// Packing: weights into panels and column blocks, and weight gradients back. Padding is
// written as zeros, so the products need no tails.
#pragma once

#include "lanes.hpp"
#include "table.hpp"

namespace fastlstm {
namespace {

// Transposes a W x W block in registers: log2 W rounds that interleave row i with row
// i + W/2.
template <class V>
inline void transpose(V (&rows)[V::kWidth]) {
  constexpr int kHalf = V::kWidth / 2;
#pragma GCC unroll 4
  for (int round = 1; round < V::kWidth; round *= 2) {
    V next[V::kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < kHalf; ++i) {
      interleave(rows[i], rows[i + kHalf], next[2 * i], next[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < V::kWidth; ++i) rows[i] = next[i];
  }
}

// (rows, k) -> P panels of slots of k vectors, these so far behind each other.
template <class V, class T>
inline void pack_vectors(const PanelMap& map, const T* w, Index k, Index panel_begin,
                         Index panel_end, Index slot_stride, Index line, T* packed) {
  constexpr int kWidth = V::kWidth;
  const Index panel_size = (map.slot_end - map.slot_begin) * k * kWidth;
  for (Index p = panel_begin; p < panel_end; ++p) {
    for (int s = map.slot_begin; s < map.slot_end; ++s) {
      const Index unit = p * map.panel_units + map.slot_unit[s];
      const int lanes = panel_lanes<V>(map.units, unit);
      const T* rows = w + (map.slot_row[s] + unit) * k;
      T* out = packed + p * panel_size + (s - map.slot_begin) * slot_stride;
      for (Index begin = 0; begin < k; begin += kWidth) {
        const int count = static_cast<int>(k - begin < kWidth ? k - begin : kWidth);
        V block[kWidth];
#pragma GCC unroll 16
        for (int j = 0; j < kWidth; ++j) {
          block[j] = j < lanes ? load_lanes<V>(rows + j * k + begin, count) : V::zero();
        }
        transpose(block);
        for (int i = 0; i < count; ++i) block[i].store(out + (begin + i) * line);
      }
    }
  }
}

// (rows, k) -> (P, k, slots * W)
template <class V, class T = typename V::Value>
void pack_panels(const PanelMap& map, const T* w, Index k, Index panel_begin,
                 Index panel_end, T* packed) {
  const Index line = Index{map.slot_end - map.slot_begin} * V::kWidth;
  pack_vectors<V>(map, w, k, panel_begin, panel_end, V::kWidth, line, packed);
}

// (rows, k) -> (P, slots, k, W)
template <class V, class T = typename V::Value>
void pack_slots(const PanelMap& map, const T* w, Index k, Index panel_begin,
                Index panel_end, T* packed) {
  pack_vectors<V>(map, w, k, panel_begin, panel_end, k * V::kWidth, V::kWidth, packed);
}

template <class V, class T = typename V::Value>
void pack_bias(const PanelMap& map, const T* bias, T* packed) {
  constexpr int kWidth = V::kWidth;
  const Index panels = (map.units + map.panel_units - 1) / map.panel_units;
  for (Index p = 0; p < panels; ++p) {
    for (int s = map.slot_begin; s < map.slot_end; ++s) {
      const Index unit = p * map.panel_units + map.slot_unit[s];
      const int lanes = panel_lanes<V>(map.units, unit);
      T* out = packed + (p * kSlots + s) * kWidth;
      for (int j = 0; j < kWidth; ++j) {
        out[j] = j < lanes ? bias[map.slot_row[s] + unit + j] : T(0);
      }
    }
  }
}

// Rows of w in panel order, columns in blocks of 4 W; the last block holds only as many
// vectors as it needs.
template <class V, class T = typename V::Value>
void pack_columns(const PanelMap& map, const T* w, Index cols, Index block_begin,
                  Index block_end, T* packed) {
  constexpr int kWidth = V::kWidth;
  constexpr Index kBlock = kSlots * kWidth;
  const Index panels = (map.units + map.panel_units - 1) / map.panel_units;
  const Index lines = panels * (map.slot_end - map.slot_begin) * kWidth;
  // The rows of a slot for all blocks before the next: they lie together in w.
  Index done = 0;  // lines of every block
  for (Index p = 0; p < panels; ++p) {
    for (int s = map.slot_begin; s < map.slot_end; ++s, done += kWidth) {
      const Index unit = p * map.panel_units + map.slot_unit[s];
      const int lanes = panel_lanes<V>(map.units, unit);
      const T* rows = w + (map.slot_row[s] + unit) * cols;
      for (Index b = block_begin; b < block_end; ++b) {
        const Index first = b * kBlock;
        const Index real = cols - first < kBlock ? cols - first : kBlock;
        const Index line = (real + kWidth - 1) / kWidth * kWidth;
        T* out = packed + first * lines + done * line;
        for (int j = 0; j < kWidth; ++j, out += line) {
          const T* row = rows + j * cols + first;
          if (j < lanes && real == kBlock) {
#pragma GCC unroll 4
            for (int v = 0; v < kSlots; ++v) {
              V::load(row + v * kWidth).store(out + v * kWidth);
            }
            continue;
          }
          const Index copy = j < lanes ? real : 0;
          for (Index i = 0; i < copy; ++i) out[i] = row[i];
          for (Index i = copy; i < line; ++i) out[i] = T(0);
        }
      }
    }
  }
}

// w[row, col] = [w +] packed for one panel, (>= cols, slots * W).
template <class V, class T = typename V::Value>
void unpack_panel(const PanelMap& map, Index panel, const T* packed, Index cols, T* w,
                  Index w_stride, bool accumulate) {
  constexpr int kWidth = V::kWidth;
  const Index line = Index{map.slot_end - map.slot_begin} * kWidth;
  for (int s = map.slot_begin; s < map.slot_end; ++s) {
    const Index unit = panel * map.panel_units + map.slot_unit[s];
    const int lanes = panel_lanes<V>(map.units, unit);
    T* rows = w + (map.slot_row[s] + unit) * w_stride;
    const T* in = packed + (s - map.slot_begin) * kWidth;
    for (Index begin = 0; begin < cols; begin += kWidth) {
      const int count = static_cast<int>(cols - begin < kWidth ? cols - begin : kWidth);
      V block[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) {
        block[i] = i < count ? V::load(in + (begin + i) * line) : V::zero();
      }
      transpose(block);
      for (int j = 0; j < lanes; ++j) {
        T* out = rows + j * w_stride + begin;
        const V sum = accumulate ? load_lanes<V>(out, count) + block[j] : block[j];
        store_lanes(sum, out, count);
      }
    }
  }
}

template <class V, class T = typename V::Value>
void copy_rows(const T* from, Index rows, Index cols, Index from_stride, T* to,
               Index to_stride) {
  for (Index r = 0; r < rows; ++r, from += from_stride, to += to_stride) {
    for_vectors<V>(cols, [&](Index i, int lanes) {
      store_lanes(load_lanes<V>(from + i, lanes), to + i, lanes);
    });
  }
}

}  // namespace
}  // namespace fastlstm
