// Lists of parameter arrays as the core takes them. Used by optim.cpp and training.cpp.
#pragma once

#include <vector>

#include "dense_array.hpp"
#include "fastlstm/optim.hpp"

namespace fastlstm::bindings {

template <class T>
using Arrays = std::vector<DenseArray<T>>;
// At most two lists: what `first` and `second` of a Parameter point to.
template <class T>
using StateArrays = std::vector<Arrays<T>>;

// Pointers into one list whose arrays have the shapes of the parameters. They are
// written to, so read-only arrays are refused.
template <class T>
std::vector<T*> matched_pointers(const std::string& name, const Arrays<T>& arrays,
                                 const Arrays<T>& params) {
  if (arrays.size() != params.size()) {
    throw py::value_error(name + " must hold " + std::to_string(params.size()) +
                          " arrays, got " + std::to_string(arrays.size()));
  }
  std::vector<T*> pointers;
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    expect_shape(name + "[" + std::to_string(i) + "]", arrays[i], shape_of(params[i]));
    DenseArray<T> array = arrays[i];
    pointers.push_back(array.mutable_data());
  }
  return pointers;
}

template <class T>
std::vector<Parameter<T>> parameter_list(const Arrays<T>& params,
                                         const Arrays<T>& grads,
                                         const StateArrays<T>& state) {
  if (state.size() > 2) throw py::value_error("state must hold at most two lists");
  const auto p = matched_pointers("params", params, params);
  const auto g = matched_pointers("grads", grads, params);
  std::vector<Parameter<T>> list;
  for (std::size_t i = 0; i < p.size(); ++i) {
    list.push_back({params[i].size(), p[i], g[i], nullptr, nullptr});
  }
  for (std::size_t s = 0; s < state.size(); ++s) {
    const auto values =
        matched_pointers("state[" + std::to_string(s) + "]", state[s], params);
    for (std::size_t i = 0; i < list.size(); ++i) {
      (s == 0 ? list[i].first : list[i].second) = values[i];
    }
  }
  return list;
}

}  // namespace fastlstm::bindings
