// See stream_layer.hpp: memory, packing, and the steps of some rows.
#include "stream_layer.hpp"

#include <algorithm>
#include <vector>

#include "cache_line.hpp"
#include "fastlstm/bfloat16.hpp"

namespace fastlstm {
namespace {

// Lines that another thread has written take 0.1 us each, one after another: a step
// asks for so many bytes of h before it sums x.
constexpr Index kAskedFor = 4096;

template <class T>
void ask_for(const T* values, Index count) {
  constexpr Index kBytes = sizeof(T);
  const T* const end = values + std::min(count, kAskedFor / kBytes);
  for (; values < end; values += kCacheLine / kBytes) __builtin_prefetch(values);
}

// Rows of a packed matrix, in lines that hold one row or two of them.
Index stored_rows(Index size, Precision precision) {
  return precision == Precision::bfloat16 ? (size + 1) / 2 : size;
}

template <class T>
StepKind kind_of(const LayerPlan<T>& plan) {
  if (!plan.options.plain()) return StepKind::general;
  return plan.fused() ? StepKind::fused : StepKind::pointwise;
}

// wide: (P, size, slots * W) -> pairs (P, (size + 1) / 2, slots * W)
template <class T>
void round_panels(const LayerPlan<T>& plan, const T* wide, Index size, Index slots,
                  T* pairs) {
  const Index line = slots * plan.width;
  auto* out = reinterpret_cast<BFloat16Pair*>(pairs);
  for (Index p = 0; p < plan.panels; ++p, wide += size * line) {
    for (Index k = 0; k < size; k += 2) {
      for (Index j = 0; j < line; ++j, ++out) {
        const T* low = wide + k * line + j;
        const float high = k + 1 < size ? static_cast<float>(low[line]) : 0.0f;
        out->bits = to_bfloat16(static_cast<float>(*low)) |
                    std::uint32_t{to_bfloat16(high)} << 16;
      }
    }
  }
}

// The same calls for `count` rows from `row` on.
template <class T>
void move_rows(LstmStepArgs<T>& s, Index row, Index count) {
  s.gate.rows = count;
  s.gate.x += row * s.gate.x_stride;
  s.gate.h += row * s.gate.h_stride;
  if (s.gate.gates != nullptr) s.gate.gates += row * s.gate.gate_row_stride;
  if (s.c != nullptr) s.c_prev = s.c += row * s.c_row_stride;
  s.h_out += row * s.h_out_stride;
}

template <class T>
void move_rows(PointwiseForwardArgs<T>& p, Index row, Index count) {
  p.rows = count;
  p.gates += row * p.gate_row_stride;
  if (p.c != nullptr) p.c_prev = p.c += row * p.c_row_stride;
  p.h_prev += row * p.h_prev_stride;
  p.h_out += row * p.h_out_stride;
}

}  // namespace

template <class T>
StreamLayer<T>::StreamLayer(const LayerPlan<T>& plan, Precision precision)
    : kind_(kind_of(plan)),
      plan_(plan),
      kernels_(precision == Precision::full ? plan.kernels->stream
                                            : plan.kernels->stream_bfloat16),
      precision_(precision) {
  fused_step_ = kernels_.lstm_step;
  gates_ = gate_product(plan, kernels_);
  switch (plan.cell) {
    case CellKind::lstm:
      cell_ = plan.kernels->lstm_forward;
      break;
    case CellKind::gru:
      cell_ = plan.kernels->gru_forward;
      break;
    case CellKind::rnn:
      cell_ = plan.kernels->rnn_forward;
      break;
  }
  if (kind_ == StepKind::general) {
    general_ = std::make_unique<GeneralStep<T>>(plan, kernels_);
  }
}

template <class T>
void StreamLayer<T>::take(Arena& arena) {
  const Index panel = plan_.panels * plan_.width;
  const auto matrix = [&](const PanelMap& map, Index size) {
    return arena.take<T>(checked_product((panel + narrow_width(plan_)) * slots_of(map),
                                         stored_rows(size, precision_)));
  };
  packed_.x = matrix(plan_.map_x, plan_.input_size);
  packed_.h = matrix(plan_.map_h, plan_.output_size);
  packed_.bias = arena.take<T>(panel * kSlots);
  if (kind_ == StepKind::general) {
    GeneralForwardLoop<T>& loop = general_->loop;
    loop.packed = packed_;
    loop.take(arena, 1);
    h_stride_ = loop.output_stride();
    h_[0] = h_[1] = loop.h;
    c_ = {loop.c, loop.cell.stride, plan_.width};
    general_->args.output = {
        arena.take<T>(checked_product(plan_.batch_size, h_stride_)), 0, h_stride_};
    return;
  }
  h_stride_ = plan_.padded_units;
  const Index state = checked_product(plan_.batch_size, h_stride_);
  for (T*& h : h_) h = arena.take<T>(state);
  if (plan_.lstm()) c_ = state_rows(plan_, arena.take<T>(state));
  gates_memory_ = kind_ == StepKind::fused
                      ? nullptr
                      : arena.take<T>(plan_.batch_size * panel * kSlots);
}

template <class T>
void StreamLayer<T>::prepare(const StreamLayer* below) {
  for (const int turn : {0, 1}) {
    const T* x = below == nullptr ? nullptr : below->h_[1 - turn];
    prepare_calls(turn, x, below == nullptr ? plan_.input_size : below->h_stride_);
  }
}

template <class T>
void StreamLayer<T>::prepare_calls(int turn, const T* x, Index x_stride) {
  const Index panel = plan_.batch_size * plan_.width;
  GateArgs<T> gate{};
  gate.rows = plan_.batch_size;
  gate.panel_end = plan_.panels;
  gate.descending = turn != 0;
  gate.x = x;
  gate.x_stride = x_stride;
  gate.x_size = plan_.input_size;
  gate.h = h_[turn];
  gate.h_stride = h_stride_;
  gate.h_size = gate.h_steps = plan_.hidden_size;
  gate.packed_x = packed_.x;
  gate.packed_h = packed_.h;
  gate.init = packed_.bias;
  gate.init_panel_stride = plan_.gate_line();
  gate.gates = gates_memory_;
  gate.gate_row_stride = plan_.gate_line();
  gate.gate_panel_stride = plan_.batch_size * plan_.gate_line();
  LstmStepArgs<T>& s = fused_[turn];
  s = {gate,        c_.data, plan_.width,  panel,     c_.data,
       plan_.width, panel,   h_[1 - turn], h_stride_, plan_.hidden_size};

  PointwiseForwardArgs<T>& p = pointwise_[turn];
  p.rows = gate.rows;
  p.panel_end = gate.panel_end;
  p.hidden_size = plan_.padded_units;  // whole vectors of h are stored
  p.gates = gate.gates;
  p.gate_row_stride = gate.gate_row_stride;
  p.gate_panel_stride = gate.gate_panel_stride;
  p.c_prev = p.c = s.c;
  p.c_prev_row_stride = p.c_row_stride = s.c_row_stride;
  p.c_prev_panel_stride = p.c_panel_stride = s.c_panel_stride;
  p.h_prev = gate.h;
  p.h_prev_stride = gate.h_stride;
  p.h_out = s.h_out;
  p.h_out_stride = s.h_out_stride;
  p.cell_activation = static_cast<int>(plan_.cell_activation);
  p.output_activation = static_cast<int>(plan_.output_activation);
}

template <class T>
void StreamLayer<T>::pack(const LayerArrays<const T>& params, BufferPool& pool) {
  if (precision_ == Precision::full) {
    pack_weights(plan_, params, Team(0, 1), packed_);
  } else if constexpr (sizeof(T) == sizeof(float)) {
    pack_bfloat16(params, pool);
  }
  if (kind_ == StepKind::general) pack_general(params);
}

// Packs as T beside, then rounds; the bias is not rounded.
template <class T>
void StreamLayer<T>::pack_bfloat16(const LayerArrays<const T>& params,
                                   BufferPool& pool) {
  PackedWeights<T> wide{};
  {
    const Buffer beside =
        acquire_pieces(pool, [&](Arena& arena) { wide = take_weights(plan_, arena); });
    pack_weights(plan_, params, Team(0, 1), wide);
    round_panels(plan_, wide.x, plan_.input_size, slots_of(plan_.map_x), packed_.x);
    round_panels(plan_, wide.h, plan_.output_size, slots_of(plan_.map_h), packed_.h);
    std::copy_n(wide.bias, plan_.panels * plan_.gate_line(), packed_.bias);
  }
  if (narrow_width(plan_) > 0) {
    copy_narrow(plan_, stored_rows(plan_.input_size, precision_) * kSlots, packed_.x);
    copy_narrow(plan_, stored_rows(plan_.output_size, precision_) * kSlots, packed_.h);
  }
  pool.trim();
}

// The matrix of a second product, W_hr or W_hn, is rounded like the others but stays T:
// its kernel reads nothing else.
template <class T>
void StreamLayer<T>::pack_general(LayerArrays<const T> params) {
  std::vector<T> rounded;
  if constexpr (sizeof(T) == sizeof(float)) {
    if (precision_ == Precision::bfloat16) {
      const T*& second = projects(plan_) ? params.weight_hr : params.weight_hh;
      const Index rows = projects(plan_) ? plan_.output_size : 3 * plan_.hidden_size;
      if (projects(plan_) || resets_before(plan_)) {
        rounded.assign(second, second + rows * plan_.hidden_size);
        round_to_bfloat16(static_cast<Index>(rounded.size()), rounded.data());
        second = rounded.data();
      }
    }
  }
  general_->args.params = params;
  general_->loop.pack();
  general_->args.params = {};
}

template <class T>
void StreamLayer<T>::share_step(int turn, const T* x, const Team& team) const noexcept {
  const Team::Range panels = team.share(plan_.panels);
  if (panels.begin == panels.end) return;
  LstmStepArgs<T> fused = fused_[turn];
  if (x != nullptr) fused.gate.x = x;
  ask_for(fused.gate.h, plan_.batch_size * h_stride_);
  fused.gate.panel_begin = panels.begin;
  fused.gate.panel_end = panels.end;
  if (kind_ == StepKind::fused) return fused_step_(fused);
  PointwiseForwardArgs<T> pointwise = pointwise_[turn];
  pointwise.panel_begin = panels.begin;
  pointwise.panel_end = panels.end;
  gates_(fused.gate);
  cell_(pointwise);
}

template <class T>
void StreamLayer<T>::general_step(int turn, Index row, Index count) noexcept {
  GeneralStep<T>& general = *general_;
  general.args.x = {fused_[turn].gate.x, 0, fused_[turn].gate.x_stride};
  general.loop.take_step(0, row, count, general.loop.scratch);
}

template <class T>
void StreamLayer<T>::step_rows(int turn, Index row, Index count) noexcept {
  if (kind_ == StepKind::general) return general_step(turn, row, count);
  LstmStepArgs<T> fused = fused_[turn];
  move_rows(fused, row, count);
  if (kind_ == StepKind::fused) return fused_step_(fused);
  PointwiseForwardArgs<T> pointwise = pointwise_[turn];
  move_rows(pointwise, row, count);
  gates_(fused.gate);
  cell_(pointwise);
}

template <class T>
void StreamLayer<T>::hold_rows(int turn, Index row, Index count) noexcept {
  if (kind_ == StepKind::general) return;
  std::copy_n(h(turn, row), count * h_stride_, h_[1 - turn] + row * h_stride_);
}

template <class T>
void StreamLayer<T>::get_state(int turn, Index row, T* h, T* c) const noexcept {
  std::copy_n(this->h(turn, row), plan_.output_size, h);
  if (c == nullptr || !plan_.lstm()) return;
  for (Index p = 0; p < plan_.panels; ++p) {
    const Index unit = p * plan_.width;
    std::copy_n(c_.at(row, p), std::min(plan_.width, plan_.hidden_size - unit),
                c + unit);
  }
}

template <class T>
void StreamLayer<T>::set_state(int turn, Index row, const T* h, const T* c) noexcept {
  T* const to = h_[turn] + row * h_stride_;
  std::fill_n(to, h_stride_, T(0));
  if (h != nullptr) std::copy_n(h, plan_.output_size, to);
  for (Index p = 0; plan_.lstm() && p < plan_.panels; ++p) {
    const Index unit = p * plan_.width;
    std::fill_n(c_.at(row, p), plan_.width, T(0));
    if (c == nullptr) continue;
    std::copy_n(c + unit, std::min(plan_.width, plan_.hidden_size - unit),
                c_.at(row, p));
  }
}

template <class T>
Index StreamLayer<T>::work() const noexcept {
  const Index gates = plan_.cell == CellKind::lstm  ? 4
                      : plan_.cell == CellKind::gru ? 3
                                                    : 1;
  const Index inner = projects(plan_) ? plan_.output_size : 0;
  return plan_.hidden_size * (gates * (plan_.input_size + plan_.output_size) + inner);
}

template class StreamLayer<float>;
template class StreamLayer<double>;

}  // namespace fastlstm
