// The packing kernels against the layouts written in kernels/table.hpp, bit for bit.
#include "layouts.hpp"

namespace fastlstm::testing {
namespace {

// Expected results of the packing kernels for the matrix w (rows, cols).
template <class T>
struct Layout {
  const PanelMap& map;
  Index panels, width, cols;
  const std::vector<T>& w;

  Index line() const { return slots_of(map) * width; }
  T value(Index row, Index col) const {
    return row < 0 ? T(0) : w[static_cast<std::size_t>(row * cols + col)];
  }

  std::vector<T> as_panels() const {
    std::vector<T> packed(static_cast<std::size_t>(panels * cols * line()), T(9));
    for_each_lane(map, panels, width, [&](Index row, Index p, int s, Index j) {
      for (Index col = 0; col < cols; ++col) {
        const Index at = (p * cols + col) * line() + (s - map.slot_begin) * width + j;
        packed[static_cast<std::size_t>(at)] = value(row, col);
      }
    });
    return packed;
  }

  std::vector<T> as_slots() const {
    std::vector<T> packed(static_cast<std::size_t>(panels * cols * line()), T(9));
    for_each_lane(map, panels, width, [&](Index row, Index p, int s, Index j) {
      const Index slot = p * slots_of(map) + s - map.slot_begin;
      for (Index col = 0; col < cols; ++col) {
        const Index at = (slot * cols + col) * width + j;
        packed[static_cast<std::size_t>(at)] = value(row, col);
      }
    });
    return packed;
  }

  std::vector<T> as_columns() const {
    const Index padded = (cols + width - 1) / width * width;
    std::vector<T> packed(static_cast<std::size_t>(panels * line() * padded), T(9));
    for (Index first = 0; first < cols; first += kSlots * width) {
      const Index block = std::min(kSlots * width, padded - first);
      for_each_lane(map, panels, width, [&](Index row, Index p, int s, Index j) {
        const Index k = p * line() + (s - map.slot_begin) * width + j;
        for (Index i = 0; i < block; ++i) {
          const Index at = first * panels * line() + k * block + i;
          packed[static_cast<std::size_t>(at)] =
              first + i < cols ? value(row, first + i) : T(0);
        }
      });
    }
    return packed;
  }
};

template <class T>
void check_packing(const LayerPlan<T>& plan, const PanelMap& map, Index cols) {
  const Kernels<T>& k = *plan.kernels;
  const Index rows = (plan.cell == CellKind::lstm  ? 4
                      : plan.cell == CellKind::gru ? 3
                                                   : 1) *
                     plan.hidden_size;
  Random<T> random(static_cast<std::uint64_t>(cols));
  const std::vector<T> w = random.array(rows * cols);
  const Layout<T> layout{map, plan.panels, plan.width, cols, w};

  const std::vector<T> panels = layout.as_panels();
  std::vector<T> packed(panels.size(), T(7));
  const Index half = plan.panels / 2;
  k.pack_panels(map, w.data(), cols, 0, half, packed.data());
  k.pack_panels(map, w.data(), cols, half, plan.panels, packed.data());
  REQUIRE(same_bits(packed, panels));

  packed.assign(panels.size(), T(7));
  k.pack_slots(map, w.data(), cols, half, plan.panels, packed.data());
  k.pack_slots(map, w.data(), cols, 0, half, packed.data());
  REQUIRE(same_bits(packed, layout.as_slots()));

  const std::vector<T> columns = layout.as_columns();
  packed.assign(columns.size(), T(7));
  const Index blocks = (cols + kSlots * plan.width - 1) / (kSlots * plan.width);
  for (Index b = 0; b < blocks; ++b) {
    k.pack_columns(map, w.data(), cols, b, b + 1, packed.data());
  }
  REQUIRE(same_bits(packed, columns));

  const std::vector<T> before = random.array(rows * cols);
  std::vector<T> sum = before;
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += w[i];
  for (const bool accumulate : {false, true}) {
    std::vector<T> back = before;
    for (Index p = 0; p < plan.panels; ++p) {
      k.unpack_panel(map, p, panels.data() + p * cols * layout.line(), cols,
                     back.data(), cols, accumulate);
    }
    REQUIRE(same_bits(back, accumulate ? sum : w));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("weights go into panels and column blocks, and back", T, float,
                   double) {
  for_each_isa([] {
    const Index width = kernels<T>().width;
    for (const CellKind cell : kCells) {
      for (const Index units : tail_sizes(width)) {
        const LayerPlan<T> plan = small_plan<T>(cell, 1, 1, units);
        CAPTURE(units);
        for (Index cols = 1; cols <= 2 * width + 1; ++cols) {
          check_packing(plan, plan.map_x, cols);
        }
        for (const Index cols : {4 * width, 4 * width + 1, 9 * width - 1}) {
          check_packing(plan, plan.map_h, cols);
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("outer_rows has the bits of outer and unpack_panel", T, float,
                   double) {
  for_each_isa([] {
    const Kernels<T>& k = kernels<T>();
    const Index line = kSlots * k.width;
    for (const CellKind cell : kCells) {
      for (const Index units : tail_sizes(k.width)) {
        const LayerPlan<T> plan = small_plan<T>(cell, 1, 1, units);
        for (const PanelMap& map : {plan.map_x, plan.map_h}) {
          const Index slots = map.slot_end - map.slot_begin;
          for (const int cols : {1, k.width, 5 * k.width - 1}) {
            for (const Index rows : {0, 1, 7}) {
              Random<T> random(static_cast<std::uint64_t>(cols));
              const Index stride = cols + 3;
              const std::vector<T> a = random.array((rows + 1) * stride + k.width);
              const std::vector<T> d_gates = random.array((rows + 1) * line);
              const OuterSums<T> sums = {rows, cols, a.data(), stride,
                                         d_gates.data() + map.slot_begin * k.width};
              std::vector<T> d_w(static_cast<std::size_t>(cols * slots * k.width));
              const std::vector<T> before = random.array(4 * units * cols);
              for (const bool accumulate : {false, true}) {
                std::vector<T> wanted = before;
                std::vector<T> w = before;
                for (Index p = 0; p < plan.panels; ++p) {
                  k.outer({sums, static_cast<int>(slots), static_cast<int>(k.width),
                           d_w.data(), false});
                  k.unpack_panel(map, p, d_w.data(), cols, wanted.data(), cols,
                                 accumulate);
                  k.outer_rows(map, p, sums, w.data(), cols, accumulate);
                }
                REQUIRE(same_bits(w, wanted));
              }
            }
          }
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("a bias goes into the slots of its map only", T, float, double) {
  for_each_isa([] {
    const Index width = kernels<T>().width;
    for (const CellKind cell : kCells) {
      for (const Index units : tail_sizes(width)) {
        const LayerPlan<T> plan = small_plan<T>(cell, 1, 1, units);
        const std::vector<T> bias = Random<T>(3).array(4 * units);
        const auto size = static_cast<std::size_t>(plan.panels * plan.gate_line());
        std::vector<T> wanted(size, T(7));
        for_each_lane(plan.map_x, plan.panels, width,
                      [&](Index row, Index p, int s, Index j) {
                        wanted[static_cast<std::size_t>((p * kSlots + s) * width + j)] =
                            row < 0 ? T(0) : bias[static_cast<std::size_t>(row)];
                      });
        std::vector<T> packed(size, T(7));
        plan.kernels->pack_bias(plan.map_x, bias.data(), packed.data());
        REQUIRE(same_bits(packed, wanted));
      }
    }
  });
}

TEST_CASE_TEMPLATE("copy_rows copies what is in the columns, and no more", T, float,
                   double) {
  for_each_isa([] {
    for (const Index cols : tail_sizes(kernels<T>().width)) {
      for (const Index rows : {1, 2, 5}) {
        const Index from_stride = cols + 3;
        const Index to_stride = cols + 2;
        const std::vector<T> from = Random<T>(4).array(rows * from_stride);
        std::vector<T> to(static_cast<std::size_t>(rows * to_stride), T(7));
        std::vector<T> wanted = to;
        for (Index r = 0; r < rows; ++r) {
          for (Index c = 0; c < cols; ++c) {
            wanted[static_cast<std::size_t>(r * to_stride + c)] =
                from[static_cast<std::size_t>(r * from_stride + c)];
          }
        }
        kernels<T>().copy_rows(from.data(), rows, cols, from_stride, to.data(),
                               to_stride);
        REQUIRE(same_bits(to, wanted));
      }
    }
  });
}

}  // namespace fastlstm::testing
