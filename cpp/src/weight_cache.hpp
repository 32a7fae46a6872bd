// The weights of a stack as its kernels read them, and the checksum by which changed
// parameters are noticed. Used by recurrent.cpp and checkpoints.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "layer_plan.hpp"

namespace fastlstm {

// Of all parameters, at memory speed; the same for any number of threads.
template <class T>
std::uint64_t parameter_checksum(const RecurrentConfig& config,
                                 const LayerArrays<const T>* params, int max_threads);

template <class T>
struct PackedLayers {
  Buffer memory;
  std::vector<PackedWeights<T>> layers;
};

// Packs the weights of each plan; params: what the plan of the same place takes.
template <class T>
PackedLayers<T> pack_layers(const std::vector<LayerPlan<T>>& plans,
                            const std::vector<LayerArrays<const T>>& params,
                            BufferPool& pool);

// What a WeightCache holds. Its tables tell by which instruction set it was packed.
template <class T>
struct PackedStack {
  const Kernels<T>* kernels;
  std::uint64_t checksum;
  PackedLayers<T> packed;
};

// The weights of these parameters from args.cache, packed if they are not there.
template <class T>
std::shared_ptr<const PackedStack<T>> cached_weights(const RecurrentConfig& config,
                                                     const ForwardArgs<T>& args,
                                                     const SequenceRows& rows,
                                                     BufferPool& pool);

}  // namespace fastlstm
