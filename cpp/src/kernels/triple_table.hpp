// Products of training on numbers cut in triples. Part of the table in table.hpp, which
// has the words used here.
//
// A float is the sum of three bfloat16, x = x0 + x1 + x2, each the rounded rest of
// those before: three times the 8 bits of a bfloat16 hold its 24. Of the nine products
// of two such numbers six are summed, in float: x0 y2, x0 y1, x1 y1, x1 y0, x2 y0, x0
// y0. The other three are below 2^-24 of x y, so that a sum is no less exact than a
// chain of float multiply-adds. What is not finite becomes NaN.
//
// Matrix units multiply tiles, 16 rows of 16 words, and a word holds the same third of
// two terms of a sum: a tile is one step of 32 terms. Tiles lie in pairs, which are
// read in the order of memory: (pairs, steps, kThirds, 2, 16, 16) words.
#pragma once

#include <cstdint>

namespace fastlstm {

using Index = std::int64_t;

struct BFloat16Pair;
struct PanelMap;
struct StepStrides;
template <class T>
struct LstmStepArgs;

constexpr int kThirds = 3;
constexpr Index kTileRows = 16;
constexpr Index kPairRows = 2 * kTileRows;  // or columns: of a pair of tiles
constexpr Index kTileWords = kTileRows * kTileRows;
constexpr Index kStepWords = 2 * kThirds * kTileWords;  // of a pair
// A panel is two steps, of its slots 0 and 1 and of its slots 2 and 3.
constexpr Index kPanelSteps = 2;
// Rows (t, n) of a chunk pair up in the words of d_w: a band of 32 is one step, and its
// rows r and r + 16 share a word.
constexpr Index kBandRows = 2 * kTileRows;

// One of the products of the same d_gates: c (rows, cols) = [c +] d_gates w.
template <class T>
struct TripleTarget {
  const BFloat16Pair* w;       // see pack_columns; null: no such product
  Index pair_begin, pair_end;  // pairs of 16 columns of this call
  Index cols;
  T* c;
  Index c_stride;
  bool accumulate;
};

template <class T>
struct TripleProductArgs {
  Index rows;
  const T* d_gates;  // (P, rows, 4 W) at panel_stride
  Index panel_stride, panels;
  Index padding;    // the last values of each slot of the last panel, which are skipped
  bool descending;  // last columns first: finds weights of the step before in cache
  TripleTarget<T> h, x;
  BFloat16Pair* scratch;  // (kTripleScratch)
};

// 256 rows of four panels, which L2 keeps while the weights pass.
constexpr Index kTripleRows = 256;
constexpr Index kTripleScratch = kTripleRows / kPairRows * 4 * kPanelSteps * kStepWords;

// The columns of what weights have multiplied, as the left side of d_w.
template <class T>
struct CutColumnsArgs {
  Index rows, cols;
  Index pair_begin, pair_end;  // pairs of 16 columns of this call
  const T* a;                  // (rows, cols) at a_stride
  Index a_stride;
  BFloat16Pair* cut;
  Index bands;  // of cut
};

// d_w (cols, slots * W) = [d_w +] sum over rows of a[row, col] d_gates[row, slot,
// lane], cols a multiple of 16.
template <class T>
struct TripleOuterArgs {
  Index cols;
  Index bands;
  const BFloat16Pair* a;  // see CutColumnsArgs; at the first band
  Index pair_stride;
  const BFloat16Pair* d_gates;  // see cut_panel; at the first band and slot
  int slots;
  T* d_w;
  bool accumulate;
  const T* next;  // a d_w that comes next, to be fetched; may be null
};

// Forward sums [x | h] times the weights in blocks of 16 terms, those of x and then
// those of h, two a step; what fills a block is zeros. Tiles of weights: (P, steps,
// kThirds, 4 slots, 16, 16) words.
constexpr Index kGateStepWords = 4 * kThirds * kTileWords;

// Where L2 does not hold a panel's weights and the cut terms of all rows, these come in
// pieces of kPieceSteps, each for kPiecePanels before the next one, whose sums wait.
constexpr Index kPieceSteps = 16;
constexpr Index kPiecePanels = 4;

struct TripleGates {
  const BFloat16Pair* packed;  // see pack_gates
  Index steps;                 // of a panel
  BFloat16Pair* scratch;       // (kTripleRows / kPairRows, steps, kStepWords)
  float* sums;  // (kPiecePanels, kTripleRows, 4 W); null: terms do not come in pieces
};

template <class T>
struct TripleKernels {
  // w's rows in panel order, steps of a panel as above.
  void (*pack_columns)(const PanelMap& map, const T* w, Index cols, Index pair_begin,
                       Index pair_end, BFloat16Pair* packed);
  void (*product)(const TripleProductArgs<T>&);
  void (*cut_columns)(const CutColumnsArgs<T>&);
  // d_gates (rows, 4 W) of a panel -> (bands, 4, kThirds, 16, 16)
  void (*cut_panel)(const T* d_gates, Index rows, BFloat16Pair* cut);
  void (*outer)(const TripleOuterArgs<T>&);
  // The panels [begin, end) of the weights of x and of h, as above.
  void (*pack_gates)(const PanelMap& map, const T* w_x, Index x_size, const T* w_h,
                     Index h_size, Index panel_begin, Index panel_end,
                     BFloat16Pair* packed);
  // As Kernels::lstm_steps, of these weights; init is the bias.
  void (*lstm_steps)(const LstmStepArgs<T>& first, Index steps,
                     const StepStrides& strides, const TripleGates& gates);
};

}  // namespace fastlstm
