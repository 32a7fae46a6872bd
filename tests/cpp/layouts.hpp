// What the kernel tests share: the plan of a small layer with the instruction set in
// force, the place of an element in each packed layout, and the sizes to go through.
#pragma once

#include "layer_plan.hpp"
#include "support.hpp"

namespace fastlstm::testing {

// 1 .. 2 W + 1, and around one whole RNN panel.
inline std::vector<Index> tail_sizes(Index width) {
  std::vector<Index> sizes;
  for (Index size = 1; size <= 2 * width + 1; ++size) sizes.push_back(size);
  for (const Index size : {4 * width - 1, 4 * width, 4 * width + 1}) {
    if (size > sizes.back()) sizes.push_back(size);
  }
  return sizes;
}

template <class T>
LayerPlan<T> small_plan(CellKind cell, Index batch_size, Index input_size,
                        Index hidden_size) {
  RecurrentConfig config;
  config.cell = cell;
  config.input_size = input_size;
  config.hidden_size = hidden_size;
  return make_plan<T>(config, 0, false, {1, batch_size});
}

// Calls visit(row, panel, slot, lane) for every row of the weight matrix that `map`
// reads; where no row belongs to a lane, row is -1.
template <class Visit>
void for_each_lane(const PanelMap& map, Index panels, Index width, const Visit& visit) {
  for (Index p = 0; p < panels; ++p) {
    for (int s = map.slot_begin; s < map.slot_end; ++s) {
      for (Index j = 0; j < width; ++j) {
        const Index unit = p * map.panel_units + map.slot_unit[s] + j;
        visit(unit < map.units ? map.slot_row[s] + unit : Index{-1}, p, s, j);
      }
    }
  }
}

template <class T>
T at(const std::vector<T>& values, Index i) {
  return values[static_cast<std::size_t>(i)];
}

// a * b + c as the kernels in force compute it.
template <class T>
T multiply_add(T a, T b, T c, bool fused) {
  return fused ? std::fma(a, b, c) : a * b + c;
}

}  // namespace fastlstm::testing
