// Times the probe kernels on a team of threads; see probe.hpp.
#include "fastlstm/probe.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <stdexcept>
#include <string>

#include "arena.hpp"
#include "cache_line.hpp"
#include "fastlstm/buffer.hpp"
#include "kernels/table.hpp"
#include "parallel.hpp"

namespace fastlstm {
namespace {

using Clock = std::chrono::steady_clock;

// A sample outlasts a barrier and a clock read a hundred times over, and is short
// enough to fit between two disturbances.
constexpr double kSampleSeconds = 1e-3;
constexpr std::size_t kMinBytes = 4096;
constexpr Index kMaxLanes = 16;  // of float32 in any instruction set

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void check(int threads, double seconds) {
  if (threads < 1 || threads > 1024) {
    throw std::invalid_argument("threads must be an integer from 1 to 1024, got " +
                                std::to_string(threads));
  }
  if (!(seconds > 0.0) || std::isinf(seconds)) {
    throw std::invalid_argument("seconds must be finite and above 0, got " +
                                std::to_string(seconds));
  }
}

// Best rate a second of work(rank, repeats), which returns the amount it did, on all
// threads together. Thread 0 alone decides how often, so that all take part in every
// barrier.
template <class Work>
double best_rate(int threads, double seconds, const Work& work) {
  double best = 0.0;
  std::atomic<Index> amount{0};
  Index repeats = 1;
  bool done = false;
  const Clock::time_point start = Clock::now();
  auto body = [&](const Team& team) {
    while (!done) {
      team.barrier();
      const Clock::time_point begin = Clock::now();
      amount.fetch_add(work(team.rank(), repeats));
      team.barrier();
      if (team.rank() == 0) {
        const double took = since(begin);
        if (took < kSampleSeconds) {
          repeats *= 2;
        } else {
          best = std::max(best, static_cast<double>(amount.load()) / took);
        }
        amount = 0;
        done = best > 0.0 && since(start) > seconds;
      }
      team.barrier();
    }
  };
  parallel(threads, body);
  return best;
}

}  // namespace

double probe_flops(int threads, double seconds) {
  check(threads, seconds);
  const Kernels<float>& k = kernels<float>();
  return 2.0 * best_rate(threads, seconds, [&](int, Index repeats) {
           float y[kMaxLanes] = {};
           return k.multiply_adds(100 * repeats, y);
         });
}

double probe_read(int threads, std::size_t bytes, double seconds) {
  check(threads, seconds);
  if (bytes < kMinBytes) {
    throw std::invalid_argument(
        "bytes must be an integer >= " + std::to_string(kMinBytes) + ", got " +
        std::to_string(bytes));
  }
  const Kernels<float>& k = kernels<float>();
  const Index count =
      static_cast<Index>(bytes / kCacheLine * kCacheLine / sizeof(float));
  BufferPool pool;
  const Buffer memory = pool.acquire(
      static_cast<std::size_t>(checked_product(count * Index{sizeof(float)}, threads)));
  std::fill_n(memory.as<float>(), count * threads, 1.0f);
  const double rate = best_rate(threads, seconds, [&](int rank, Index repeats) {
    float y[kMaxLanes] = {};
    Index read = 0;
    for (Index i = 0; i < repeats; ++i) {
      read += k.read_array(memory.as<float>() + rank * count, count, y);
    }
    return read;
  });
  return rate * sizeof(float);
}

}  // namespace fastlstm
