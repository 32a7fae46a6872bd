// Denormals are flushed inside every thread's part of a region, and nowhere else.
#include <atomic>
#include <limits>

#include "denormals.hpp"
#include "parallel.hpp"
#include "support.hpp"

namespace fastlstm::testing {
namespace {

// Half of the smallest normal number, computed where the optimiser cannot see.
template <class T>
bool flushes() {
  volatile T smallest = std::numeric_limits<T>::min();
  volatile T half = smallest / 2;
  return half == 0;
}

bool flushes_both() { return flushes<float>() && flushes<double>(); }
bool flushes_neither() { return !flushes<float>() && !flushes<double>(); }

}  // namespace

TEST_CASE("the guard flushes while it lives and restores the mode") {
  REQUIRE(flushes_neither());
  {
    const DenormalGuard guard;
    CHECK(flushes_both());
    {
      const DenormalGuard inner;
      CHECK(flushes_both());
    }
    CHECK(flushes_both());
  }
  CHECK(flushes_neither());
}

TEST_CASE("denormal operands read as zero under the guard") {
  volatile float denormal = std::numeric_limits<float>::denorm_min();
  const DenormalGuard guard;
  volatile float large = denormal * 1e30f;
  CHECK(large == 0);
}

TEST_CASE("every thread of a region flushes, the caller's mode is left alone") {
  for (const int threads : {1, 2, 4}) {
    std::atomic<int> flushing{0};
    auto body = [&](const Team&) { flushing += flushes_both() ? 1 : 0; };
    parallel(threads, body);
    CHECK(flushing == threads);
    CHECK(flushes_neither());
  }
}

}  // namespace fastlstm::testing
