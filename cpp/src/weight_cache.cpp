// See weight_cache.hpp, and WeightCache in recurrent.hpp.
#include "weight_cache.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>

#include "dropout.hpp"
#include "layer_arrays.hpp"

namespace fastlstm {

namespace {

// Parameters that L2 does not hold are read by several threads, each array in this many
// parts.
constexpr std::size_t kSharedBytes = 1 << 20;
constexpr int kParts = 8;

}  // namespace

template <class T>
std::uint64_t parameter_checksum(const RecurrentConfig& config,
                                 const LayerArrays<const T>* params, int max_threads) {
  const auto bytes_of = [](Index count) {
    return static_cast<std::size_t>(count) * sizeof(T);
  };
  std::size_t bytes = 0;
  for_each_array(config, params,
                 [&](const T* /*data*/, Index count) { bytes += bytes_of(count); });
  const int parts = bytes < kSharedBytes ? 1 : kParts;
  std::uint64_t sums[kParts][kChecksumLanes] = {};
  auto body = [&](const Team& team) {
    for (int part = team.rank(); part < parts; part += team.size()) {
      for_each_array(config, params, [&](const T* data, Index count) {
        const Team::Range range = Team(part, parts).share(count);
        kernels<T>().checksum(data + range.begin, bytes_of(range.end - range.begin),
                              sums[part]);
      });
    }
  };
  const bool alone = parts == 1 || cpus_crowded();
  parallel(alone ? 1 : std::min(useful_threads(max_threads), parts), body);
  std::uint64_t sum = 0;
  for (int part = 0; part < parts; ++part) {
    for (const std::uint64_t lane : sums[part]) sum = mix_bits(sum ^ lane);
  }
  return sum;
}

template <class T>
PackedLayers<T> pack_layers(const std::vector<LayerPlan<T>>& plans,
                            const std::vector<LayerArrays<const T>>& params,
                            BufferPool& pool) {
  PackedLayers<T> packed;
  packed.layers.resize(plans.size());
  packed.memory = acquire_pieces(pool, [&](Arena& arena) {
    for (std::size_t i = 0; i < plans.size(); ++i) {
      packed.layers[i] = take_weights(plans[i], arena, true);
    }
  });
  for (std::size_t i = 0; i < plans.size(); ++i) {
    auto body = [&](const Team& team) {
      pack_weights(plans[i], params[i], team, packed.layers[i]);
    };
    parallel(choose_split(plans[i]).threads, body);
  }
  return packed;
}

namespace {

// Whether each layer's weights lie there as its plan reads them.
template <class T>
bool packed_for(const std::vector<LayerPlan<T>>& plans,
                const std::vector<PackedWeights<T>>& layers) {
  for (std::size_t i = 0; i < plans.size(); ++i) {
    if (plans[i].projects_ahead && layers[i].x_slots == nullptr) return false;
  }
  return true;
}

}  // namespace

template <class T>
std::shared_ptr<const PackedStack<T>> cached_weights(const RecurrentConfig& config,
                                                     const ForwardArgs<T>& args,
                                                     const SequenceRows& rows,
                                                     BufferPool& pool) {
  const std::uint64_t checksum =
      args.cache->constant()
          ? 0
          : parameter_checksum(config, args.params, args.max_threads);
  std::vector<LayerPlan<T>> plans;
  for (Index i = 0; i < config.num_layers * config.directions(); ++i) {
    plans.push_back(make_plan<T>(config, i / config.directions(), false, rows));
    plans.back().max_threads = args.max_threads;
  }
  auto kept = args.cache->latest();
  if (kept != nullptr && kept->checksum == checksum && kept->kernels == &kernels<T>() &&
      packed_for(plans, kept->packed.layers)) {
    return kept;
  }
  kept.reset();
  args.cache->clear();  // before the new one takes memory
  const std::vector<LayerArrays<const T>> params(args.params,
                                                 args.params + plans.size());
  kept = std::make_shared<const PackedStack<T>>(
      PackedStack<T>{&kernels<T>(), checksum, pack_layers(plans, params, pool)});
  args.cache->replace(kept);
  return kept;
}

template <class T>
std::shared_ptr<const PackedStack<T>> WeightCache<T>::latest() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return latest_;
}

template <class T>
void WeightCache<T>::replace(std::shared_ptr<const PackedStack<T>> next) {
  const std::lock_guard<std::mutex> lock(mutex_);
  latest_.swap(next);
}

template std::uint64_t parameter_checksum<float>(const RecurrentConfig&,
                                                 const LayerArrays<const float>*, int);
template std::uint64_t parameter_checksum<double>(const RecurrentConfig&,
                                                  const LayerArrays<const double>*,
                                                  int);
template PackedLayers<float> pack_layers<float>(
    const std::vector<LayerPlan<float>>&, const std::vector<LayerArrays<const float>>&,
    BufferPool&);
template PackedLayers<double> pack_layers<double>(
    const std::vector<LayerPlan<double>>&,
    const std::vector<LayerArrays<const double>>&, BufferPool&);
template std::shared_ptr<const PackedStack<float>> cached_weights<float>(
    const RecurrentConfig&, const ForwardArgs<float>&, const SequenceRows&,
    BufferPool&);
template std::shared_ptr<const PackedStack<double>> cached_weights<double>(
    const RecurrentConfig&, const ForwardArgs<double>&, const SequenceRows&,
    BufferPool&);
template class WeightCache<float>;
template class WeightCache<double>;

}  // namespace fastlstm
