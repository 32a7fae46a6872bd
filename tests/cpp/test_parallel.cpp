// The thread pool: every member runs once, barriers hold and are timed, callers from
// several threads, nested regions, forked children, late threads, a CPU shared by two,
// and how work is shared out.
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "parallel.hpp"
#include "support.hpp"

namespace fastlstm::testing {
namespace {

// Runs a region and returns the sum of ranks + 1 over the team, and the team's size.
struct Census {
  int size = 0;
  int sum = 0;
};
Census take_census(int threads) {
  std::atomic<int> size{0};
  std::atomic<int> sum{0};
  auto body = [&](const Team& team) {
    size = team.size();
    sum += team.rank() + 1;
  };
  parallel(threads, body);
  return {size, sum};
}

bool complete(const Census& census) {
  return census.sum == census.size * (census.size + 1) / 2;
}

}  // namespace

TEST_CASE("every member of a team runs once") {
  // More threads than CPUs, and teams that shrink and grow.
  for (const int threads : {1, 2, 3, 16, 2, 33, 1, 4}) {
    const Census census = take_census(threads);
    CHECK(census.size == threads);
    CHECK(complete(census));
  }
}

TEST_CASE("many short regions") {
  bool all = true;
  for (int i = 0; i < 3000; ++i) all = all && complete(take_census(1 + i % 4));
  CHECK(all);
}

TEST_CASE("a barrier holds until all have arrived") {
  constexpr int kThreads = 4;
  constexpr int kPhases = 200;
  std::atomic<int> arrived{0};
  std::atomic<bool> held{true};
  auto body = [&](const Team& team) {
    for (int phase = 1; phase <= kPhases; ++phase) {
      arrived += 1;
      team.barrier();
      if (arrived < phase * team.size()) held = false;
      team.barrier();
    }
  };
  parallel(kThreads, body);
  CHECK(held);
  CHECK(arrived == kThreads * kPhases);
}

TEST_CASE("barriers hold for teams of any size in turn") {
  std::atomic<int> arrived{0};
  std::atomic<int> early{0};
  for (int region = 0; region < 600; ++region) {
    const int threads = 2 + region % 3 * (region % 5);
    arrived = 0;
    // By value: the body may travel to the threads as a copy.
    const auto body = [&arrived, &early, phases = 1 + region % 4](const Team& team) {
      for (int phase = 1; phase <= phases; ++phase) {
        arrived += 1;
        team.barrier();
        if (arrived < phase * team.size()) early += 1;
        team.barrier();
      }
    };
    parallel(threads, body);
    CHECK(arrived == (1 + region % 4) * threads);
  }
  CHECK(early == 0);
}

TEST_CASE("regions from several threads at once") {
  constexpr int kCallers = 4;
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&] {
      for (int i = 0; i < 300; ++i) {
        if (!complete(take_census(3))) wrong += 1;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK(wrong == 0);
}

TEST_CASE("a region inside a region has a team of one") {
  std::atomic<int> inner{0};
  auto body = [&](const Team&) { inner += take_census(4).size; };
  parallel(3, body);
  CHECK(inner == 3);
}

// Neither ThreadSanitizer nor qemu-user survives the fork of a process with threads.
#if !defined(__SANITIZE_THREAD__) && !defined(FASTLSTM_EMULATED)
TEST_CASE("a forked child starts threads of its own") {
  CHECK(take_census(3).size == 3);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const Census census = take_census(3);
    _exit(census.size == 3 && complete(census) ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(complete(take_census(3)));
}
#endif

TEST_CASE("the halves of a team wait for their own members only") {
  for (const int size : {2, 4, 6}) {
    std::atomic<int> arrived[2] = {};
    std::atomic<int> ranks[2] = {};
    std::atomic<bool> early{false};
    auto body = [&](const Team& team) {
      if (team.size() != size) return;
      const int half = team.half();
      const Team own = team.half_team();
      ranks[half] += 1 << own.rank();
      const int rounds = half == 0 ? 100 : 37;
      for (int round = 1; round <= rounds; ++round) {
        ++arrived[half];
        own.barrier();
        if (arrived[half] != round * own.size()) early = true;
        own.barrier();
      }
      team.barrier();
      if (arrived[0] + arrived[1] != 137 * size / 2) early = true;
    };
    parallel(size, body);
    CHECK_FALSE(early);
    for (const int half : {0, 1}) CHECK(ranks[half] == (1 << size / 2) - 1);
  }
}

TEST_CASE("shares are whole units, in order, and cover everything") {
  for (const int size : {1, 2, 3, 7}) {
    for (const Index unit : {1, 3, 6}) {
      for (const Index count : {0, 1, 5, 6, 7, 18, 100}) {
        Index covered = 0;
        for (int rank = 0; rank < size; ++rank) {
          const Team::Range range = Team(rank, size).share(count, unit);
          CHECK(range.begin == covered);
          CHECK(range.end >= range.begin);
          CHECK((range.end % unit == 0 || range.end == count));
          covered = range.end;
        }
        CHECK(covered == count);
      }
    }
  }
}

TEST_CASE("a call uses no more threads than there are CPUs") {
  const int cpus = available_cpus();
  set_num_threads(cpus + 3);
  CHECK(useful_threads() == cpus + 3);  // as main.cpp allows
  allow_oversubscription(false);
  CHECK(useful_threads() == cpus);
  set_num_threads(1);
  CHECK(useful_threads() == 1);
  allow_oversubscription(true);
  set_num_threads(cpus);
}

TEST_CASE("a thread that comes late again and again tells that a CPU is crowded") {
  allow_oversubscription(false);
  auto body = [](const Team& team) {
    for (int i = 0; i < 16; ++i) {
      if (team.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(3));
      team.barrier();
    }
  };
  parallel(2, body);
  CHECK(cpus_crowded());
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  CHECK_FALSE(cpus_crowded());
  allow_oversubscription(true);
  parallel(2, body);
  CHECK_FALSE(cpus_crowded());  // nobody is told where it is wanted
}

TEST_CASE("a worker leaves the CPU that it shares with another thread") {
  cpu_set_t all;
  REQUIRE(sched_getaffinity(0, sizeof(all), &all) == 0);
  std::vector<cpu_set_t> cpus;  // one each
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &all)) continue;
    cpus.emplace_back();
    CPU_ZERO(&cpus.back());
    CPU_SET(cpu, &cpus.back());
  }
  if (available_cpus() < 2 || cpus.size() < 2) {
    MESSAGE("left out: there is one CPU");
    return;
  }
  const auto run_on = [](const cpu_set_t& set) {
    REQUIRE(sched_setaffinity(0, sizeof(set), &set) == 0);
  };
  // The other CPUs are busy, so the scheduler has no reason to move a thread to them.
  std::atomic<bool> done{false};
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < cpus.size(); ++i) {
    others.emplace_back([&, i] {
      run_on(cpus[i]);
      while (!done) {
      }
    });
  }
  run_on(cpus.front());
  bool moved = false;
  cpu_set_t allowed;
  auto body = [&](const Team& team) {
    if (team.rank() == 1) {
      run_on(cpus.front());
      run_on(all);
    }
    // Each lets the other one wait in turn, for longer than it spins.
    for (int i = 0; i < 200; ++i) {
      if (team.rank() == i % 2) {
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
      team.barrier();
      if (team.rank() == 1 && !CPU_ISSET(sched_getcpu(), &cpus.front())) moved = true;
    }
    if (team.rank() == 1) sched_getaffinity(0, sizeof(allowed), &allowed);
  };
  parallel(2, body);
  done = true;
  for (std::thread& other : others) other.join();
  run_on(all);
  CHECK(moved);
  CHECK(CPU_EQUAL(&allowed, &all));
}

TEST_CASE("a barrier is timed where all threads are free") {
  CHECK(barrier_nanoseconds(2) == 0);  // as main.cpp allows, it may take what it likes
  allow_oversubscription(false);
  double while_busy = 0;
  auto body = [&](const Team& team) {
    if (team.rank() == 0) while_busy = barrier_nanoseconds(3);
  };
  parallel(2, body);
  CHECK(std::isinf(while_busy));
  const double free = barrier_nanoseconds(2);
  CHECK(free > 0);
  CHECK(std::isfinite(free));
  allow_oversubscription(true);
}

TEST_CASE("the number of threads is checked") {
  CHECK(available_cpus() >= 1);
  set_num_threads(3);
  CHECK(num_threads() == 3);
  for (const int wrong : {0, -1, 1025}) {
    CHECK(error_of([&] { set_num_threads(wrong); }) ==
          "num_threads must be an integer from 1 to 1024, got " +
              std::to_string(wrong));
  }
  CHECK(num_threads() == 3);
  set_num_threads(available_cpus());
}

}  // namespace fastlstm::testing
