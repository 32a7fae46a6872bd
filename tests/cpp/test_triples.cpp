// The products of triples, against sums in double: their error must stay within that of
// a chain of float multiply-adds.
#include <cmath>
#include <utility>

#include "layouts.hpp"
#include "marks.hpp"

namespace fastlstm::testing {
namespace {

// Calls check() with each instruction set that has them.
template <class Check>
void for_each_with_triples(const Check& check) {
  int tested = 0;
  for_each_isa([&] {
    if (kernels<float>().triples.product == nullptr) return;
    ++tested;
    check();
  });
  if (tested == 0) MESSAGE("skipped: this CPU has no matrix units for triples");
}

std::vector<BFloat16Pair> words(Index count) {
  // What is not written must not count: NaN.
  return std::vector<BFloat16Pair>(static_cast<std::size_t>(count),
                                   BFloat16Pair{0x7fc07fc0u});
}

// A sum of products in double, and the sum of their magnitudes.
struct ExactSum {
  double sum, magnitude;
  void add(float a, float b) {
    const double term = static_cast<double>(a) * static_cast<double>(b);
    sum += term;
    magnitude += std::abs(term);
  }
  // In units of 2^-24 of the magnitude.
  double error_of(float value) const {
    const double error = std::abs(static_cast<double>(value) - sum);
    return error == 0 ? 0 : std::ldexp(error / magnitude, 24);
  }
};

// A float chain of n terms may be off by n / 2; a few are rounded three times over.
double bound(Index terms) { return 4 + 0.05 * static_cast<double>(terms); }

// c = [c +] d_gates w over the slots of a cell's map, w (rows of the map, cols).
struct WeightsProblem {
  LayerPlan<float> plan;
  PanelMap map;
  Index rows, cols;
  std::vector<float> w, d_gates, c;

  WeightsProblem(CellKind cell, bool of_x, Index row_count, Index units,
                 Index col_count)
      : plan(small_plan<float>(cell, 1, 1, units)),
        map(of_x ? plan.map_x : plan.map_h),
        rows(row_count),
        cols(col_count) {
    Random<float> random(static_cast<std::uint64_t>(rows * 1000 + units + cols));
    w = random.array(kSlots * units * cols);
    d_gates = random.array(plan.panels * panel_stride());
    // The RNN's padding is zeros; elsewhere it is skipped and may be anything.
    set_padding(cell == CellKind::rnn ? 0 : std::numeric_limits<float>::quiet_NaN());
    c = random.array(rows * stride());
  }
  void set_padding(float value) {
    for (Index p = 0; p < plan.panels; ++p) {
      for (Index r = 0; r < rows; ++r) {
        for (Index i = 0; i < plan.gate_line(); ++i) {
          const Index slot = i / plan.width;
          const Index unit = p * map.panel_units + map.slot_unit[slot] + i % plan.width;
          if (unit >= map.units) {
            d_gates[static_cast<std::size_t>(at_gate(p, r, i))] = value;
          }
        }
      }
    }
  }
  Index stride() const { return cols + 3; }
  Index panel_stride() const { return (rows + 1) * plan.gate_line(); }
  Index at_gate(Index p, Index row, Index i) const {
    return p * panel_stride() + row * plan.gate_line() + i;
  }
  Index pairs() const { return (cols + kPairRows - 1) / kPairRows; }

  // In column shares that end at `cut`, as two threads would do it.
  std::vector<float> product(bool accumulate, bool descending, Index cut) const {
    const TripleKernels<float>& k = plan.kernels->triples;
    const Index weight_words = plan.panels * kPanelSteps * kStepWords * pairs();
    std::vector<BFloat16Pair> packed = words(weight_words);
    std::vector<BFloat16Pair> scratch = words(kTripleScratch);
    std::vector<float> out = c;
    for (const auto& [begin, end] :
         {std::pair(Index{0}, cut), std::pair(cut, pairs())}) {
      k.pack_columns(map, w.data(), cols, begin, end, packed.data());
      TripleProductArgs<float> args{};
      args.rows = rows;
      args.d_gates = d_gates.data();
      args.panel_stride = panel_stride();
      args.panels = plan.panels;
      args.padding = plan.padding();
      args.descending = descending;
      args.x = {packed.data(), begin, end, cols, out.data(), stride(), accumulate};
      args.scratch = scratch.data();
      k.product(args);
    }
    return out;
  }

  ExactSum exact(Index row, Index col, bool accumulate) const {
    const float start = accumulate ? at(c, row * stride() + col) : 0.0f;
    ExactSum sum{start, std::abs(start)};
    for_each_lane(map, plan.panels, plan.width,
                  [&](Index weight_row, Index p, int slot, Index lane) {
                    if (weight_row < 0) return;
                    sum.add(at(d_gates, at_gate(p, row, slot * plan.width + lane)),
                            at(w, weight_row * cols + col));
                  });
    return sum;
  }

  void check(bool accumulate) const {
    const std::vector<float> out = product(accumulate, false, pairs());
    double worst = 0;
    for (Index row = 0; row < rows; ++row) {
      for (Index col = 0; col < stride(); ++col) {
        const float got = at(out, row * stride() + col);
        if (col >= cols) {
          REQUIRE(got == at(c, row * stride() + col));  // nothing beyond the columns
        } else {
          worst = std::max(worst, exact(row, col, accumulate).error_of(got));
        }
      }
    }
    CAPTURE(rows);
    CAPTURE(cols);
    CAPTURE(map.units);
    REQUIRE(worst < bound(kSlots * map.units));
    REQUIRE(same_bits(product(accumulate, true, pairs()), out));
    REQUIRE(same_bits(product(accumulate, false, pairs() / 2), out));
  }
};

}  // namespace

TEST_CASE("triples: d_gates times weights, with every tail") {
  for_each_with_triples([] {
    for (const CellKind cell : kCells) {
      for (const bool of_x : {false, true}) {
        for (const Index rows : {1, 15, 16, 17, 33, 64}) {
          for (const Index cols : {1, 8, 16, 31, 33, 48, 97}) {
            WeightsProblem(cell, of_x, rows, 21, cols).check(rows % 2 == 0);
          }
        }
        for (const Index units : {1, 16, 63, 65, 130}) {
          WeightsProblem(cell, of_x, 20, units, 40).check(true);
        }
      }
    }
    // More rows than one pass takes, and more panels than fit beside them.
    WeightsProblem(CellKind::lstm, true, 300, 90, 40).check(false);
    WeightsProblem(CellKind::lstm, true, 300, 90, 40).check(true);
  });
}

TEST_CASE("triples: a row gives the same bits among others and alone") {
  for_each_with_triples([] {
    WeightsProblem all(CellKind::lstm, false, 300, 70, 70);
    const std::vector<float> wanted = all.product(false, false, 0);
    for (const Index row : {0, 17, 31, 255, 256, 299}) {
      WeightsProblem one = all;
      one.rows = 1;
      one.d_gates.clear();
      for (Index p = 0; p < all.plan.panels; ++p) {
        const auto from = all.d_gates.begin() + all.at_gate(p, row, 0);
        one.d_gates.insert(one.d_gates.end(), from, from + one.panel_stride());
      }
      one.c.resize(static_cast<std::size_t>(one.stride()));
      const auto begin = wanted.begin() + row * all.stride();
      std::vector<float> own = one.product(false, false, 0);
      own.resize(static_cast<std::size_t>(all.cols));
      REQUIRE(same_bits(own, std::vector<float>(begin, begin + all.cols)));
    }
  });
}

TEST_CASE("triples: outer products of rows") {
  for_each_with_triples([] {
    const TripleKernels<float>& k = kernels<float>().triples;
    constexpr Index kLine = kSlots * kTileRows;
    for (const Index rows : {1, 16, 31, 32, 100, 256}) {
      for (const Index cols : {1, 16, 29, 33, 80}) {
        for (int first = 0; first < 2; ++first) {
          const int slots = first == 0 ? kSlots : kSlots - 1;  // the latter: of a GRU
          const bool accumulate = rows % 2 == 0;
          Random<float> random(static_cast<std::uint64_t>(rows * 100 + cols));
          const Index stride = cols + 5;
          const std::vector<float> a = random.array(rows * stride);
          const std::vector<float> d_gates = random.array(rows * kLine);
          const Index bands = (rows + kBandRows - 1) / kBandRows + 1;
          const Index pairs = (cols + kPairRows - 1) / kPairRows;
          std::vector<BFloat16Pair> cut = words(pairs * bands * kStepWords);
          std::vector<BFloat16Pair> cut_gates = words(bands * 2 * kStepWords);
          const Index padded = (cols + kTileRows - 1) / kTileRows * kTileRows;
          const std::vector<float> before = random.array(padded * slots * kTileRows);
          k.cut_columns(
              {rows, cols, 0, pairs / 2, a.data(), stride, cut.data(), bands});
          k.cut_columns(
              {rows, cols, pairs / 2, pairs, a.data(), stride, cut.data(), bands});
          k.cut_panel(d_gates.data(), rows, cut_gates.data());
          std::vector<float> d_w = before;
          k.outer({padded, bands - 1, cut.data(), bands * kStepWords,
                   cut_gates.data() + first * kThirds * kTileWords, slots, d_w.data(),
                   accumulate, nullptr});
          double worst = 0;
          for (Index col = 0; col < cols; ++col) {
            for (Index lane = 0; lane < slots * kTileRows; ++lane) {
              const Index i = col * slots * kTileRows + lane;
              const float start = accumulate ? at(before, i) : 0.0f;
              ExactSum sum{start, std::abs(start)};
              for (Index r = 0; r < rows; ++r) {
                sum.add(at(a, r * stride + col),
                        at(d_gates, r * kLine + first * kTileRows + lane));
              }
              worst = std::max(worst, sum.error_of(at(d_w, i)));
            }
          }
          CAPTURE(rows);
          CAPTURE(cols);
          REQUIRE(worst < bound(rows));
        }
      }
    }
  });
}

// What the thirds cannot hold is an error that is seen, not a wrong number.
TEST_CASE("triples: what is not finite becomes NaN") {
  for_each_with_triples([] {
    for (const float value : {std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()}) {
      WeightsProblem problem(CellKind::lstm, false, 18, 16, 20);
      problem.d_gates[static_cast<std::size_t>(problem.at_gate(0, 3, 5))] = value;
      const std::vector<float> out = problem.product(false, false, 0);
      for (Index row = 0; row < problem.rows; ++row) {
        REQUIRE(std::isnan(at(out, row * problem.stride())) == (row == 3));
      }
    }
  });
}

// Layers large enough for them, with all that a call may bring, in float and in double,
// which has none.
TEST_CASE("triples: gradients are those of float64, and pieces have the same bits") {
  struct Call {
    Index batch_size;
    bool marked, dropped, from_zeros, batch_first;
  };
  constexpr Call kCalls[] = {{38, false, false, false, false},
                             {38, false, false, true, true},
                             {38, true, false, false, false},
                             {38, true, true, false, true},
                             {38, false, true, true, false},
                             {300, false, false, true, false}};  // bands in two parts
  constexpr Index kSteps = 9;
  for_each_with_triples([&] {
    for (const CellKind cell : kCells) {
      for (const Call& call : kCalls) {
        const Marks marks(kSteps, call.batch_size);
        RecurrentConfig config = make_config(cell, 20, 150);
        config.num_layers = 2;
        config.bidirectional = !call.marked;
        config.recurrent_dropout = call.dropped ? 0.3 : 0;
        const auto prepare = [&](auto problem) {
          if (call.marked) problem.marks = marks.view(true, true, true);
          problem.starts_from_zeros = call.from_zeros;
          problem.overwrites = call.from_zeros;
          problem.batch_first_d_x = call.batch_first;
          return problem;
        };
        Problem<float> problem =
            prepare(Problem<float>(config, kSteps, call.batch_size));
        const std::vector<float> got = problem.gradients().flat();
        const std::vector<double> wanted =
            prepare(Problem<double>(config, kSteps, call.batch_size))
                .gradients()
                .flat();
        CAPTURE(call.marked);
        CAPTURE(call.dropped);
        const std::vector<double> as_double(got.begin(), got.end());
        CHECK(relative_difference(as_double, wanted) < 1e-6);
        problem.checkpoint_every = 2;
        CHECK(same_bits(problem.gradients().flat(), got));
      }
    }
  });
}

}  // namespace fastlstm::testing
