// The products of a row alone with unpacked weights and with panels, and the checksum
// of parameters.
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "layouts.hpp"

namespace fastlstm::testing {
namespace {

template <class T>
void check_row_product(CellKind cell, Index units, Index cols, bool accumulate,
                       bool descending) {
  const LayerPlan<T> plan = small_plan<T>(cell, 1, 1, units);
  const PanelMap& map = plan.map_h;
  const Index line = slots_of(map) * plan.width;
  Random<T> random(static_cast<std::uint64_t>(units * 100 + cols));
  const std::vector<T> w = random.array(4 * units * cols);
  const std::vector<T> a = random.array(plan.panels * line);
  const std::vector<T> before = random.array(cols + 2);

  std::vector<T> wanted = before;
  const bool apart = cols <= 2 * plan.width;  // every slot has a sum of its own
  for (Index col = 0; col < cols; ++col) {
    T sums[kSlots] = {accumulate ? at(before, col) : T(0)};
    const auto add_panel = [&](Index panel) {
      for_each_lane(
          map, plan.panels, plan.width, [&](Index row, Index p, int s, Index j) {
            if (row < 0 || p != panel) return;
            const T left = at(a, p * line + (s - map.slot_begin) * plan.width + j);
            T& sum = sums[apart ? s : 0];
            sum = multiply_add(left, at(w, row * cols + col), sum, isa() != "scalar");
          });
    };
    for (Index i = 0; i < plan.panels; ++i) {
      add_panel(descending ? plan.panels - 1 - i : i);
    }
    wanted[static_cast<std::size_t>(col)] = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  }

  // Threads take whole vectors of columns, or some of the panels.
  const Index half = cols / 2 / plan.width * plan.width;
  const Index panel = apart ? plan.panels : plan.panels / 2;
  std::vector<T> c = before;
  for (const auto& [begin, end] : {std::pair(Index{0}, half), std::pair(half, cols)}) {
    std::vector<std::pair<Index, Index>> parts = {{0, panel}, {panel, plan.panels}};
    if (descending) std::swap(parts[0], parts[1]);
    bool more = accumulate;
    for (const auto& [first, last] : parts) {
      if (first == last) continue;
      plan.kernels->row_product({&map, begin, end, cols, a.data(), line, first, last,
                                 descending, w.data(), c.data(), more});
      more = true;
    }
  }
  REQUIRE(same_bits(c, wanted));
}

// Against the plain sums, which have another order.
template <class T>
void check_panel_product(CellKind cell, Index units, Index cols, bool accumulate,
                         bool descending) {
  const LayerPlan<T> plan = small_plan<T>(cell, 1, 1, units);
  const PanelMap& map = plan.map_h;
  const Index line = slots_of(map) * plan.width;
  Random<T> random(static_cast<std::uint64_t>(units * 100 + cols));
  const std::vector<T> packed = random.array(plan.panels * cols * line);
  const std::vector<T> a = random.array(plan.panels * line);
  const std::vector<T> before = random.array(cols + 2);

  std::vector<T> wanted = before;
  for (Index col = 0; col < cols; ++col) {
    T& sum = wanted[static_cast<std::size_t>(col)];
    if (!accumulate) sum = T(0);
    for (Index p = 0; p < plan.panels; ++p) {
      for (Index j = 0; j < line; ++j) {
        sum += at(a, p * line + j) * at(packed, (p * cols + col) * line + j);
      }
    }
  }

  std::vector<T> whole = before;
  std::vector<T> parts = before;
  std::vector<T> sums(static_cast<std::size_t>(cols * plan.width));
  const auto run = [&](Index begin, Index end, std::vector<T>& c) {
    plan.kernels->panel_product({&map, plan.panels, cols, begin, end, descending,
                                 a.data(), line, packed.data(), sums.data(), c.data(),
                                 accumulate});
  };
  run(0, cols, whole);
  for (Index col = 0; col < cols + 2; ++col) {
    const T bound = static_cast<T>(1e-5 * static_cast<double>(plan.panels * line));
    REQUIRE(std::abs(at(whole, col) - at(wanted, col)) <= bound);
  }
  run(0, cols / 3, parts);
  run(cols / 3, cols, parts);
  REQUIRE(same_bits(parts, whole));
}

// The same.
template <class T>
void check_row_gates(CellKind cell, Index units, Index h_size) {
  const LayerPlan<T> plan = small_plan<T>(cell, 1, 1, units);
  const PanelMap& map = plan.map_h;
  const Index line = kSlots * plan.width;
  Random<T> random(static_cast<std::uint64_t>(units * 100 + h_size));
  const std::vector<T> w = random.array(4 * units * h_size);
  const std::vector<T> h = random.array(h_size);
  const std::vector<T> before = random.array(plan.panels * line);

  const auto run = [&](Index begin, Index end, bool descending, std::vector<T>& gates) {
    plan.kernels->row_gates(
        {&map, begin, end, descending, h.data(), h_size, w.data(), gates.data(), line});
  };
  std::vector<T> whole = before;
  run(0, plan.panels, false, whole);
  std::vector<T> wanted = before;
  for_each_lane(map, plan.panels, plan.width, [&](Index row, Index p, int s, Index j) {
    if (row < 0) return;
    T& sum = wanted[static_cast<std::size_t>(p * line + s * plan.width + j)];
    for (Index k = 0; k < h_size; ++k) sum += at(w, row * h_size + k) * at(h, k);
  });
  const T bound = static_cast<T>(h_size) * std::numeric_limits<T>::epsilon();
  for (std::size_t i = 0; i < whole.size(); ++i) {
    REQUIRE(std::abs(whole[i] - wanted[i]) <= bound);
  }
  std::vector<T> parts = before;
  run(plan.panels / 2, plan.panels, true, parts);
  run(0, plan.panels / 2, true, parts);
  REQUIRE(same_bits(parts, whole));
}

std::vector<std::uint64_t> checksum_of(const std::vector<char>& data,
                                       std::size_t bytes) {
  std::vector<std::uint64_t> sums(kChecksumLanes, 1);
  kernels<float>().checksum(data.data(), bytes, sums.data());
  return sums;
}

}  // namespace

TEST_CASE_TEMPLATE("row_product", T, float, double) {
  for_each_isa([] {
    const Index width = kernels<T>().width;
    for (const CellKind cell : kCells) {
      for (const Index units : tail_sizes(width)) {
        for (const Index cols : {Index{1}, width - 1, width, width + 1, 2 * width,
                                 2 * width + 1, 17 * width + 1}) {
          if (cols < 1) continue;
          for (const bool accumulate : {false, true}) {
            check_row_product<T>(cell, units, cols, accumulate, false);
            check_row_product<T>(cell, units, cols, accumulate, true);
          }
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("panel_product", T, float, double) {
  for_each_isa([] {
    const Index width = kernels<T>().width;
    for (const CellKind cell : kCells) {
      for (const Index units : tail_sizes(width)) {
        for (const Index cols : {Index{1}, Index{7}, 2 * width + 1}) {
          for (const bool accumulate : {false, true}) {
            check_panel_product<T>(cell, units, cols, accumulate, false);
            check_panel_product<T>(cell, units, cols, accumulate, true);
          }
        }
      }
    }
  });
}

TEST_CASE_TEMPLATE("row_gates", T, float, double) {
  for_each_isa([] {
    const Index width = kernels<T>().width;
    for (const CellKind cell : kCells) {
      for (const Index units : tail_sizes(width)) {
        for (const Index h_size : {Index{1}, Index{7}, 2 * width + 1, 5 * width}) {
          check_row_gates<T>(cell, units, h_size);
        }
      }
    }
  });
}

TEST_CASE("the checksum notices any changed byte, with every instruction set alike") {
  std::vector<char> data(1100);
  Random<double> random(1);
  for (char& byte : data) byte = static_cast<char>(100 * random.next());
  for (const std::size_t bytes : {0, 1, 8, 255, 256, 257, 1000}) {
    set_isa("scalar");
    const std::vector<std::uint64_t> sums = checksum_of(data, bytes);
    for_each_isa([&] {
      CHECK(checksum_of(data, bytes) == sums);
      for (std::size_t i = 0; i < data.size(); i += 7) {
        data[i] = static_cast<char>(data[i] ^ 16);
        CHECK((checksum_of(data, bytes) != sums) == (i < bytes));
        data[i] = static_cast<char>(data[i] ^ 16);
      }
    });
  }
}

}  // namespace fastlstm::testing
