// See general.hpp: what forward and backward of the general path share.
#include <algorithm>

#include "general.hpp"

namespace fastlstm {
namespace {

template <class T>
ActivationArgs<T> activation_args(const Nonlinearity& a) {
  return {static_cast<int>(a.kind), static_cast<T>(a.alpha), static_cast<T>(a.beta)};
}

}  // namespace

template <class T>
CellVectors<T> take_vectors(const LayerPlan<T>& plan, Arena& arena) {
  const Index line = plan.panels * plan.gate_line();
  const Index norm = plan.options.layer_norm ? line : 0;
  return {arena.take<T>(plan.options.peepholes ? line : 0), arena.take<T>(norm),
          arena.take<T>(norm), arena.take<T>(norm), arena.take<T>(line)};
}

template <class T>
void pack_vectors(const LayerPlan<T>& plan, const LayerArrays<const T>& params,
                  const CellVectors<T>& vectors) {
  const Kernels<T>& k = *plan.kernels;
  const Index line = plan.panels * plan.gate_line();
  std::fill_n(vectors.zeros, line, T(0));
  if (plan.options.peepholes) {
    std::fill_n(vectors.peephole, line, T(0));
    k.pack_bias(vector_map(plan, 0, 2), params.weight_peephole, vectors.peephole);
    k.pack_bias(vector_map(plan, 3, 1, 2 * plan.hidden_size), params.weight_peephole,
                vectors.peephole);
  }
  if (plan.options.layer_norm) {
    k.pack_bias(plan.map_x, params.gain_ih, vectors.gain_ih);
    k.pack_bias(plan.map_h, params.gain_hh, vectors.gain_hh);
    std::fill_n(vectors.norm_c, line, T(0));
    k.pack_bias(vector_map(plan, 0, 1), params.gain_c, vectors.norm_c);
    if (params.bias_c != nullptr) {
      k.pack_bias(vector_map(plan, 1, 1), params.bias_c, vectors.norm_c);
    }
  }
}

template <class T>
GeneralCell<T> make_cell(const LayerPlan<T>& plan, const CellVectors<T>& vectors,
                         const T* bias) {
  const CellOptions& o = plan.options;
  GateActivations a = o.activations[plan.reverse ? 1 : 0];
  if (!o.own_activations) {
    a.gate.kind = Activation::sigmoid;
    a.cell.kind = plan.cell_activation;
    a.output.kind = plan.output_activation;
  }
  GeneralCell<T> cell{};
  cell.panels = plan.panels;
  cell.hidden_size = plan.hidden_size;
  cell.record = plan.record;
  cell.stride = padded(plan, plan.hidden_size);
  cell.gate = activation_args<T>(a.gate);
  cell.cell = activation_args<T>(a.cell);
  cell.output = activation_args<T>(a.output);
  cell.clip = static_cast<T>(o.clip);
  cell.cell_clip = static_cast<T>(o.cell_clip);
  cell.coupled = o.coupled;
  cell.reset_after = o.reset_after;
  cell.peephole = o.peepholes ? vectors.peephole : nullptr;
  if (o.layer_norm) {
    cell.gain_ih = vectors.gain_ih;
    cell.gain_hh = vectors.gain_hh;
    cell.gain_c = vectors.norm_c;
    cell.bias = bias;
  }
  return cell;
}

template <class T>
void pack_norm_bias(const LayerPlan<T>& plan, const LayerArrays<const T>& params,
                    T* bias) {
  std::fill_n(bias, plan.panels * plan.gate_line(), T(0));
  if (params.bias != nullptr) plan.kernels->pack_bias(plan.map_x, params.bias, bias);
}

namespace {

// Vectors and bias, one behind the other.
template <class T>
T* take_kept(const LayerPlan<T>& plan, Arena& arena, CellVectors<T>& vectors) {
  vectors = take_vectors(plan, arena);
  return arena.take<T>(plan.panels * plan.gate_line());
}

}  // namespace

template <class T>
Buffer keep_vectors(const LayerPlan<T>& plan, const LayerArrays<const T>& params,
                    BufferPool& pool) {
  CellVectors<T> vectors{};
  T* bias = nullptr;
  Buffer memory = acquire_pieces(
      pool, [&](Arena& arena) { bias = take_kept(plan, arena, vectors); });
  pack_vectors(plan, params, vectors);
  pack_norm_bias(plan, params, bias);
  return memory;
}

template <class T>
GeneralCell<T> kept_cell(const LayerPlan<T>& plan, const Buffer& vectors) {
  CellVectors<T> pieces{};
  Arena arena(vectors.data());
  const T* const bias = take_kept(plan, arena, pieces);
  return make_cell(plan, pieces, bias);
}

template <class T>
int general_threads(const LayerPlan<T>& plan) {
  const Index tile = plan.kernels->outer_tile;
  const Index shares = std::max<Index>(1, (plan.batch_size + tile - 1) / tile);
  return static_cast<int>(std::min<Index>(choose_split(plan).threads, shares));
}

#define FASTLSTM_GENERAL_CELL(T)                                                    \
  template CellVectors<T> take_vectors<T>(const LayerPlan<T>&, Arena&);             \
  template void pack_vectors<T>(const LayerPlan<T>&, const LayerArrays<const T>&,   \
                                const CellVectors<T>&);                             \
  template GeneralCell<T> make_cell<T>(const LayerPlan<T>&, const CellVectors<T>&,  \
                                       const T*);                                   \
  template void pack_norm_bias<T>(const LayerPlan<T>&, const LayerArrays<const T>&, \
                                  T*);                                              \
  template Buffer keep_vectors<T>(const LayerPlan<T>&, const LayerArrays<const T>&, \
                                  BufferPool&);                                     \
  template GeneralCell<T> kept_cell<T>(const LayerPlan<T>&, const Buffer&);         \
  template int general_threads<T>(const LayerPlan<T>&);
FASTLSTM_GENERAL_CELL(float)
FASTLSTM_GENERAL_CELL(double)
#undef FASTLSTM_GENERAL_CELL

}  // namespace fastlstm
