// See stream.hpp. The arguments of every kernel call are made once; a step changes the
// pointer to x. h lies in two buffers that take turns: a step reads one, writes the
// other.
#include "fastlstm/stream.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "denormals.hpp"
#include "fastlstm/bfloat16.hpp"
#include "layer_plan.hpp"

namespace fastlstm {
namespace {

// One layer: its packed weights and state, and the calls of a step that reads h[turn].
template <class T>
struct StreamLayer {
  LayerPlan<T> plan{};
  PackedWeights<T> packed{};
  T* h[2] = {};        // (N, padded units) each
  T* c = nullptr;      // LSTM: (P, N, W)
  T* gates = nullptr;  // (P, N, 4 W), where the step is not fused
  LstmStepArgs<T> fused[2] = {};
  PointwiseForwardArgs<T> pointwise[2] = {};
};

// Rows of a packed matrix, in lines that hold one row or two of them.
Index stored_rows(Index size, Precision precision) {
  return precision == Precision::bfloat16 ? (size + 1) / 2 : size;
}

template <class T>
void check_params(const RecurrentConfig& config, const LayerArrays<const T>* params) {
  for (Index i = 0; i < config.num_layers; ++i) {
    if (params[i].weight_ih == nullptr || params[i].weight_hh == nullptr) {
      throw std::invalid_argument("params of layer " + std::to_string(i) +
                                  " must have weight_ih and weight_hh, got null");
    }
  }
}

template <class T>
void check(const RecurrentConfig& config, const LayerArrays<const T>* params,
           const StreamOptions<T>& options) {
  check_config(config);
  if (config.bidirectional) {
    throw std::invalid_argument(
        "a stream runs in one direction, got bidirectional = true");
  }
  if (!config.options.plain()) {
    throw std::invalid_argument(
        "a stream needs a plain cell: variants run whole sequences or chunks only");
  }
  const Index rows = options.batch_size;
  if (rows < 1 || rows > Index{1} << 24) {
    throw std::invalid_argument(
        "batch_size must be an integer from 1 to 16777216, got " +
        std::to_string(rows));
  }
  if (options.precision == Precision::bfloat16 && sizeof(T) != sizeof(float)) {
    throw std::invalid_argument("precision bfloat16 needs weights of float32");
  }
  check_params(config, params);
  if (options.head.weight != nullptr && options.head.out_features < 1) {
    throw std::invalid_argument("head.out_features must be at least 1, got " +
                                std::to_string(options.head.out_features));
  }
}

template <class T>
LstmStepArgs<T> fused_args(const StreamLayer<T>& layer, const T* x, Index x_stride,
                           int turn) {
  const LayerPlan<T>& plan = layer.plan;
  const Index panel = plan.batch_size * plan.width;
  GateArgs<T> gate{};
  gate.rows = plan.batch_size;
  gate.panel_end = plan.panels;
  gate.descending = turn != 0;
  gate.x = x;
  gate.x_stride = x_stride;
  gate.x_size = plan.input_size;
  gate.h = layer.h[turn];
  gate.h_stride = plan.padded_units;
  gate.h_size = gate.h_steps = plan.hidden_size;
  gate.packed_x = layer.packed.x;
  gate.packed_h = layer.packed.h;
  gate.init = layer.packed.bias;
  gate.init_panel_stride = plan.gate_line();
  gate.gates = layer.gates;
  gate.gate_row_stride = plan.gate_line();
  gate.gate_panel_stride = plan.batch_size * plan.gate_line();
  return {
      gate,  layer.c,           plan.width,        panel,           layer.c, plan.width,
      panel, layer.h[1 - turn], plan.padded_units, plan.hidden_size};
}

template <class T>
PointwiseForwardArgs<T> pointwise_args(const StreamLayer<T>& layer,
                                       const LstmStepArgs<T>& s) {
  PointwiseForwardArgs<T> p{};
  p.rows = s.gate.rows;
  p.panel_end = s.gate.panel_end;
  p.hidden_size = layer.plan.padded_units;  // whole vectors of h are stored
  p.gates = s.gate.gates;
  p.gate_row_stride = s.gate.gate_row_stride;
  p.gate_panel_stride = s.gate.gate_panel_stride;
  p.c_prev = p.c = s.c;
  p.c_prev_row_stride = p.c_row_stride = s.c_row_stride;
  p.c_prev_panel_stride = p.c_panel_stride = s.c_panel_stride;
  p.h_prev = s.gate.h;
  p.h_prev_stride = s.gate.h_stride;
  p.h_out = s.h_out;
  p.h_out_stride = s.h_out_stride;
  p.cell_activation = static_cast<int>(layer.plan.cell_activation);
  p.output_activation = static_cast<int>(layer.plan.output_activation);
  return p;
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
struct Stream<T>::Body {
  RecurrentConfig config;
  Index batch_size;
  Precision precision;
  Index outputs;  // O
  BufferPool pool;
  Buffer memory;
  std::vector<StreamLayer<T>> layers;
  T* head_weight = nullptr;
  T* head_bias = nullptr;
  StreamKernels<T> kernel{};
  int turn = 0;

  Body(const RecurrentConfig& of, const StreamOptions<T>& with)
      : config(of),
        batch_size(with.batch_size),
        precision(with.precision),
        outputs(with.head.weight != nullptr ? with.head.out_features : of.hidden_size) {
    for (Index i = 0; i < config.num_layers; ++i) {
      layers.emplace_back();
      layers.back().plan = make_plan<T>(config, i, false, {1, batch_size});
    }
    const Kernels<T>& table = *layers[0].plan.kernels;
    kernel = precision == Precision::full ? table.stream : table.stream_bfloat16;
    for (Arena arena;;) {
      take_memory(arena, with.head.weight != nullptr);
      if (memory.data() != nullptr) break;
      memory = pool.acquire(arena.used());
      arena = Arena(memory.data());
    }
    std::fill_n(memory.template as<char>(), memory.capacity(), char{0});
    prepare_calls();
  }

  Index units() const { return config.hidden_size; }
  bool lstm() const { return config.cell == CellKind::lstm; }

  void take_memory(Arena& arena, bool head) {
    for (StreamLayer<T>& layer : layers) {
      const LayerPlan<T>& plan = layer.plan;
      const Index panel = plan.panels * plan.width;
      const Index narrow = has_narrow_copy(plan) ? kernel.half_width : 0;
      const auto matrix = [&](Index slots, Index size) {
        return arena.take<T>(
            checked_product((panel + narrow) * slots, stored_rows(size, precision)));
      };
      layer.packed.x = matrix(slots_of(plan.map_x), plan.input_size);
      layer.packed.h = matrix(slots_of(plan.map_h), plan.hidden_size);
      layer.packed.bias = arena.take<T>(panel * kSlots);
      const Index state = checked_product(batch_size, plan.padded_units);
      for (T*& h : layer.h) h = arena.take<T>(state);
      layer.c = lstm() ? arena.take<T>(state) : nullptr;
      layer.gates = plan.fused() ? nullptr : arena.take<T>(batch_size * panel * kSlots);
    }
    if (head) {
      head_weight = arena.take<T>(checked_product(outputs, units()));
      head_bias = arena.take<T>(outputs);
    }
  }

  void prepare_calls() {
    const StreamLayer<T>* below = nullptr;
    for (StreamLayer<T>& layer : layers) {
      for (const int now : {0, 1}) {
        const T* x = below == nullptr ? nullptr : below->h[1 - now];
        const Index stride =
            below == nullptr ? config.input_size : below->plan.padded_units;
        layer.fused[now] = fused_args(layer, x, stride, now);
        layer.pointwise[now] = pointwise_args(layer, layer.fused[now]);
      }
      below = &layer;
    }
  }

  bool has_narrow_copy(const LayerPlan<T>& plan) const {
    const Index left = plan.hidden_size - (plan.panels - 1) * plan.width;
    return plan.fused() && left <= kernel.half_width;
  }

  // The last panel, (rows, slots, W), once more behind it as (rows, slots, half width).
  void copy_narrow(const LayerPlan<T>& plan, Index size, Index slots, T* packed) const {
    const Index lines = stored_rows(size, precision) * slots;
    const T* from = packed + (plan.panels - 1) * lines * plan.width;
    T* to = packed + plan.panels * lines * plan.width;
    const auto bytes = static_cast<std::size_t>(kernel.half_width) * sizeof(T);
    for (Index i = 0; i < lines; ++i, from += plan.width, to += kernel.half_width) {
      std::memcpy(to, from, bytes);
    }
  }

  void pack(const LayerArrays<const T>* params, const Head<T>& head) {
    const Team alone(0, 1);
    for (StreamLayer<T>& layer : layers) {
      const LayerArrays<const T>& given = params[&layer - layers.data()];
      if (precision == Precision::full) {
        pack_weights(layer.plan, given, alone, layer.packed);
      } else if constexpr (sizeof(T) == sizeof(float)) {
        pack_bfloat16(layer, given);
      }
      if (!has_narrow_copy(layer.plan)) continue;
      copy_narrow(layer.plan, layer.plan.input_size, kSlots, layer.packed.x);
      copy_narrow(layer.plan, layer.plan.hidden_size, kSlots, layer.packed.h);
    }
    if (head_weight == nullptr) return;
    std::copy_n(head.weight, outputs * units(), head_weight);
    if (head.bias != nullptr) {
      std::copy_n(head.bias, outputs, head_bias);
    } else {
      std::fill_n(head_bias, outputs, T(0));
    }
  }

  // Packs as T beside, then rounds; the bias is not rounded.
  void pack_bfloat16(const StreamLayer<T>& layer, const LayerArrays<const T>& given) {
    const LayerPlan<T>& plan = layer.plan;
    PackedWeights<T> wide{};
    Buffer beside;
    for (Arena arena;;) {
      wide = take_weights(plan, arena);
      if (beside.data() != nullptr) break;
      beside = pool.acquire(arena.used());
      arena = Arena(beside.data());
    }
    pack_weights(plan, given, Team(0, 1), wide);
    round_panels(plan, wide.x, plan.input_size, slots_of(plan.map_x), layer.packed.x);
    round_panels(plan, wide.h, plan.hidden_size, slots_of(plan.map_h), layer.packed.h);
    std::copy_n(wide.bias, plan.panels * plan.gate_line(), layer.packed.bias);
    beside = Buffer();
    pool.trim();
  }

  // wide: (P, size, slots * W) -> pairs (P, (size + 1) / 2, slots * W)
  static void round_panels(const LayerPlan<T>& plan, const T* wide, Index size,
                           Index slots, T* pairs) {
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

  // h, and c of the LSTM, of all rows one step on.
  void advance(const T* x) noexcept {
    layers[0].fused[turn].gate.x = x;
    for (const StreamLayer<T>& layer : layers) {
      run(layer.plan, layer.fused[turn], layer.pointwise[turn]);
    }
    turn = 1 - turn;
  }

  void run(const LayerPlan<T>& plan, const LstmStepArgs<T>& fused,
           const PointwiseForwardArgs<T>& pointwise) const noexcept {
    switch (config.cell) {
      case CellKind::lstm:
        if (plan.fused()) return kernel.lstm_step(fused);
        kernel.gates_lstm(fused.gate);
        return plan.kernels->lstm_forward(pointwise);
      case CellKind::gru:
        kernel.gates_gru(fused.gate);
        return plan.kernels->gru_forward(pointwise);
      case CellKind::rnn:
        kernel.gates_lstm(fused.gate);
        return plan.kernels->rnn_forward(pointwise);
    }
  }

  // The same where active: neighbouring active rows are one call; h of the others is
  // copied, because the buffers change places for all.
  void advance_active(const T* x, const bool* active) noexcept {
    layers[0].fused[turn].gate.x = x;
    for (const StreamLayer<T>& layer : layers) {
      for (Index row = 0; row < batch_size;) {
        const Index begin = row;
        while (row < batch_size && active[row] == active[begin]) ++row;
        if (active[begin]) {
          LstmStepArgs<T> fused = layer.fused[turn];
          PointwiseForwardArgs<T> pointwise = layer.pointwise[turn];
          move_rows(fused, begin, row - begin);
          if (pointwise.gates != nullptr) move_rows(pointwise, begin, row - begin);
          run(layer.plan, fused, pointwise);
        } else {
          const Index stride = layer.plan.padded_units;
          std::copy_n(layer.h[turn] + begin * stride, (row - begin) * stride,
                      layer.h[1 - turn] + begin * stride);
        }
      }
    }
    turn = 1 - turn;
  }

  // y of rows [begin, end)
  void answer(Index begin, Index end, T* y) const noexcept {
    const StreamLayer<T>& last = layers.back();
    for (Index n = begin; n < end; ++n) {
      const T* h = last.h[turn] + n * last.plan.padded_units;
      if (head_weight != nullptr) {
        last.plan.kernels->dense_forward(
            {1, units(), outputs, h, head_weight, head_bias, y + n * outputs});
      } else {
        std::copy_n(h, units(), y + n * units());
      }
    }
  }

  void reset_row(Index row) noexcept {
    for (StreamLayer<T>& layer : layers) {
      const LayerPlan<T>& plan = layer.plan;
      std::fill_n(layer.h[turn] + row * plan.padded_units, plan.padded_units, T(0));
      if (!lstm()) continue;
      for (Index p = 0; p < plan.panels; ++p) {
        std::fill_n(layer.c + (p * batch_size + row) * plan.width, plan.width, T(0));
      }
    }
  }
};

template <class T>
Stream<T>::Stream(const RecurrentConfig& config, const LayerArrays<const T>* params,
                  const StreamOptions<T>& options) {
  check(config, params, options);
  body_ = std::make_unique<Body>(config, options);
  body_->pack(params, options.head);
}

template <class T>
Stream<T>::~Stream() = default;
template <class T>
Stream<T>::Stream(Stream&& other) noexcept = default;
template <class T>
Stream<T>& Stream<T>::operator=(Stream&& other) noexcept = default;

template <class T>
Index Stream<T>::batch_size() const noexcept {
  return body_->batch_size;
}

template <class T>
Index Stream<T>::input_size() const noexcept {
  return body_->config.input_size;
}

template <class T>
Index Stream<T>::output_size() const noexcept {
  return body_->outputs;
}

template <class T>
Index Stream<T>::hidden_size() const noexcept {
  return body_->units();
}

template <class T>
Index Stream<T>::num_layers() const noexcept {
  return body_->config.num_layers;
}

template <class T>
bool Stream<T>::has_cell() const noexcept {
  return body_->lstm();
}

template <class T>
Index Stream<T>::work() const noexcept {
  Index work = body_->head_weight != nullptr ? body_->units() * body_->outputs : 0;
  for (const StreamLayer<T>& layer : body_->layers) {
    work +=
        body_->config.gate_rows() * (layer.plan.input_size + layer.plan.hidden_size);
  }
  return work * batch_size();
}

template <class T>
void Stream<T>::step(const T* x, T* y) noexcept {
  const DenormalGuard guard;
  body_->advance(x);
  body_->answer(0, body_->batch_size, y);
}

template <class T>
void Stream<T>::step(const T* x, T* y, const bool* active, const bool* reset) noexcept {
  if (reset != nullptr) this->reset(reset);
  if (active == nullptr) return step(x, y);
  const DenormalGuard guard;
  body_->advance_active(x, active);
  for (Index n = 0; n < body_->batch_size; ++n) {
    if (active[n]) body_->answer(n, n + 1, y);
  }
}

template <class T>
void Stream<T>::process(const T* x, T* y, Index steps) noexcept {
  const Index x_step = body_->batch_size * body_->config.input_size;
  const Index y_step = body_->batch_size * body_->outputs;
  for (Index t = 0; t < steps; ++t) step(x + t * x_step, y + t * y_step);
}

template <class T>
void Stream<T>::reset(const bool* rows) noexcept {
  for (Index n = 0; n < body_->batch_size; ++n) {
    if (rows == nullptr || rows[n]) body_->reset_row(n);
  }
}

template <class T>
void Stream<T>::get_state(T* h, T* c) const noexcept {
  const Index units = body_->units();
  for (const StreamLayer<T>& layer : body_->layers) {
    const LayerPlan<T>& plan = layer.plan;
    for (Index n = 0; n < batch_size(); ++n, h += units) {
      std::copy_n(layer.h[body_->turn] + n * plan.padded_units, units, h);
    }
    if (c == nullptr || layer.c == nullptr) continue;
    unpack_state<T>(plan, state_rows(plan, layer.c), 0, batch_size(), c);
    c += batch_size() * units;
  }
}

template <class T>
void Stream<T>::set_state(const T* h, const T* c) noexcept {
  const Index state = batch_size() * body_->units();
  if (h == nullptr) reset();
  for (const StreamLayer<T>& layer : body_->layers) {
    const LayerPlan<T>& plan = layer.plan;
    for (Index n = 0; h != nullptr && n < batch_size(); ++n, h += body_->units()) {
      std::copy_n(h, body_->units(), layer.h[body_->turn] + n * plan.padded_units);
    }
    if (layer.c == nullptr) continue;
    pack_state(plan, c, layer.c);
    if (c != nullptr) c += state;
  }
}

template <class T>
void Stream<T>::refresh(const LayerArrays<const T>* params, const Head<T>& head) {
  check_params(body_->config, params);
  if ((head.weight == nullptr) != (body_->head_weight == nullptr)) {
    throw std::invalid_argument(
        "refresh must be given a head where the stream has one");
  }
  body_->pack(params, head);
}

template class Stream<float>;
template class Stream<double>;

}  // namespace fastlstm
