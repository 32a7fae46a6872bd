// CPUs that the threads of a team share: with other programs, or with each other. What
// shows it is that a thread has to sleep at a barrier. Used by parallel.cpp.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

namespace fastlstm {

using Clock = std::chrono::steady_clock;

// A thread that keeps others waiting for so long has lost its CPU. Now and then it may:
// not for more than a quarter of the time, of which kPatience is had in advance. Who
// loses more is not relied on for a while.
constexpr std::chrono::milliseconds kLate{1};
constexpr std::chrono::milliseconds kLatest{3};  // counted at one time
constexpr std::chrono::milliseconds kPatience{6};
constexpr int kTimeForLoss = 4;
constexpr std::chrono::milliseconds kCrowdedFor{256};
// Threads that sleep on one CPU so soon after each other take turns there.
constexpr std::chrono::milliseconds kTurn{1};

// See cpus_crowded().
class Crowd {
 public:
  // This thread has slept at a barrier.
  void note_sleep(Clock::duration slept) {
    if (slept <= kLate) return;
    // Never waits: one of several late threads will do, and a forked child may find
    // the lock taken for good.
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    const Clock::time_point now = Clock::now();
    lost_ = std::max(Clock::duration(0), lost_ - (now - latest_) / kTimeForLoss) +
            std::min<Clock::duration>(slept, kLatest);
    latest_ = now;
    if (lost_ < kPatience) return;
    lost_ = {};
    until_.store((now + kCrowdedFor).time_since_epoch().count(),
                 std::memory_order_relaxed);
  }

  bool is_here() const {
    const Clock::rep until = until_.load(std::memory_order_relaxed);
    return until != 0 && Clock::now().time_since_epoch().count() < until;
  }

 private:
  std::mutex mutex_;
  Clock::duration lost_{};
  Clock::time_point latest_;
  std::atomic<Clock::rep> until_{0};
};

// Parts threads that have come to lie on one CPU, where they sleep at every barrier:
// beside other programs the scheduler leaves them there.
class SharedCpu {
 public:
  // This thread has slept at a barrier. If another one did so on the same CPU just now,
  // this one moves, provided it may.
  void note_sleep(bool may_move) {
    const int cpu = sched_getcpu();
    if (cpu >= 0 && is_shared(cpu) && may_move) leave(cpu);
  }

 private:
  struct Sleep {
    int cpu;
    std::thread::id thread;
    Clock::time_point end;
  };

  bool is_shared(int cpu) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);  // as in Crowd
    if (!lock.owns_lock()) return false;
    const Sleep sleep = {cpu, std::this_thread::get_id(), Clock::now()};
    const bool shared = sleep.cpu == latest_.cpu && sleep.thread != latest_.thread &&
                        sleep.end - latest_.end < kTurn;
    latest_ = sleep;
    return shared;
  }

  // To any other CPU that this thread may use.
  static void leave(int cpu) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
    cpu_set_t others = allowed;
    CPU_CLR(static_cast<std::size_t>(cpu), &others);
    // None left is an error, and nothing moves.
    if (sched_setaffinity(0, sizeof(others), &others) != 0) return;
    sched_setaffinity(0, sizeof(allowed), &allowed);
  }

  std::mutex mutex_;
  Sleep latest_{-1, {}, {}};
};

}  // namespace fastlstm
