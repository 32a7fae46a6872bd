// The matrix products against plain loops. Every sum has one fixed order, so the loops
// must give the same bits; only narrow_product, which sums in lanes, gets a tolerance.
#include "layouts.hpp"

namespace fastlstm::testing {
namespace {

// c = [c | init] + a b with a in panels: (panels, rows, panel_size).
template <class T>
struct DenseProblem {
  Index rows, cols, panels, panel_size, width;
  std::vector<T> a, b, init, c;

  DenseProblem(Index row_count, Index col_count, Index panel_count, Index size)
      : rows(row_count),
        cols(col_count),
        panels(panel_count),
        panel_size(size),
        width(kernels<T>().width) {
    Random<T> random(static_cast<std::uint64_t>(rows * 1000 + cols));
    a = random.array(panels * rows * panel_size);
    b = random.array(panels * panel_size * cols);  // (panels * panel_size, cols)
    init = random.array(padded());
    c = random.array(rows * stride());
  }
  Index padded() const { return (cols + width - 1) / width * width; }
  Index stride() const { return cols + 3; }

  ProductArgs<T> args(const std::vector<T>& packed, bool with_init, bool accumulate,
                      std::vector<T>& out) const {
    ProductArgs<T> g{};
    g.rows = rows;
    g.block_end = (cols + kSlots * width - 1) / (kSlots * width);
    g.cols = cols;
    g.a = a.data();
    g.a_row_stride = panel_size;
    g.a_panel_stride = rows * panel_size;
    g.panels = panels;
    g.panel_size = panel_size;
    g.b = packed.data();
    g.init = with_init ? init.data() : nullptr;
    g.c = out.data();
    g.c_stride = stride();
    g.accumulate = accumulate;
    return g;
  }

  std::vector<T> with_loops(bool with_init, bool accumulate, bool fused) const {
    std::vector<T> out = c;
    for (Index r = 0; r < rows; ++r) {
      for (Index col = 0; col < cols; ++col) {
        T& sum = out[static_cast<std::size_t>(r * stride() + col)];
        if (!accumulate) sum = with_init ? at(init, col) : T(0);
        for (Index p = 0; p < panels; ++p) {
          for (Index k = 0; k < panel_size; ++k) {
            sum = multiply_add(at(a, (p * rows + r) * panel_size + k),
                               at(b, (p * panel_size + k) * cols + col), sum, fused);
          }
        }
      }
    }
    return out;
  }

  // Column blocks of 4 W, the last only as wide as it must be.
  std::vector<T> b_in_blocks() const {
    std::vector<T> packed;
    for (Index first = 0; first < cols; first += kSlots * width) {
      const Index block = std::min(kSlots * width, padded() - first);
      for (Index k = 0; k < panels * panel_size; ++k) {
        for (Index i = first; i < first + block; ++i) {
          packed.push_back(i < cols ? at(b, k * cols + i) : T(0));
        }
      }
    }
    return packed;
  }

  // (panels, cols, panel_size)
  std::vector<T> b_in_panels() const {
    std::vector<T> packed;
    for (Index p = 0; p < panels; ++p) {
      for (Index col = 0; col < cols; ++col) {
        for (Index k = 0; k < panel_size; ++k) {
          packed.push_back(at(b, (p * panel_size + k) * cols + col));
        }
      }
    }
    return packed;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("product, with every tail of columns and rows", T, float, double) {
  for_each_isa([] {
    const Index width = kernels<T>().width;
    const Index tile = kernels<T>().outer_tile;
    const bool fused = isa() != "scalar";
    for (Index cols = 1; cols <= 8 * width + 1;
         cols += cols < 2 * width + 1 ? 1 : width) {
      for (Index rows = 1; rows <= 2 * tile + 1; rows += 2) {
        const DenseProblem<T> problem(rows, cols, 2, 3 * width);
        const std::vector<T> packed = problem.b_in_blocks();
        CAPTURE(cols);
        CAPTURE(rows);
        for (const bool accumulate : {false, true}) {
          for (const bool with_init : {false, true}) {
            std::vector<T> out = problem.c;
            kernels<T>().product(problem.args(packed, with_init, accumulate, out));
            REQUIRE(same_bits(out, problem.with_loops(with_init, accumulate, fused)));
          }
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("product skips the padding of the last panel", T, float, double) {
  for_each_isa([] {
    const Index width = kernels<T>().width;
    for (Index padding = 1; padding < width; ++padding) {
      DenseProblem<T> problem(5, 2 * width + 1, 2, 4 * width);
      for (Index row = 0; row < problem.rows; ++row) {
        T* last_panel = problem.a.data() + (problem.rows + row) * problem.panel_size;
        for (Index k = 0; k < problem.panel_size; ++k) {
          if (k % width >= width - padding) last_panel[k] = T(0);
        }
      }
      const std::vector<T> wanted = problem.with_loops(false, false, isa() != "scalar");
      for (T& value : problem.a) {  // what is skipped may be anything
        if (value == T(0)) value = std::numeric_limits<T>::quiet_NaN();
      }
      std::vector<T> out = problem.c;
      const std::vector<T> packed = problem.b_in_blocks();
      ProductArgs<T> args = problem.args(packed, false, false, out);
      args.padding = padding;
      kernels<T>().product(args);
      CAPTURE(padding);
      REQUIRE(same_bits(out, wanted));
    }
  });
}

TEST_CASE_TEMPLATE("narrow_product", T, float, double) {
  const double tolerance = 100 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for_each_isa([&] {
    const Index width = kernels<T>().width;
    for (Index cols = 1; cols <= 9; ++cols) {
      for (const Index slots : {3, 4}) {
        const DenseProblem<T> problem(5, cols, 3, slots * width);
        const std::vector<T> packed = problem.b_in_panels();
        for (const bool accumulate : {false, true}) {
          std::vector<T> out = problem.c;
          kernels<T>().narrow_product(problem.args(packed, false, accumulate, out));
          REQUIRE(max_difference(out, problem.with_loops(false, accumulate, true)) <
                  tolerance);
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("outer and column_sum", T, float, double) {
  for_each_isa([] {
    const Kernels<T>& k = kernels<T>();
    const Index tile = k.outer_tile;
    const Index line = kSlots * k.width;
    for (Index cols = 1; cols <= 2 * tile + 1; ++cols) {
      for (const Index rows : {0, 1, 2, 7, 600}) {  // the last: more than one slice
        if (rows == 600 && cols != tile + 1) continue;
        Random<T> random(static_cast<std::uint64_t>(cols));
        const Index stride = cols + 1;
        const std::vector<T> a = random.array(rows * stride);
        const std::vector<T> d_gates = random.array(rows * line);
        for (Index slots = 1; slots <= kSlots; ++slots) {
          for (const bool accumulate : {false, true}) {
            const std::vector<T> before = random.array(cols * slots * k.width);
            std::vector<T> wanted = before;
            for (std::size_t i = 0; i < wanted.size(); ++i) {
              const auto col = static_cast<Index>(i) / (slots * k.width);
              const auto lane = static_cast<Index>(i) % (slots * k.width);
              if (!accumulate) wanted[i] = T(0);
              for (Index r = 0; r < rows; ++r) {
                wanted[i] =
                    multiply_add(at(a, r * stride + col), at(d_gates, r * line + lane),
                                 wanted[i], isa() != "scalar");
              }
            }
            // Lanes that are not real are undefined.
            for (const int lanes : {k.width, std::max(1, k.width / 2)}) {
              std::vector<T> d_w = before;
              k.outer({{rows, cols, a.data(), stride, d_gates.data()},
                       static_cast<int>(slots),
                       lanes,
                       d_w.data(),
                       accumulate});
              for (std::size_t i = 0; i < d_w.size(); ++i) {
                if (static_cast<int>(i) % k.width >= lanes) d_w[i] = wanted[i];
              }
              REQUIRE(same_bits(d_w, wanted));
            }
          }
        }
        std::vector<T> sums(static_cast<std::size_t>(line), T(0));
        for (std::size_t i = 0; i < d_gates.size(); ++i) {
          sums[i % static_cast<std::size_t>(line)] += d_gates[i];
        }
        std::vector<T> d_bias = random.array(line);
        k.column_sum(d_gates.data(), rows, false, d_bias.data());
        REQUIRE(same_bits(d_bias, sums));
        for (std::size_t i = 0; i < d_gates.size(); ++i) {
          sums[i % static_cast<std::size_t>(line)] += d_gates[i];
        }
        k.column_sum(d_gates.data(), rows, true, d_bias.data());
        REQUIRE(same_bits(d_bias, sums));
      }
    }
  });
}

}  // namespace fastlstm::testing
