// One layer of a stream: its packed weights, its state, and the calls of a step, made
// once. A plain cell has h in two buffers that take turns: a step reads one and writes
// the other. A variant takes single steps of the general path, with h in place. Used by
// stream.cpp.
#pragma once

#include <memory>

#include "fastlstm/stream.hpp"
#include "general_loop.hpp"

namespace fastlstm {

// Fused: one kernel a step. Pointwise: the sums, then the cell. General: a variant.
enum class StepKind { fused, pointwise, general };

// The general path of a layer, one step long.
template <class T>
struct GeneralStep {
  LayerPlan<T> plan;
  LayerForward<T> args{};
  GeneralForwardLoop<T> loop;

  GeneralStep(const LayerPlan<T>& of, const StreamKernels<T>& kernels)
      : plan(of), loop{plan, args, gate_product(plan, kernels)} {}
  GeneralStep(const GeneralStep&) = delete;
  GeneralStep& operator=(const GeneralStep&) = delete;
};

template <class T>
class StreamLayer {
 public:
  StreamLayer(const LayerPlan<T>& plan, Precision precision);

  // Takes all memory, which must be filled with zeros then; a first pass measures.
  void take(Arena& arena);

  // below: null for the first layer, whose x comes with each step.
  void prepare(const StreamLayer* below);

  // Packs parameters; what it takes for that from the pool goes back.
  void pack(const LayerArrays<const T>& params, BufferPool& pool);

  // All rows one step on, from h[turn] to h[1 - turn]. x: of the first layer.
  void set_x(int turn, const T* x) noexcept { fused_[turn].gate.x = x; }
  void step(int turn) noexcept {
    if (kind_ == StepKind::fused) return fused_step_(fused_[turn]);
    if (kind_ == StepKind::general) return general_step(turn, 0, plan_.batch_size);
    gates_(fused_[turn].gate);
    cell_(pointwise_[turn]);
  }
  // This thread's share of such a step, which ends when all threads are done; x null:
  // that of the layer below.
  void share_step(int turn, const T* x, const Team& team) const noexcept;
  // The same of some rows, and the rows that stay as they are.
  void step_rows(int turn, Index row, Index count) noexcept;
  void hold_rows(int turn, Index row, Index count) noexcept;

  const T* h(int turn, Index row) const noexcept { return h_[turn] + row * h_stride_; }
  // State of a row: h (S), c (H) of an LSTM. As sources, null is zeros.
  void get_state(int turn, Index row, T* h, T* c) const noexcept;
  void set_state(int turn, Index row, const T* h, const T* c) noexcept;

  // Multiply-adds of a step of one row.
  Index work() const noexcept;
  bool shareable() const noexcept { return kind_ != StepKind::general; }

 private:
  void pack_bfloat16(const LayerArrays<const T>& params, BufferPool& pool);
  void pack_general(LayerArrays<const T> params);
  void prepare_calls(int turn, const T* x, Index x_stride);
  void general_step(int turn, Index row, Index count) noexcept;

  // What every step reads comes first.
  StepKind kind_;
  void (*fused_step_)(const LstmStepArgs<T>&) = nullptr;
  T* h_[2] = {};        // (N, h_stride)
  Index h_stride_ = 0;  // of a plain cell whole panels
  LstmStepArgs<T> fused_[2] = {};
  PointwiseForwardArgs<T> pointwise_[2] = {};
  GateProduct<T> gates_ = nullptr;
  void (*cell_)(const PointwiseForwardArgs<T>&) = nullptr;
  std::unique_ptr<GeneralStep<T>> general_;
  LayerPlan<T> plan_;
  StreamKernels<T> kernels_;
  Precision precision_;
  PackedWeights<T> packed_{};
  PanelRows<T> c_{};           // LSTM
  T* gates_memory_ = nullptr;  // pointwise: (P, N, 4 W)
};

}  // namespace fastlstm
