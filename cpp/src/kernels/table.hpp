// The kernel table: plain structs of sizes and pointers, and one table of functions for
// each element type and instruction set. The time loops in src/ know only this file.
//
// Words used below. W: lanes of a vector. Panel: the units that one vector (LSTM, GRU)
// or four vectors (RNN) hold. Slot: one of the four vectors of a panel.
//   LSTM  slots i, f, g, o                of the same W units
//   GRU   slots n_x, r, z, n_h            of the same W units; n_x takes only x, n_h
//   only h RNN   slots = four groups of W units
// Panels are padded with zeros up to whole vectors; P = number of panels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "general_table.hpp"
#include "triple_table.hpp"

namespace fastlstm {

using Index = std::int64_t;

constexpr int kSlots = 4;
constexpr Index kBeyondL2 = Index{2} << 20;  // bytes of weights that L2 does not hold
constexpr int kChecksumLanes = 32;  // 64-bit words: four AVX-512 registers in flight

// How panels map to the rows of a weight matrix: the row of (panel p, slot s, lane j)
// is slot_row[s] + unit, unit = p * panel_units + slot_unit[s] + j, while unit < units.
struct PanelMap {
  Index units;        // H
  Index panel_units;  // W, or 4 W for the RNN
  Index slot_row[kSlots];
  Index slot_unit[kSlots];
  int slot_begin;  // the slots that this weight matrix feeds: [begin, end)
  int slot_end;
};

// Weights of rows k (low half) and k + 1 (high half) of a packed matrix, as bfloat16.
// In GateArgs such weights stand behind the pointers to T, which has the same size:
// (P, (size + 1) / 2, slots * W).
struct BFloat16Pair {
  std::uint32_t bits;
};

// bias + x W_ih^T of some later steps of a row alone, in units: a slot of a panel.
template <class T>
struct ProjectionArgs {
  Index steps;  // at most projected_steps
  const T* x;   // (x_size, projected_steps): of steps beyond `steps` nothing is kept
  Index x_size;
  const T* packed;           // (P, slots, x_size, W), see pack_slots
  int slot_begin, slot_end;  // the slots that x feeds
  const T* bias;             // (P, 4 W)
  T* sums;                   // written: rows of 4 W at these strides
  Index step_stride, panel_stride;
  Index next, end;  // units to do, panel * 4 + slot; `next` moves on as they are
};

// Pre-activations of one time step: gates = init + x W_ih^T + h W_hh^T, summed in this
// order with one accumulator each, so that no tiling changes a bit. init is the bias,
// or bias + x W_ih^T where that was summed before for many steps at once.
template <class T>
struct GateArgs {
  Index rows;                    // batch rows
  Index panel_begin, panel_end;  // panels of this call
  bool descending;               // last panel first: finds the weights of the step
                                 // before in cache
  const T* x;                    // (rows, x_size), row stride x_stride
  Index x_stride, x_size;        // x null: no such term
  const T* h;                    // (rows, h_size), row stride h_stride
  Index h_stride, h_size;
  Index h_steps;      // h_size, or 0 where h is known to be zero
  const T* packed_x;  // (P, x_size, slots * W), see pack_panels
  const T* packed_h;  // (P, h_size, slots * W)
  const T* init;      // rows of 4 W; row stride 0 for the bias (P, 4 W)
  Index init_row_stride, init_panel_stride;
  T* gates;  // written: rows of 4 W at these strides; may be init
  Index gate_row_stride, gate_panel_stride;
  // Done as well where rows is 1, for the weights of h leave time for it; null:
  // nothing.
  ProjectionArgs<T>* ahead;
};

// The LSTM's step from the same sums: activations and state update happen on the
// accumulators. c_prev may equal c. gates may be null (inference keeps nothing).
// Padding lanes of gates and c are undefined.
template <class T>
struct LstmStepArgs {
  GateArgs<T> gate;  // gate.gates, if set: i, f, g, o after activation
  const T* c_prev;   // W per row, at these strides
  Index c_prev_row_stride, c_prev_panel_stride;
  T* c;
  Index c_row_stride, c_panel_stride;
  T* h_out;  // (rows, H) row-major, row stride h_out_stride
  Index h_out_stride;
  Index hidden_size;
};

// How far behind each other the arrays of successive steps lie.
struct StepStrides {
  Index x, init, gates, c, h_out;
};

// Pointwise forward of a step from stored pre-activations; overwrites the gates with
// their activated values. LSTM with chosen activations, GRU and RNN.
template <class T>
struct PointwiseForwardArgs {
  Index rows, panel_begin, panel_end, hidden_size;
  T* gates;  // rows of 4 W; in: pre-activations, out: activated
  Index gate_row_stride, gate_panel_stride;
  const T* c_prev;  // LSTM: as in LstmStepArgs
  Index c_prev_row_stride, c_prev_panel_stride;
  T* c;
  Index c_row_stride, c_panel_stride;
  const T* h_prev;  // GRU: (rows, H), row stride h_prev_stride
  Index h_prev_stride;
  T* h_out;  // (rows, H), row stride h_out_stride
  Index h_out_stride;
  int cell_activation;    // LSTM: of g; RNN: the nonlinearity
  int output_activation;  // LSTM: of c
};

// Pointwise backward of a step: from d_h to d_gates, and d_c (LSTM) or the direct part
// of d_h_prev (GRU).
template <class T>
struct PointwiseBackwardArgs {
  Index rows, panel_begin, panel_end, hidden_size;
  const T* gates;  // activated values kept by forward
  Index gate_row_stride, gate_panel_stride;
  const T* c_prev;
  Index c_prev_row_stride, c_prev_panel_stride;
  const T* h;  // LSTM: of this step, (rows, H), row stride h_stride
  Index h_stride;
  const T* h_prev;  // GRU
  Index h_prev_stride;
  const T* d_output;  // (rows, H), row stride d_output_stride; may be null
  Index d_output_stride;
  T* d_h;            // (rows, >= P * panel_units): from the step after; read.
  Index d_h_stride;  // GRU: overwritten with the direct part of d_h_prev
  T* d_c;            // (P, rows, W), panel stride below; LSTM: read, written
  Index d_c_panel_stride;
  T* d_gates;  // written: rows of 4 W, row stride 4 W
  Index d_gate_panel_stride;
  int cell_activation, output_activation;
  // LSTM: gates and d_output of the step that comes next, to be fetched; may be null
  const T* next_gates;
  Index next_gate_panel_stride;
  const T* next_d_output;
};

// What the LSTM's pointwise backward reads soon, to be fetched into L2 row by row.
template <class T>
struct FetchArgs {
  const T* gates;  // 4 W of a row and panel; of the others W
  Index gate_row_stride, gate_panel_stride;
  const T* c_prev;
  Index c_prev_row_stride, c_prev_panel_stride;
  const T* h;
  Index h_stride;
  const T* d_output;  // may be null
  Index d_output_stride;
  Index rows, panel_end;
  Index row, panel;  // the next
  Index each;        // rows at a time, set by the product
};

// c (rows, cols) = [init | c] + a b. a is stored in panels: element (r, p, k) at
// a + r * a_row_stride + p * a_panel_stride + k; the sum runs over p, then k.
template <class T>
struct ProductArgs {
  Index rows;
  Index block_begin, block_end;  // column blocks of 4 W of this call
  bool descending;               // last block first, as in GateArgs
  Index cols;
  const T* a;
  Index a_row_stride, a_panel_stride, panels, panel_size;
  Index padding;  // the last values of each slot of the last panel, which are skipped
  const T* b;     // (blocks, panels * panel_size, 4 W), see pack_columns
  const T* init;  // (padded cols) or null: zeros
  T* c;
  Index c_stride;
  bool accumulate;      // start from c instead of init
  FetchArgs<T>* fetch;  // meanwhile; may be null
};

// The weights of a row alone, row-major and not packed: packing would cost as much as
// several steps.
//
// c (1, cols) = [c +] a w over the rows of w, some panels in order. Sums in the order
// of `product`, to the same bits, if panels ascend; but where a row has two vectors or
// fewer each slot is summed apart, and then (0 + 1) + (2 + 3).
template <class T>
struct RowProductArgs {
  const PanelMap* map;
  Index col_begin, col_end;  // columns of this call
  Index cols;
  const T* a;  // (P, slots * W) at a_panel_stride
  Index a_panel_stride;
  Index panel_begin, panel_end;  // panels of this call
  bool descending;               // the order of panels, in sums as well
  const T* w;                    // (rows, cols)
  T* c;
  bool accumulate;
};

// gates = gates + h w^T for the slots of the map: dot products, each summed in lanes.
template <class T>
struct RowGateArgs {
  const PanelMap* map;
  Index panel_begin, panel_end;  // panels of this call
  bool descending;               // the order in which they are read
  const T* h;                    // (h_size)
  Index h_size;
  const T* w;  // (rows, h_size)
  T* gates;    // (P, 4 W) at gate_panel_stride
  Index gate_panel_stride;
};

// c[col] = [c +] sum over panels and slots of a[p][s] w[p][col][s]: one row of d_gates
// times W_hh in the panels that forward reads, as dot products. The order of panels is
// that of the sums.
template <class T>
struct PanelProductArgs {
  const PanelMap* map;
  Index panels;
  Index cols;
  Index col_begin, col_end;  // columns of this call
  bool descending;           // in which order panels and columns are read
  const T* a;                // (P, slots * W) at a_panel_stride
  Index a_panel_stride;
  const T* packed;  // (P, cols, slots * W)
  T* sums;          // scratch: (cols, W)
  T* c;
  bool accumulate;
};

// The same as product for few columns, as dot products: b is (panels, cols,
// panel_size), the layout of pack_panels, panel_size 4 W, or 3 W as x of a GRU has it;
// the sum of an element runs in lanes, four vectors side by side. block_begin,
// block_end and init are not used.

// Sums over rows k of a[k, col] * d_gates[k, slot, lane], for one panel.
template <class T>
struct OuterSums {
  Index rows;
  Index cols;
  const T* a;  // (rows, cols); whole vectors of the last columns are read
  Index a_stride;
  const T* d_gates;  // (rows, 4 W), at the first slot used
};

// d_w (cols, slots * W) = [d_w +] these sums.
template <class T>
struct OuterArgs {
  OuterSums<T> sums;
  int slots;        // 1 to 4 neighbouring slots
  int lanes;        // real lanes of a slot, 1 to W; of the others d_w is undefined
  T* d_w;           // (cols, slots * W)
  bool accumulate;  // start from d_w instead of zeros
};

// A dense layer on the rows of x: out = x w^T + bias. A sum over inputs runs in lanes,
// one vector for each output, whatever the rows and the tiles.
template <class T>
struct DenseArgs {
  Index rows, inputs, outputs;
  const T* x;     // (rows, inputs)
  const T* w;     // (outputs, inputs)
  const T* bias;  // (outputs) or null: zeros
  T* out;         // (rows, outputs), written
};

// The way back: d_x = d_out w; d_w += d_out^T x and d_bias += sum of d_out, rows in
// ascending order.
template <class T>
struct DenseBackwardArgs {
  Index rows, inputs, outputs;
  Index col_begin, col_end;  // columns of x and w of this call, for d_w
  const T* x;                // (rows, inputs)
  const T* w;                // (outputs, inputs)
  const T* d_out;            // (rows, outputs)
  T* d_w;                    // (outputs, inputs), added to
  T* d_bias;                 // (outputs), added to; may be null
  T* d_x;                    // (rows, inputs), written
};

// n parameters with what an optimizer keeps for each; see fastlstm/optim.hpp.
template <class T>
struct UpdateArgs {
  Index n;
  T* param;   // updated
  T* grad;    // read; set to zero if zero_grad
  T* first;   // updated: velocity (SGD), mean (Adam), mean square (RMSprop)
  T* second;  // updated: mean square (Adam), velocity (RMSprop)
  bool zero_grad;
};

// Factors of the updates, worked out in double and rounded once. In all of them the
// gradient used is g = scale * grad + decay * param.
template <class T>
struct SgdFactors {
  T scale, decay;
  T rate, momentum;
  T direct, ahead;  // param -= rate * (direct * g + ahead * velocity)
};

template <class T>
struct AdamFactors {
  T scale, decay;
  T keep1, beta2, keep2;      // keep = 1 - beta
  T inverse_root, eps, rate;  // both averages' corrections are in root and rate
  T shrink;                   // of the parameter: AdamW
};

template <class T>
struct RmspropFactors {
  T scale, decay;
  T alpha, keep, eps, rate, momentum;
};

// The steps of a stream: gates_* and lstm_step for few rows, and for weights that may
// be stored in less than T; the same bits. Null where T has no such weights.
template <class T>
struct StreamKernels {
  void (*gates_lstm)(const GateArgs<T>&);
  void (*gates_gru)(const GateArgs<T>&);
  // Stores whole vectors of h: a row of h_out has room for them.
  void (*lstm_step)(const LstmStepArgs<T>&);
};

template <class T>
struct Kernels {
  const char* name;
  int width;  // W
  // Lanes of half a vector where that pays, else 0. lstm_steps of one row reads a last
  // panel of at most so many units from behind the packed panels, in lines of slots *
  // half_width.
  int half_width;
  int outer_tile;       // columns of a tile of outer
  int at_once_rows;     // at most, of a d_W that outer_rows adds without storing sums
  int projected_steps;  // at once by `project`; 0: nothing is projected ahead

  // (rows of w, k) -> (P, k, slots * W), padded with zeros.
  void (*pack_panels)(const PanelMap& map, const T* w, Index k, Index panel_begin,
                      Index panel_end, T* packed);
  // (rows of w, k) -> (P, slots, k, W), padded with zeros.
  void (*pack_slots)(const PanelMap& map, const T* w, Index k, Index panel_begin,
                     Index panel_end, T* packed);
  // bias (rows) -> (P, 4 W) for the slots of the map; other slots are left alone.
  void (*pack_bias)(const PanelMap& map, const T* bias, T* packed);
  // w's rows in panel order, cols in blocks of 4 W: (blocks, P * slots * W, 4 W).
  void (*pack_columns)(const PanelMap& map, const T* w, Index cols, Index block_begin,
                       Index block_end, T* packed);
  // w (rows, cols at row stride w_stride) = [w +] one panel (packed cols >= cols, slots
  // * W): the inverse of pack_panels.
  void (*unpack_panel)(const PanelMap& map, Index panel, const T* packed, Index cols,
                       T* w, Index w_stride, bool accumulate);
  void (*copy_rows)(const T* from, Index rows, Index cols, Index from_stride, T* to,
                    Index to_stride);

  void (*project)(ProjectionArgs<T>&);
  void (*gates_lstm)(const GateArgs<T>&);  // all four slots from x and h
  void (*gates_gru)(const GateArgs<T>&);   // slots 0-2 from x, 1-3 from h
  // This step and those after it, `steps` in all, each from the state that the last one
  // has written.
  void (*lstm_steps)(const LstmStepArgs<T>&, Index steps, const StepStrides&);
  void (*lstm_forward)(const PointwiseForwardArgs<T>&);
  void (*lstm_backward)(const PointwiseBackwardArgs<T>&);
  void (*gru_forward)(const PointwiseForwardArgs<T>&);
  void (*gru_backward)(const PointwiseBackwardArgs<T>&);
  void (*rnn_forward)(const PointwiseForwardArgs<T>&);
  void (*rnn_backward)(const PointwiseBackwardArgs<T>&);

  void (*product)(const ProductArgs<T>&);
  void (*narrow_product)(const ProductArgs<T>&);
  void (*row_product)(const RowProductArgs<T>&);
  void (*row_gates)(const RowGateArgs<T>&);
  void (*panel_product)(const PanelProductArgs<T>&);
  void (*outer)(const OuterArgs<T>&);
  // w[row, col] = [w +] the same sums, to the same bits as outer and unpack_panel.
  void (*outer_rows)(const PanelMap& map, Index panel, const OuterSums<T>&, T* w,
                     Index w_stride, bool accumulate);
  // d_bias (4 W) = [d_bias +] sum over rows of d_gates (rows, 4 W), one panel.
  void (*column_sum)(const T* d_gates, Index rows, bool accumulate, T* d_bias);

  void (*dense_forward)(const DenseArgs<T>&);
  void (*dense_d_x)(const DenseBackwardArgs<T>&);
  void (*dense_d_w)(const DenseBackwardArgs<T>&);

  // Null first (SGD) or second (RMSprop): no momentum.
  void (*sgd)(const SgdFactors<T>&, const UpdateArgs<T>&);
  void (*adam)(const AdamFactors<T>&, const UpdateArgs<T>&);
  void (*rmsprop)(const RmspropFactors<T>&, const UpdateArgs<T>&);
  // sum of x[i]^2 in double, in an order that depends on n alone.
  double (*sum_of_squares)(const T* x, Index n);

  // Stirs data into kChecksumLanes running sums.
  void (*checksum)(const void* data, std::size_t bytes, std::uint64_t* sums);
  // y[i] = activation(x[i]) over n values; for tests and heads.
  void (*activate)(int code, const T* x, Index n, T* y);

  // What this CPU can do at most, for probe.cpp. Multiply-adds on registers that start
  // from y (W) and whose sum replaces it; the sum of x (count), added to y (W). Both
  // return how many values they worked on.
  Index (*multiply_adds)(Index rounds, T* y);
  Index (*read_array)(const T* x, Index count, T* y);

  StreamKernels<T> stream;
  StreamKernels<T> stream_bfloat16;
  GeneralKernels<T> general;  // variants of the cells
  TripleKernels<T> triples;   // null without matrix units for them
};

// Bytes of a core's L1 data cache and of its L2, 0 where that is unknown. They decide
// how work is cut, never what is added in which order.
Index l1_bytes();
Index l2_bytes();
void set_l1_bytes(Index bytes);  // for tests

// The table of the instruction set in force (see cpu.hpp).
template <class T>
const Kernels<T>& kernels();

}  // namespace fastlstm
