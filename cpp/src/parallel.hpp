// The one place that owns threads. parallel(n, f) runs f(team) on n threads, the caller
// among them; team.barrier() waits for all of them. Waiting spins for a moment, then
// sleeps. A call made while another region runs gets a team of one. A team can be cut
// in two, which then wait for each other no more before the end.
#pragma once

#include <cstddef>
#include <type_traits>

#include "denormals.hpp"
#include "fastlstm/types.hpp"

namespace fastlstm {

class Team {
 public:
  Team(int rank, int size) : rank_(rank), size_(size) {}
  int rank() const { return rank_; }
  int size() const { return size_; }
  void barrier() const;

  // The half of the team that this thread is in, 0 or 1, and its team; size() is even.
  int half() const { return 2 * rank_ / size_; }
  Team half_team() const { return {rank_ % (size_ / 2), size_ / 2, 1 + half()}; }

  struct Range {
    Index begin, end;
  };
  // This thread's part of [0, count), in whole units.
  Range share(Index count, Index unit = 1) const {
    const Index units = (count + unit - 1) / unit;
    const Index begin = units * rank_ / size_ * unit;
    const Index end = units * (rank_ + 1) / size_ * unit;
    return {begin < count ? begin : count, end < count ? end : count};
  }

 private:
  Team(int rank, int size, int barrier) : rank_(rank), size_(size), barrier_(barrier) {}
  int rank_;
  int size_;
  int barrier_ = 0;  // of the whole team, of its halves
};

// Threads to share a call among: num_threads(), but not more than there are CPUs. More
// would only wait for each other at every barrier. Nor more than max_threads, unless 0.
int useful_threads(int max_threads = 0);

// Whether a thread was late by so much, a moment ago, that another program must have
// had its CPU: then barriers that follow each other closely cost more than they bring.
bool cpus_crowded();

// How long a barrier of so many threads takes, measured a moment ago: it depends on
// where the CPUs lie, and more than threefold. Infinite while others use the threads.
double barrier_nanoseconds(int threads);

using RegionBody = void (*)(void* context, const Team& team);
// bytes: of a context that each thread may read in a copy; 0: none.
void run_region(int threads, RegionBody body, void* context, std::size_t bytes);

// Contexts up to this size travel in the cache line that starts the threads: to fetch
// another line takes 0.1 us.
constexpr std::size_t kInlinedBytes = 32;

// body must not throw. It runs with denormals flushed to zero.
template <class Body>
void parallel(int threads, const Body& body) {
  constexpr bool kInlined =
      std::is_trivially_copyable_v<Body> && sizeof(Body) <= kInlinedBytes;
  run_region(
      threads,
      [](void* context, const Team& team) {
        const DenormalGuard guard;
        (*static_cast<const Body*>(context))(team);
      },
      const_cast<Body*>(&body), kInlined ? sizeof(Body) : 0);
}

}  // namespace fastlstm
