// See layer_plan.hpp.
#include "layer_plan.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

#include "fastlstm/threads.hpp"

namespace fastlstm {
namespace {

// Below this many multiply-adds a call is too short to share: it takes less than 100
// us, and a thread that sleeps takes 50 us to wake.
constexpr double kMinParallelWork = 2e6;
// Splitting every step needs this many multiply-adds a step for each nanosecond that a
// barrier takes: two barriers, or the one of a row alone, see kPieceUnits, and
// fetching what the other threads have written.
constexpr double kStepWork = 500;
constexpr double kRowWork = 200;
// A faster barrier is not counted on; steps worth a slower one need not know.
constexpr double kLeastBarrier = 50;
constexpr double kMostBarrier = 1000;
// By rows only if each thread has this many: fewer would waste register tiles. Weights
// that L2 does not hold are read from L3 by every thread, which takes more rows to pay.
constexpr Index kMinRowsPerThread = 4;
constexpr Index kMinRowsBeyondL2 = 24;

// Rows of a step, on average where the batch is ragged.
template <class T>
Index step_rows(const LayerPlan<T>& plan) {
  return plan.rows.total() / std::max<Index>(1, plan.seq_len);
}

// In panels, and multiply-adds of a step for one row.
template <class T>
Index weight_count(const LayerPlan<T>& plan) {
  return plan.panels * plan.gate_line() * (plan.input_size + plan.hidden_size);
}

// Multiply-adds of a step.
template <class T>
double step_work(const LayerPlan<T>& plan) {
  return static_cast<double>(step_rows(plan)) * static_cast<double>(weight_count(plan));
}

// Whether threads that share every step take less time than one.
template <class T>
bool worth_sharing(const LayerPlan<T>& plan, int threads) {
  const bool row_alone = plan.batch_size == 1 && plan.hidden_size >= kPieceUnits;
  const double worth = step_work(plan) / (row_alone ? kRowWork : kStepWork);
  if (worth < kLeastBarrier) return false;
  return worth >= kMostBarrier || worth >= barrier_nanoseconds(threads);
}

// Too few to be shared by so many threads.
template <class T>
bool few_rows(const LayerPlan<T>& plan, int threads) {
  const bool beyond_l2 = weight_count(plan) * Index{sizeof(T)} >= kBeyondL2;
  return step_rows(plan) / (beyond_l2 ? kMinRowsBeyondL2 : kMinRowsPerThread) < threads;
}

template <class T>
bool pays_ahead(const LayerPlan<T>& plan) {
  return plan.kernels->projected_steps > 0 && plan.options.plain() &&
         plan.batch_size == 1 && plan.seq_len >= kLeastStepsAhead &&
         plan.input_size >= kLeastProjected && plan.hidden_size >= kLeastUnitsAhead &&
         weight_count(plan) * Index{sizeof(T)} <=
             (l2_bytes() >= kLargeL2 ? l2_bytes() : kMostBytesAhead);
}

template <class T>
bool pays_triples(const LayerPlan<T>& plan) {
  return plan.kernels->triples.product != nullptr && plan.options.plain() &&
         plan.batch_size >= kLeastTripleRows &&
         weight_count(plan) >= kLeastTripleWeights;
}

}  // namespace

template <class T>
LayerPlan<T> make_plan(const RecurrentConfig& config, Index layer, bool reverse,
                       const SequenceRows& rows, bool trains) {
  LayerPlan<T> plan{};
  plan.kernels = &kernels<T>();
  plan.cell = config.cell;
  plan.cell_activation = config.cell_activation;
  plan.output_activation = config.output_activation;
  plan.reverse = reverse;
  plan.options = config.options;
  plan.rows = rows;
  plan.seq_len = rows.seq_len;
  plan.batch_size = plan.stored_rows = rows.batch_size;
  plan.input_size =
      layer == 0 ? config.input_size : config.directions() * config.output_size();
  plan.hidden_size = config.hidden_size;
  plan.output_size = config.output_size();
  plan.width = plan.kernels->width;
  const bool rnn = config.cell == CellKind::rnn;
  plan.panel_units = rnn ? kSlots * plan.width : plan.width;
  plan.panels = (plan.hidden_size + plan.panel_units - 1) / plan.panel_units;
  plan.padded_units = plan.panels * plan.panel_units;
  plan.record = (config.cell == CellKind::lstm ? kSlots + 1 : kSlots) * plan.width;
  if (config.options.layer_norm) plan.record += (kSlots + 2) * plan.width;
  plan.trains = trains;
  plan.unpacked =
      trains && row_alone(plan, kBeyondL2, std::numeric_limits<Index>::max());
  plan.projects_ahead = !plan.unpacked && pays_ahead(plan);
  plan.triples = pays_triples(plan);

  const Index h = plan.hidden_size;
  PanelMap map{h, plan.panel_units, {}, {}, 0, kSlots};
  plan.map_x = plan.map_h = map;
  for (int s = 0; s < kSlots; ++s) {
    switch (config.cell) {
      case CellKind::lstm:
        plan.map_x.slot_row[s] = s * h;
        break;
      case CellKind::gru:  // rows r, z, n; slots n_x, r, z, n_h
        plan.map_x.slot_row[s] = (s + 2) % 3 * h;
        break;
      case CellKind::rnn:
        plan.map_x.slot_unit[s] = s * plan.width;
        break;
    }
  }
  plan.map_h = plan.map_x;
  if (config.cell == CellKind::gru) {
    plan.map_x.slot_end = kSlots - 1;
    plan.map_h.slot_begin = 1;
  }
  return plan;
}

template <class T>
Split choose_split(const LayerPlan<T>& plan) {
  const int threads = useful_threads(plan.max_threads);
  const double step = step_work(plan);
  if (threads == 1 || step * static_cast<double>(plan.seq_len) < kMinParallelWork)
    return {1, true};
  if (few_rows(plan, threads) && !cpus_crowded() && worth_sharing(plan, threads)) {
    return {static_cast<int>(std::min<Index>(threads, plan.panels)), false};
  }
  const Index by_rows = step_rows(plan) / kMinRowsPerThread;
  return {static_cast<int>(std::clamp<Index>(by_rows, 1, threads)), true};
}

template <class T>
int threads_side_by_side(const LayerPlan<T>& plan) {
  const int threads = useful_threads(plan.max_threads);
  const bool helps =
      threads % 2 == 0 && few_rows(plan, threads) &&
      step_work(plan) * static_cast<double>(plan.seq_len) >= kMinParallelWork;
  return helps ? threads / 2 : 0;
}

template <class T>
Part part_of(const LayerPlan<T>& plan, const Split& split, const Team& team,
             Index rows) {
  const Team::Range all_panels = {0, plan.panels};
  if (split.by_rows) return {team.share(rows), all_panels};
  return {{0, rows}, team.share(plan.panels)};
}

template <class T>
void pack_state(const LayerPlan<T>& plan, const T* state, T* packed) {
  for (Index p = 0; p < plan.panels; ++p) {
    const Index lanes = std::min(plan.width, plan.hidden_size - p * plan.width);
    for (Index n = 0; n < plan.batch_size; ++n, packed += plan.width) {
      std::fill(packed, packed + plan.width, T(0));
      if (state == nullptr) continue;
      std::copy_n(state + n * plan.hidden_size + p * plan.width, lanes, packed);
    }
  }
}

template <class T>
void unpack_state(const LayerPlan<T>& plan, const PanelRows<const T>& packed,
                  const Part& part, T* state) {
  for (Index p = part.panels.begin; p < part.panels.end; ++p) {
    const Index lanes = std::min(plan.width, plan.hidden_size - p * plan.width);
    for (Index n = part.rows.begin; n < part.rows.end; ++n) {
      std::copy_n(packed.at(n, p), lanes,
                  state + n * plan.hidden_size + p * plan.width);
    }
  }
}

template <class T>
PackedWeights<T> take_weights(const LayerPlan<T>& plan, Arena& arena, bool shared) {
  const Index units = plan.panels * plan.width;
  const Index stored = units + narrow_width(plan);
  const auto matrix = [&](bool wanted, Index width, const PanelMap& map, Index size) {
    return wanted ? arena.take<T>(checked_product(width * slots_of(map), size))
                  : nullptr;
  };
  const bool ahead = plan.projects_ahead;
  const bool triples = plan.triple_gates();
  const Index words = triples ? plan.gate_steps() * kGateStepWords : 0;
  return {matrix(!triples && (!ahead || shared), stored, plan.map_x, plan.input_size),
          matrix(ahead, units, plan.map_x, plan.input_size),
          matrix(!triples && !plan.unpacked, stored, plan.map_h, plan.output_size),
          arena.take<T>(units * kSlots),
          triples ? arena.take<BFloat16Pair>(checked_product(plan.panels, words))
                  : nullptr};
}

template <class T>
void copy_narrow(const LayerPlan<T>& plan, Index lines, T* packed) {
  const Index narrow = narrow_width(plan);
  const T* from = packed + (plan.panels - 1) * lines * plan.width;
  T* to = packed + plan.panels * lines * plan.width;
  for (Index i = 0; i < lines; ++i, from += plan.width, to += narrow) {
    std::memcpy(to, from, static_cast<std::size_t>(narrow) * sizeof(T));
  }
}

template <class T>
void pack_weights(const LayerPlan<T>& plan, const LayerArrays<const T>& params,
                  const Team& team, const PackedWeights<T>& packed) {
  const Kernels<T>& k = *plan.kernels;
  const Team::Range panels = team.share(plan.panels);
  if (packed.x != nullptr) {
    k.pack_panels(plan.map_x, params.weight_ih, plan.input_size, panels.begin,
                  panels.end, packed.x);
  }
  if (packed.x_slots != nullptr) {
    k.pack_slots(plan.map_x, params.weight_ih, plan.input_size, panels.begin,
                 panels.end, packed.x_slots);
  }
  if (packed.h != nullptr) {
    k.pack_panels(plan.map_h, params.weight_hh, plan.output_size, panels.begin,
                  panels.end, packed.h);
  }
  if (packed.triples != nullptr) {
    k.triples.pack_gates(plan.map_x, params.weight_ih, plan.input_size,
                         params.weight_hh, plan.hidden_size, panels.begin, panels.end,
                         packed.triples);
  } else if (narrow_width(plan) > 0 && panels.begin < panels.end &&
             panels.end == plan.panels) {
    if (packed.x != nullptr) {
      copy_narrow(plan, plan.input_size * slots_of(plan.map_x), packed.x);
    }
    copy_narrow(plan, plan.output_size * slots_of(plan.map_h), packed.h);
  }
  if (team.rank() == 0) {
    std::fill_n(packed.bias, plan.panels * kSlots * plan.width, T(0));
    if (params.bias != nullptr) k.pack_bias(plan.map_x, params.bias, packed.bias);
    if (params.bias_hn != nullptr) {
      k.pack_bias(bias_hn_map(plan.map_h), params.bias_hn, packed.bias);
    }
  }
  team.barrier();
}

template LayerPlan<float> make_plan<float>(const RecurrentConfig&, Index, bool,
                                           const SequenceRows&, bool);
template Split choose_split<float>(const LayerPlan<float>&);
template int threads_side_by_side<float>(const LayerPlan<float>&);
template Part part_of<float>(const LayerPlan<float>&, const Split&, const Team&, Index);
template void pack_state<float>(const LayerPlan<float>&, const float*, float*);
template void unpack_state<float>(const LayerPlan<float>&,
                                  const PanelRows<const float>&, const Part&, float*);
template PackedWeights<float> take_weights<float>(const LayerPlan<float>&, Arena&,
                                                  bool);
template void copy_narrow<float>(const LayerPlan<float>&, Index, float*);
template void pack_weights<float>(const LayerPlan<float>&,
                                  const LayerArrays<const float>&, const Team&,
                                  const PackedWeights<float>&);

template LayerPlan<double> make_plan<double>(const RecurrentConfig&, Index, bool,
                                             const SequenceRows&, bool);
template Split choose_split<double>(const LayerPlan<double>&);
template int threads_side_by_side<double>(const LayerPlan<double>&);
template Part part_of<double>(const LayerPlan<double>&, const Split&, const Team&,
                              Index);
template void pack_state<double>(const LayerPlan<double>&, const double*, double*);
template void unpack_state<double>(const LayerPlan<double>&,
                                   const PanelRows<const double>&, const Part&,
                                   double*);
template PackedWeights<double> take_weights<double>(const LayerPlan<double>&, Arena&,
                                                    bool);
template void copy_narrow<double>(const LayerPlan<double>&, Index, double*);
template void pack_weights<double>(const LayerPlan<double>&,
                                   const LayerArrays<const double>&, const Team&,
                                   const PackedWeights<double>&);

}  // namespace fastlstm
