// The probes: what their kernels compute, and that the limits measured make sense.
#include <cmath>

#include "kernels/table.hpp"
#include "support.hpp"

namespace fastlstm::testing {

TEST_CASE_TEMPLATE("multiply-adds are really done", T, float, double) {
  for_each_isa([] {
    const Kernels<T>& k = kernels<T>();
    std::vector<T> y(static_cast<std::size_t>(k.width), T(1));
    // One round takes sum i from 1 + i to (1 + i) / 2 + 1.
    const Index values = k.multiply_adds(1, y.data());
    REQUIRE(values % k.width == 0);
    const Index sums = values / k.width;
    CHECK(sums >= 8);
    const T wanted = static_cast<T>(sums * (6 + sums - 1)) / 4;
    for (const T value : y) CHECK(value == wanted);
    CHECK(k.multiply_adds(7, y.data()) == 7 * values);
  });
}

TEST_CASE_TEMPLATE("every value is really read", T, float, double) {
  for_each_isa([] {
    const Kernels<T>& k = kernels<T>();
    const Index round = 8 * k.width;
    Random<T> random(3);
    const std::vector<T> x = random.array(5 * round + 3);
    std::vector<T> y(static_cast<std::size_t>(k.width), T(2));
    CHECK(k.read_array(x.data(), 5 * round + 3, y.data()) == 5 * round);
    double sum = 2.0 * k.width;
    for (Index i = 0; i < 5 * round; ++i) sum += static_cast<double>(x[i]);
    double got = 0;
    for (const T value : y) got += static_cast<double>(value);
    CHECK(std::abs(got - sum) < 1e-4);
  });
}

TEST_CASE("limits are measured on any number of threads") {
  for (const int threads : {1, 3}) {
    CHECK(probe_flops(threads, 1e-3) > 1e6);
    CHECK(probe_read(threads, 16384, 1e-3) > 1e6);
  }
}

TEST_CASE("wrong arguments of the probes") {
  CHECK(error_of([] { probe_flops(0, 1.0); }) ==
        "threads must be an integer from 1 to 1024, got 0");
  CHECK(error_of([] { probe_read(1, 4095, 1.0); }) ==
        "bytes must be an integer >= 4096, got 4095");
  for (const double wrong : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    const std::string message = error_of([&] { probe_flops(1, wrong); });
    CHECK(message.rfind("seconds must be finite and above 0, got ", 0) == 0);
  }
}

}  // namespace fastlstm::testing
