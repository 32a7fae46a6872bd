// The products of triples, against sums in double: their error must stay within that of
// a chain of float multiply-adds.
#include <algorithm>
#include <cmath>
#include <limits>
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

// Steps of an LSTM from the kernel, and in double.
struct StepsProblem {
  static constexpr Index kSteps = 3;
  LayerPlan<float> plan;
  Index rows, inputs, units;
  bool has_h;
  std::vector<float> x, w_x, w_h, bias, h0, c0;

  StepsProblem(Index row_count, Index x_size, Index h_size, bool with_h)
      : plan(small_plan<float>(CellKind::lstm, row_count, x_size, h_size)),
        rows(row_count),
        inputs(x_size),
        units(h_size),
        has_h(with_h) {
    Random<float> random(
        static_cast<std::uint64_t>(rows * 1000 + inputs * 100 + units));
    const auto scaled = [&](Index count) {
      std::vector<float> values = random.array(count);
      for (float& v : values) v /= std::sqrt(static_cast<float>(inputs + units));
      return values;
    };
    // What lies behind the columns of a row must not count.
    const auto padded = [&](Index count, Index size, Index stride) {
      std::vector<float> values = random.array(count * stride);
      for (Index i = 0; i < count * stride; ++i) {
        if (i % stride >= size) {
          values[static_cast<std::size_t>(i)] = std::numeric_limits<float>::quiet_NaN();
        }
      }
      return values;
    };
    x = padded(kSteps * rows, inputs, x_stride());
    h0 = padded(rows, units, h_stride());
    w_x = scaled(kSlots * units * inputs);
    w_h = scaled(kSlots * units * units);
    c0 = random.array(plan.panels * rows * plan.width);
    bias = random.array(plan.panels * plan.gate_line());
  }
  Index x_stride() const { return inputs + 2; }
  Index h_stride() const { return units + 3; }
  Index record_step() const { return plan.panels * rows * plan.record; }

  // h of all steps, rows and units, then i, f, g, o, c of each. `cut`: the panels
  // before it and the others are computed apart, as by two threads; 0: all steps in one
  // call. in_pieces: terms come in pieces.
  std::vector<float> run(Index cut, bool in_pieces = false) const {
    const TripleKernels<float>& k = plan.kernels->triples;
    std::vector<BFloat16Pair> packed =
        words(plan.panels * plan.gate_steps() * kGateStepWords);
    std::vector<BFloat16Pair> scratch =
        words(kTripleRows / kPairRows * plan.gate_steps() * kStepWords);
    std::vector<float> sums(
        static_cast<std::size_t>(kPiecePanels * kTripleRows * plan.gate_line()),
        std::numeric_limits<float>::quiet_NaN());
    k.pack_gates(plan.map_x, w_x.data(), inputs, w_h.data(), units, cut, plan.panels,
                 packed.data());
    k.pack_gates(plan.map_x, w_x.data(), inputs, w_h.data(), units, 0, cut,
                 packed.data());
    std::vector<float> records(static_cast<std::size_t>(kSteps * record_step()));
    std::vector<float> h(static_cast<std::size_t>(kSteps * rows * h_stride()));
    const StepStrides strides{rows * x_stride(), 0, record_step(), record_step(),
                              rows * h_stride()};
    for (Index step = 0; step < kSteps; step += cut > 0 ? 1 : kSteps) {
      LstmStepArgs<float> s{};
      GateArgs<float>& g = s.gate;
      float* const record = records.data() + step * record_step();
      g.rows = rows;
      g.x = x.data() + step * strides.x;
      g.x_stride = x_stride();
      g.x_size = inputs;
      g.h = step > 0 ? h.data() + (step - 1) * strides.h_out : h0.data();
      g.h_stride = h_stride();
      g.h_size = units;
      g.h_steps = step > 0 || has_h ? units : 0;
      g.init = bias.data();
      g.init_panel_stride = plan.gate_line();
      g.gates = record;
      g.gate_row_stride = s.c_row_stride = plan.record;
      g.gate_panel_stride = s.c_panel_stride = rows * plan.record;
      s.c = record + plan.gate_line();
      s.c_prev = step > 0 ? s.c - strides.c : c0.data();
      s.c_prev_row_stride = step > 0 ? s.c_row_stride : plan.width;
      s.c_prev_panel_stride = step > 0 ? s.c_panel_stride : rows * plan.width;
      s.h_out = h.data() + step * strides.h_out;
      s.h_out_stride = h_stride();
      s.hidden_size = units;
      g.descending = step % 2 == 0;
      for (const auto& [begin, end] : {std::pair(cut, plan.panels), {Index{0}, cut}}) {
        g.panel_begin = begin;
        g.panel_end = end;
        k.lstm_steps(s, cut > 0 ? 1 : kSteps, strides,
                     {packed.data(), plan.gate_steps(), scratch.data(),
                      in_pieces ? sums.data() : nullptr});
        if (cut == 0) break;
      }
    }
    std::vector<float> all;
    for_each_cell([&](Index step, Index row, Index unit) {
      all.push_back(at(h, (step * rows + row) * h_stride() + unit));
    });
    for_each_cell([&](Index step, Index row, Index unit) {
      const Index panel = unit / plan.width;
      const Index record = step * record_step() + (panel * rows + row) * plan.record;
      for (Index slot = 0; slot <= kSlots; ++slot) {
        all.push_back(at(records, record + slot * plan.width + unit % plan.width));
      }
    });
    return all;
  }

  template <class Visit>
  void for_each_cell(const Visit& visit) const {
    for (Index step = 0; step < kSteps; ++step) {
      for (Index row = 0; row < rows; ++row) {
        for (Index unit = 0; unit < units; ++unit) visit(step, row, unit);
      }
    }
  }

  std::vector<double> exact() const {
    std::vector<double> hs, others;
    for_each_cell([&](Index step, Index row, Index unit) {
      const Index lane = unit % plan.width;
      const Index panel = unit / plan.width;
      double gate[kSlots];
      for (Index slot = 0; slot < kSlots; ++slot) {
        const Index line = panel * plan.gate_line() + slot * plan.width + lane;
        double sum = at(bias, line);
        const Index weight = slot * units + unit;
        for (Index i = 0; i < inputs; ++i) {
          sum += double{at(x, (step * rows + row) * x_stride() + i)} *
                 at(w_x, weight * inputs + i);
        }
        for (Index i = 0; i < units && (step > 0 || has_h); ++i) {
          sum += (step > 0 ? at(hs, ((step - 1) * rows + row) * units + i)
                           : double{at(h0, row * h_stride() + i)}) *
                 at(w_h, weight * units + i);
        }
        gate[slot] = slot == 2 ? std::tanh(sum) : 1 / (1 + std::exp(-sum));
      }
      const double before =
          step > 0 ? at(others, (((step - 1) * rows + row) * units + unit) * 5 + kSlots)
                   : double{at(c0, (panel * rows + row) * plan.width + lane)};
      const double c = gate[1] * before + gate[0] * gate[2];
      hs.push_back(gate[3] * std::tanh(c));
      others.insert(others.end(), gate, gate + kSlots);
      others.push_back(c);
    });
    hs.insert(hs.end(), others.begin(), others.end());
    return hs;
  }

  void check() const {
    const std::vector<float> got = run(0);
    const std::vector<double> wanted = exact();
    REQUIRE(got.size() == wanted.size());
    // Two thirds of the bits would be off by 1e-5.
    bool close = true;
    for (std::size_t i = 0; i < got.size(); ++i) {
      close = close && std::abs(double{got[i]} - wanted[i]) < 1e-6;
    }
    CAPTURE(rows);
    CAPTURE(inputs);
    CAPTURE(units);
    REQUIRE(close);
    for (const bool in_pieces : {false, true}) {
      REQUIRE(same_bits(run((plan.panels + 1) / 2, in_pieces), got));
    }
    REQUIRE(same_bits(run(0, true), got));
  }
};

}  // namespace

TEST_CASE("triples: steps forward, with every tail") {
  for_each_with_triples([] {
    for (const Index rows : {1, 15, 16, 17, 32, 33, 64, 65}) {
      for (const Index inputs : {1, 16, 17, 40}) {
        for (const Index units : {1, 8, 16, 31, 33, 70}) {
          StepsProblem(rows, inputs, units, units % 2 == 0).check();
        }
      }
    }
    // More rows than one pass takes.
    StepsProblem(257, 20, 40, true).check();
    StepsProblem(300, 20, 40, false).check();
    // More terms than a piece has, and more panels than take it at once.
    StepsProblem(33, 530, 90, true).check();
    StepsProblem(70, 20, 520, true).check();
    StepsProblem(3, 1100, 33, false).check();
  });
}

TEST_CASE("triples: a row forward gives the same bits among others and alone") {
  for_each_with_triples([] {
    const StepsProblem all(290, 20, 40, true);
    const std::vector<float> wanted = all.run(0);
    for (const Index row : {0, 17, 31, 255, 256, 289}) {
      StepsProblem one(1, all.inputs, all.units, true);
      one.w_x = all.w_x;
      one.w_h = all.w_h;
      one.bias = all.bias;
      const auto copy = [](std::vector<float>& to, Index to_row,
                           const std::vector<float>& from, Index from_row,
                           Index count) {
        std::copy_n(from.begin() + from_row * count, count,
                    to.begin() + to_row * count);
      };
      copy(one.h0, 0, all.h0, row, all.h_stride());
      for (Index step = 0; step < StepsProblem::kSteps; ++step) {
        copy(one.x, step, all.x, step * all.rows + row, all.x_stride());
      }
      for (Index p = 0; p < all.plan.panels; ++p) {
        copy(one.c0, p, all.c0, p * all.rows + row, all.plan.width);
      }
      const std::vector<float> got = one.run(0);
      for (Index step = 0; step < StepsProblem::kSteps; ++step) {
        for (Index unit = 0; unit < all.units; ++unit) {
          REQUIRE(at(got, step * all.units + unit) ==
                  at(wanted, (step * all.rows + row) * all.units + unit));
        }
      }
    }
  });
}

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
