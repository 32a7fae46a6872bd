// See weight_cache.hpp, and WeightCache in recurrent.hpp.
#include "weight_cache.hpp"

#include <cstddef>
#include <memory>

#include "dropout.hpp"

namespace fastlstm {

template <class T>
std::uint64_t parameter_checksum(const RecurrentConfig& config,
                                 const LayerArrays<const T>* params) {
  std::uint64_t sums[kChecksumLanes] = {};
  const auto add = [&](const T* data, Index count) {
    if (data == nullptr) return;
    kernels<T>().checksum(data, static_cast<std::size_t>(count) * sizeof(T), sums);
  };
  const Index rows = config.gate_rows();
  for (Index i = 0; i < config.num_layers * config.directions(); ++i) {
    const Index input_size = i < config.directions()
                                 ? config.input_size
                                 : config.directions() * config.output_size();
    add(params[i].weight_ih, rows * input_size);
    add(params[i].weight_hh, rows * config.output_size());
    add(params[i].bias, rows);
    add(params[i].bias_hn, config.hidden_size);
    add(params[i].weight_hr, config.output_size() * config.hidden_size);
    add(params[i].weight_peephole, 3 * config.hidden_size);
    add(params[i].gain_ih, rows);
    add(params[i].gain_hh, rows);
    add(params[i].gain_c, config.hidden_size);
    add(params[i].bias_c, config.hidden_size);
  }
  std::uint64_t sum = 0;
  for (const std::uint64_t lane : sums) sum = mix_bits(sum ^ lane);
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
      packed.layers[i] = take_weights(plans[i], arena);
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

template <class T>
std::shared_ptr<const PackedStack<T>> cached_weights(const RecurrentConfig& config,
                                                     const ForwardArgs<T>& args,
                                                     const SequenceRows& rows,
                                                     BufferPool& pool) {
  const std::uint64_t checksum = parameter_checksum(config, args.params);
  auto kept = args.cache->latest();
  if (kept != nullptr && kept->checksum == checksum && kept->kernels == &kernels<T>()) {
    return kept;
  }
  kept.reset();
  args.cache->clear();  // before the new one takes memory
  std::vector<LayerPlan<T>> plans;
  for (Index i = 0; i < config.num_layers * config.directions(); ++i) {
    plans.push_back(make_plan<T>(config, i / config.directions(), false, rows));
    plans.back().max_threads = args.max_threads;
  }
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
                                                 const LayerArrays<const float>*);
template std::uint64_t parameter_checksum<double>(const RecurrentConfig&,
                                                  const LayerArrays<const double>*);
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
