// Kernels of the general cell path: one time step of a variant, row by row, from stored
// sums. Part of the table in table.hpp, which has the words used here.
//
// Records lie row after row with all their panels: (rows, P, record). The sums stay as
// the product left them; backward computes the activations from them again. Arrays over
// units are (rows, stride), zero behind the last unit up to whole panels.
#pragma once

#include <cstdint>

namespace fastlstm {

using Index = std::int64_t;

// See Activation in the public header.
template <class T>
struct ActivationArgs {
  int code;
  T alpha, beta;
};

// What is the same for all steps. Vectors of parameters are packed like the bias,
// (P, 4 W), where they have gates, and like slot 0 of it where they have not.
template <class T>
struct GeneralCell {
  Index panels, hidden_size;
  Index record;  // from panel to panel of a row
  Index stride;  // from row to row of arrays over units
  ActivationArgs<T> gate, cell, output;
  T clip;       // of what the gates' activations take; 0: none
  T cell_clip;  // of c; 0: none
  bool coupled;
  bool reset_after;
  const T* peephole;  // slots i, f, o; null: none
  // Layer normalisation; null: none. A record then has, behind the x part of the sums
  // (normalised in place) and c: the h part (4 W), and 1/sigma of both (2 W, of which
  // lane 0 of the first panel is used).
  const T* gain_ih;
  const T* gain_hh;
  const T* bias;
  const T* gain_c;  // bias_c is slot 1
};

// One step forward over `rows` rows.
template <class T>
struct GeneralForwardArgs {
  Index rows;
  T* records;  // (rows, P, record); see above
  Index row_stride;
  T* c;             // LSTM: c before the step; overwritten
  const T* zone_c;  // LSTM: the share of c that is kept; null: none
  const T* h_prev;  // GRU
  const T* h_fed;   // GRU that resets before: h_prev as W_hh sees it, which is less of
                    // it with recurrent dropout
  T* reset_h;       // GRU that resets before: gru_reset writes r * h_fed
  const T* n_h;     // GRU that resets before: goes to slot 3; null: it is there
  T* h;             // (rows, H), row stride h_stride; written
  Index h_stride;
  T* scratch;  // LSTM: (stride)
};

// One step backward. The rows of d_gates, of its kin and of lines are 4 W wide, panels
// `d_panel_stride` apart.
template <class T>
struct GeneralBackwardArgs {
  Index rows;
  const T* records;
  Index row_stride;
  const T* zone_c;
  const T* h_prev;     // GRU
  const T* h_fed;      // GRU that resets before: as in forward
  const T* d_h;        // by h of this step, all of it
  T* d_c;              // LSTM: read, written
  T* d_h_prev;         // GRU: the direct part; written
  const T* d_reset_h;  // GRU that resets before: read by gru_reset_backward
  T* d_h_fed;          // the same: by h_fed through r * h_fed; added to
  T* inner;            // GRU that resets before: r * h_fed; LSTM with a projection: h
                       // before it; written; null: not wanted
  T* d_gates;          // by the sums (without layer normalisation), written
  T* d_sums_x;         // layer normalisation: by W_ih x and by W_hh h, written
  T* d_sums_h;
  T* line_peephole;  // written, as the next three: what the parameter's gradient sums
  T* line_gain_ih;
  T* line_gain_hh;
  T* line_gain_c;  // slots: gain_c, bias_c
  Index d_panel_stride;
  T* scratch;  // LSTM: (3, stride)
};

// The gates of `rows` recorded steps.
template <class T>
struct GeneralGatesArgs {
  Index rows;
  const T* records;  // as forward leaves them
  Index row_stride;
  const T* zone_c;   // as in forward
  T* out;            // (P, rows, out_stride), written in slots: LSTM i, f, g, o and c
                     // after the step; GRU n, r, z; RNN four groups of units
  Index out_stride;  // 5 W, or 4 W
};

template <class T>
struct GeneralKernels {
  void (*lstm_forward)(const GeneralCell<T>&, const GeneralForwardArgs<T>&);
  void (*lstm_backward)(const GeneralCell<T>&, const GeneralBackwardArgs<T>&);
  void (*gru_reset)(const GeneralCell<T>&, const GeneralForwardArgs<T>&);
  void (*gru_forward)(const GeneralCell<T>&, const GeneralForwardArgs<T>&);
  void (*gru_backward)(const GeneralCell<T>&, const GeneralBackwardArgs<T>&);
  void (*gru_reset_backward)(const GeneralCell<T>&, const GeneralBackwardArgs<T>&);
  void (*rnn_forward)(const GeneralCell<T>&, const GeneralForwardArgs<T>&);
  void (*rnn_backward)(const GeneralCell<T>&, const GeneralBackwardArgs<T>&);
  void (*lstm_gates)(const GeneralCell<T>&, const GeneralGatesArgs<T>&);
  void (*gru_gates)(const GeneralCell<T>&, const GeneralGatesArgs<T>&);
  void (*rnn_gates)(const GeneralCell<T>&, const GeneralGatesArgs<T>&);
};

}  // namespace fastlstm
