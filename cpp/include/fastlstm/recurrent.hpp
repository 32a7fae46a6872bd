// Stacks of LSTM, GRU or RNN layers: forward and back-propagation through time.
// Callers own all arrays; T is float or double. Results do not depend on the number of
// threads. Equations: docs/math.md.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "fastlstm/buffer.hpp"
#include "fastlstm/cell_options.hpp"
#include "fastlstm/export.h"
#include "fastlstm/types.hpp"

namespace fastlstm {

struct RecurrentConfig {
  CellKind cell = CellKind::lstm;
  Index input_size = 1;
  Index hidden_size = 1;
  Index num_layers = 1;
  bool bidirectional = false;
  Activation cell_activation = Activation::tanh;    // LSTM: of g. RNN: its nonlinearity
  Activation output_activation = Activation::tanh;  // LSTM: of c
  double dropout = 0.0;  // between layers, in forward passes that keep a tape
  // Of h on its way into W_hh, one mask for all steps of a sequence (Gal and
  // Ghahramani, 2016); in forward passes that keep a tape.
  double recurrent_dropout = 0.0;
  CellOptions options;  // what differs from the plain cell

  Index directions() const { return bidirectional ? 2 : 1; }
  // Features of h: H, or fewer with a projection.
  Index output_size() const {
    return options.proj_size > 0 ? options.proj_size : hidden_size;
  }
  // Rows of a weight matrix: gates x H.
  Index gate_rows() const {
    return (cell == CellKind::lstm ? 4 : cell == CellKind::gru ? 3 : 1) * hidden_size;
  }
};

// Throws std::invalid_argument naming the field that is out of range.
FASTLSTM_API void check_config(const RecurrentConfig& config);

// The parameters of one layer and direction, row-major. Gate order: LSTM i, f, g, o;
// GRU r, z, n. With Value = T they are gradients, which backward adds to. O is the
// number of features of h, H or proj_size.
template <class Value>
struct LayerArrays {
  Value* weight_ih = nullptr;  // (G*H, layer input size)
  Value* weight_hh = nullptr;  // (G*H, O)
  Value* bias = nullptr;       // (G*H) or null
  Value* bias_hn = nullptr;    // GRU: (H), inside the reset product; or null
  // Null where options do not ask for them.
  Value* weight_hr = nullptr;        // projection: (O, H)
  Value* weight_peephole = nullptr;  // (3*H): i, f, o
  Value* gain_ih = nullptr;          // layer normalisation: (G*H), of W_ih x
  Value* gain_hh = nullptr;          // (G*H), of W_hh h
  Value* gain_c = nullptr;           // (H), of c
  Value* bias_c = nullptr;           // (H) or null
};

// A sequence array: element (t, n, i) at data + t * stride_t + n * stride_n + i.
template <class Value>
struct SequenceView {
  Value* data;
  Index stride_t;
  Index stride_n;
};

// Which steps of which rows are computed. A step (t, n) is real if t < lengths[n] and
// mask(t, n); x at other steps, and d_output from lengths[n] on, are never read.
struct StepMarks {
  const Index* lengths;            // (N), 0 to T, in any order; null: all are T
  SequenceView<const bool> mask;   // (T, N): false holds state and output; or null
  SequenceView<const bool> reset;  // (T, N): true zeroes the state first; or null
};

// Throws std::invalid_argument if a length is out of range, or if two directions are to
// be reset.
FASTLSTM_API void check_marks(const RecurrentConfig& config, const StepMarks& marks,
                              Index seq_len, Index batch_size);

// The rows of a ragged or masked batch, longest first, and what is special at a step.
// Arrays inside the core hold only steps before a row's length, time by time.
struct RowOrder {
  bool packed = false;              // false: all steps, in the caller's order
  Index seq_len = 0;                // of the longest row
  std::vector<Index> source;        // (N): the caller's row, by place
  std::vector<Index> offsets;       // (seq_len + 1): packed rows before each time
  std::vector<std::uint8_t> flags;  // by packed row: held, reset; may be empty
  std::vector<std::uint8_t> any;    // (seq_len): union of the flags of a time
};

// How the records of a layer and direction lie: in a piece for each thread that wrote
// some, of its rows or of its panels. Changes no bit of what is read.
struct RecordCut {
  int pieces = 1;
  bool by_rows = true;
};

// What forward keeps for backward. Borrows x and output, which must stay alive and
// unchanged until backward has run: x where rows are not packed, or with checkpoints
// and one direction; the output where rows are not packed and there are no checkpoints.
template <class T>
struct Tape {
  RecurrentConfig config;
  Index seq_len = 0;
  Index batch_size = 0;
  RowOrder order;
  Buffer packed_x;       // if packed: (rows, I)
  Buffer packed_output;  // if packed: (rows, D*H)
  Index checkpoint_every = 0;
  SequenceView<const T> x{};
  SequenceView<const T> output{};
  bool has_state = false;
  Buffer state;                        // h0 (L*D, N, O), then c0 (L*D, N, H)
  std::vector<Buffer> records;         // L*D: gates (and c) of every step
  std::vector<RecordCut> record_cuts;  // L*D
  std::vector<Buffer> vectors;         // L*D, of variants: what reading gates takes
  // L*D, of a batch of one of large layers: the weights as forward has packed them.
  // Backward reads W_hh there, whatever has become of the parameter since.
  std::vector<Buffer> weights;
  std::vector<Buffer> layer_outputs;    // L-1: (T, N, D*O)
  std::vector<Buffer> dropped_outputs;  // L-1, if dropout > 0: the next layer's input
  // With checkpoints, instead of these: the states before every k-th step of each
  // direction but the first, h (S-1, L*D, N, O), then c. Layer outputs only where there
  // are two directions.
  Buffer checkpoints;
  std::uint64_t dropout_seed = 0;
  std::optional<std::uint64_t> parameter_checksum;  // where forward was to check
  int width = 0;  // vector width that laid out the records
  bool used = false;
};

template <class T>
struct PackedStack;  // of the core

// Weights as the kernels read them, kept from one inference to the next: packing them
// takes as long as several steps. A checksum of the parameters tells whether they are
// still the same. Any number of threads may use a cache at a time.
template <class T>
class FASTLSTM_API WeightCache {
 public:
  // constant: the parameters never change, so that no checksum is needed.
  explicit WeightCache(bool constant = false) : constant_(constant) {}
  bool constant() const { return constant_; }

  // Gives the memory back.
  void clear() { replace(nullptr); }

  // For the core: null where nothing is kept.
  std::shared_ptr<const PackedStack<T>> latest() const;
  void replace(std::shared_ptr<const PackedStack<T>> next);

 private:
  bool constant_;
  mutable std::mutex mutex_;
  std::shared_ptr<const PackedStack<T>> latest_;
};

template <class T>
struct ForwardArgs {
  Index seq_len;
  Index batch_size;
  SequenceView<const T> x;             // (T, N, I)
  const T* h0;                         // (L*D, N, O) or null: zeros
  const T* c0;                         // LSTM: (L*D, N, H), as h0
  const LayerArrays<const T>* params;  // L*D: layer 0, layer 0 reverse, layer 1, ...
  SequenceView<T> output;              // (T, N, D*O), written
  T* h_n;                              // (L*D, N, O), written
  T* c_n;                              // LSTM: (L*D, N, H); may be null otherwise
  std::uint64_t dropout_seed;
  StepMarks marks;
  // k > 0: the tape keeps the states before every k-th step alone, and backward runs
  // the steps between again: memory of T / k + k steps, the same bits. With two
  // directions the outputs between layers are kept whole as well.
  Index checkpoint_every = 0;
  // 0: as many as help. Bounds the layers; dropout, the packing of ragged rows and
  // checkpoints take as many as help in any case.
  int max_threads = 0;
  WeightCache<T>* cache = nullptr;  // for inference; null: packs in every call
  // With a tape: backward notices changed parameters. false: the caller changes none.
  bool check_params = true;
};

template <class T>
struct BackwardArgs {
  SequenceView<const T> d_output;      // (T, N, D*O); data may be null: zeros
  const T* d_h_n;                      // (L*D, N, O) or null: zeros
  const T* d_c_n;                      // LSTM: (L*D, N, H) or null: zeros
  const LayerArrays<const T>* params;  // as in forward
  const LayerArrays<T>* grads;         // L*D; added to, or overwritten
  SequenceView<T> d_x;                 // (T, N, I), written; data may be null
  T* d_h0;                             // (L*D, N, O), written; may be null
  T* d_c0;                             // LSTM: (L*D, N, H), as d_h0
  int max_threads = 0;                 // as in forward
  bool accumulate = true;              // false: grads are overwritten
};

// Runs the stack. tape null: inference, nothing is kept and no dropout. Scratch memory
// comes from the pool. Throws what check_marks throws, std::bad_alloc or
// std::length_error only.
template <class T>
FASTLSTM_API void recurrent_forward(const RecurrentConfig& config,
                                    const ForwardArgs<T>& args, BufferPool& pool,
                                    Tape<T>* tape);

// Back-propagation through time of the pass that filled the tape. Throws
// std::logic_error if the tape was used before, or parameters or instruction set
// changed since.
template <class T>
FASTLSTM_API void recurrent_backward(const BackwardArgs<T>& args, BufferPool& pool,
                                     Tape<T>& tape);

// Bytes of the memory that is the tape's own.
template <class T>
FASTLSTM_API Index tape_bytes(const Tape<T>& tape);

// What the tape has kept of one layer: c (T, N, D*H) of an LSTM, or one gate after its
// activation, 0 to G - 1 in the order of the parameters' rows. Zero where a row has no
// step; the gates are zero where a step is masked. Throws std::logic_error if the tape
// has no such values: c of other cells, anything with checkpoints. Of variants: c as
// the next step takes it, after clip and zoneout; with coupled gates f = 1 - i.
template <class T>
FASTLSTM_API void tape_cell(const Tape<T>& tape, Index layer, SequenceView<T> out);
template <class T>
FASTLSTM_API void tape_gate(const Tape<T>& tape, Index layer, Index gate,
                            SequenceView<T> out);

}  // namespace fastlstm
