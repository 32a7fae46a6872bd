// Thread pool: workers are started on first use and kept; see parallel.hpp.
#include "parallel.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "cache_line.hpp"
#include "cgroup.hpp"
#include "cpu_sharing.hpp"
#include "fastlstm/threads.hpp"

namespace fastlstm {
namespace {

// A round trip through a sleeping thread takes about 50 us, so waiting longer than that
// in a spin cannot pay.
constexpr std::chrono::microseconds kSpin{50};
constexpr int kSpinsPerClockRead = 64;
// A barrier is timed anew after so long, for virtual CPUs move: a few times some, of
// which the fastest counts, so that a thread that still sleeps does no harm.
constexpr std::chrono::milliseconds kTimedFor{100};
constexpr int kTimings = 5;
constexpr int kTimedBarriers = 8;
constexpr int kMaxThreads = 1024;

inline void pause() {
#if defined(FASTLSTM_X86)
  __builtin_ia32_pause();
#elif defined(FASTLSTM_AARCH64)
  __asm__ volatile("yield");
#endif
}

Crowd crowd;
SharedCpu shared_cpu;

// The thread that calls is the program's: it stays where it is.
thread_local bool is_worker = false;

// Whether ready() has come true within kSpin.
template <class Ready>
bool spin_until(const Ready& ready) {
  Clock::time_point deadline;
  for (bool first = true;; first = false) {
    for (int i = 0; i < kSpinsPerClockRead; ++i) {
      if (ready()) return true;
      pause();
    }
    const Clock::time_point now = Clock::now();
    if (first) deadline = now + kSpin;
    if (now >= deadline) return false;
  }
}

// Where threads sleep until ready() is true. Who makes it true, by a write of seq_cst,
// calls unpark() after that.
class Parking {
 public:
  void unpark() {
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    { const std::lock_guard<std::mutex> lock(mutex_); }  // nobody is about to sleep
    wake_.notify_all();
  }

  // Returns how long it has slept.
  template <class Ready>
  Clock::duration park_until(const Ready& ready) {
    const auto begin = Clock::now();
    std::unique_lock<std::mutex> lock(mutex_);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    wake_.wait(lock, ready);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
    return Clock::now() - begin;
  }

 private:
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

// Every thread counts its arrivals in a cache line of its own and watches those of the
// others: a line travels once, while a common counter would go from hand to hand.
class Barrier {
 public:
  // For up to `threads`, all of which have left: makes their counts alike.
  void reset(int threads) {
    if (threads > size_) counts_ = std::make_unique<Count[]>(to_size(threads));
    size_ = std::max(size_, threads);
    for (int i = 0; i < size_; ++i) count(i).store(0, std::memory_order_relaxed);
  }

  // Counts this thread, which does not wait and, as the counts may be reset now,
  // touches them no more.
  void leave(int rank) {
    add(rank);
    parking_.unpark();
  }

  void wait(int rank, int size, bool spin) {
    add(rank);
    const auto ready = [&] { return are_here(rank, size); };
    if (ready()) {
      parking_.unpark();
      return;
    }
    if (spin && spin_until(ready)) return;
    const auto slept = parking_.park_until(ready);
    crowd.note_sleep(slept);
    // Who does not spin is one of more threads than CPUs.
    if (spin) shared_cpu.note_sleep(is_worker);
  }

 private:
  struct alignas(kCacheLine) Count {
    std::atomic<unsigned> value{0};
  };
  static std::size_t to_size(int n) { return static_cast<std::size_t>(n); }
  std::atomic<unsigned>& count(int rank) { return counts_[to_size(rank)].value; }
  // Not a store: qemu lets the load pass an ARM store, and a wake would be lost.
  void add(int rank) { count(rank).fetch_add(1, std::memory_order_seq_cst); }
  // As often as this thread. Who has gone on may have come once more.
  bool are_here(int rank, int size) {
    const unsigned own = count(rank).load(std::memory_order_relaxed);
    for (int i = 0; i < size; ++i) {
      if (count(i).load(std::memory_order_seq_cst) - own > 1) return false;
    }
    return true;
  }

  std::unique_ptr<Count[]> counts_;
  int size_ = 0;
  Parking parking_;
};

class alignas(kCacheLine) Pool {
 public:
  void run(int threads, RegionBody body, void* context, std::size_t bytes) {
    threads = grow(threads);
    if (threads != size_) {
      size_ = threads;
      for (Barrier& barrier : barriers_) barrier.reset(threads);
      spin_.store(threads <= available_cpus(), std::memory_order_relaxed);
    }
    body_ = body;
    context_ = bytes > 0 ? std::memcpy(inlined_, context, bytes) : context;
    const unsigned region = (start_.load(std::memory_order_relaxed) >> kSizeBits) + 1;
    start_.exchange(region << kSizeBits | static_cast<unsigned>(threads),
                    std::memory_order_seq_cst);
    parking_.unpark();
    body(context, Team(0, threads));
    barrier(0, 0, threads);
  }

  // `rank` of `size` threads of the running region: all, or one of its halves.
  void barrier(int which, int rank, int size) {
    barriers_[which].wait(rank, size, spin_.load(std::memory_order_relaxed));
  }

 private:
  // Threads there are, workers and the caller, after starting as many as can be had.
  int grow(int threads) {
    while (static_cast<int>(workers_.size()) + 1 < threads) {
      const int rank = static_cast<int>(workers_.size()) + 1;
      const unsigned seen = start_.load(std::memory_order_relaxed);
      try {
        workers_.emplace_back([this, rank, seen] { work(rank, seen); });
      } catch (const std::system_error&) {
        break;
      }
    }
    const int have = static_cast<int>(workers_.size()) + 1;
    return threads < have ? threads : have;
  }

  void work(int rank, unsigned seen) {
    is_worker = true;
    bool spin = true;
    const auto has_begun = [&] {
      return start_.load(std::memory_order_seq_cst) != seen;
    };
    for (;;) {
      if (!spin || !spin_until(has_begun)) parking_.park_until(has_begun);
      seen = start_.load(std::memory_order_acquire);
      const int size = team_size(seen);
      spin = rank < size && spin_.load(std::memory_order_relaxed);
      if (rank >= size) continue;
      body_(context_, Team(rank, size));
      barriers_[0].leave(rank);
    }
  }

  // A region's number and its team size travel in one value, so that a worker which
  // wakes late can never take the size of one region for that of another.
  static constexpr unsigned kSizeBits = 11;  // kMaxThreads fits
  static int team_size(unsigned start) {
    return static_cast<int>(start & ((1u << kSizeBits) - 1));
  }

  // In one cache line with the value that the workers watch.
  RegionBody body_ = nullptr;
  void* context_ = nullptr;
  alignas(16) unsigned char inlined_[kInlinedBytes];
  std::atomic<unsigned> start_{0};

  alignas(kCacheLine) Parking parking_;
  std::atomic<bool> spin_{true};
  int size_ = 0;  // of the latest team
  Barrier barriers_[3];
  std::vector<std::thread> workers_;

 public:
  std::atomic<bool> busy{false};
};

// Never destroyed: workers may still sleep in it when the process ends. A forked child
// has no workers, so it starts over with an empty pool.
Pool* pool_instance = nullptr;

Pool& pool() {
  static std::once_flag once;
  std::call_once(once, [] {
    pool_instance = new Pool;
    pthread_atfork(nullptr, nullptr, [] { pool_instance = new Pool; });
  });
  return *pool_instance;
}

int count_cpus() {
  cpu_set_t set;
  int cpus = 0;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cpus = CPU_COUNT(&set);
  if (cpus < 1) cpus = static_cast<int>(std::thread::hardware_concurrency());
  const int quota = quota_cpus();
  if (quota > 0 && quota < cpus) cpus = quota;
  return cpus < 1 ? 1 : cpus;
}

int checked_threads(long n, const char* name, const std::string& got) {
  if (n >= 1 && n <= kMaxThreads) return static_cast<int>(n);
  throw std::invalid_argument(std::string(name) + " must be an integer from 1 to " +
                              std::to_string(kMaxThreads) + ", got " + got);
}

int default_threads() {
  const char* text = std::getenv("FASTLSTM_NUM_THREADS");
  if (text == nullptr || text[0] == '\0') return available_cpus();
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  return checked_threads(*end == '\0' ? n : 0, "FASTLSTM_NUM_THREADS", text);
}

std::atomic<int> thread_limit{0};
std::atomic<bool> oversubscription{false};

// See barrier_nanoseconds().
class BarrierTimer {
 public:
  double nanoseconds(int threads) {
    const std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);  // as in Crowd
    if (!lock.owns_lock()) return kUnknown;
    const Clock::time_point now = Clock::now();
    if (threads != threads_ || now - timed_ > kTimedFor) {
      latest_ = time_barriers(threads);
      threads_ = threads;
      timed_ = now;
    }
    return latest_;
  }

 private:
  static constexpr double kUnknown = std::numeric_limits<double>::infinity();

  static double time_barriers(int threads) {
    double best = kUnknown;
    auto body = [&](const Team& team) {
      if (team.size() != threads) return;  // others use them
      for (int timing = 0; timing < kTimings; ++timing) {
        const Clock::time_point begin = Clock::now();
        for (int i = 0; i < kTimedBarriers; ++i) team.barrier();
        const std::chrono::duration<double, std::nano> time = Clock::now() - begin;
        if (team.rank() == 0) best = std::min(best, time.count() / kTimedBarriers);
      }
    };
    parallel(threads, body);
    return best;
  }

  std::mutex mutex_;
  int threads_ = 0;
  double latest_ = kUnknown;
  Clock::time_point timed_;
};

BarrierTimer barrier_timer;

}  // namespace

int available_cpus() {
  static const int cpus = count_cpus();
  return cpus;
}

int num_threads() {
  const int limit = thread_limit.load(std::memory_order_relaxed);
  if (limit > 0) return limit;
  const int threads = default_threads();
  thread_limit.store(threads, std::memory_order_relaxed);
  return threads;
}

void set_num_threads(int n) {
  thread_limit.store(checked_threads(n, "num_threads", std::to_string(n)),
                     std::memory_order_relaxed);
}

int useful_threads(int max_threads) {
  if (max_threads == 1) return 1;
  int threads = num_threads();
  if (max_threads > 0) threads = std::min(threads, max_threads);
  if (oversubscription.load(std::memory_order_relaxed)) return threads;
  return std::min(threads, available_cpus());
}

bool cpus_crowded() {
  return !oversubscription.load(std::memory_order_relaxed) && crowd.is_here();
}

double barrier_nanoseconds(int threads) {
  if (oversubscription.load(std::memory_order_relaxed)) return 0;
  return barrier_timer.nanoseconds(threads);
}

void allow_oversubscription(bool allow) {
  oversubscription.store(allow, std::memory_order_relaxed);
}

void Team::barrier() const {
  if (size_ > 1) pool().barrier(barrier_, rank_, size_);
}

void run_region(int threads, RegionBody body, void* context, std::size_t bytes) {
  if (threads > 1) {
    Pool& workers = pool();
    if (!workers.busy.exchange(true, std::memory_order_acquire)) {
      workers.run(threads, body, context, bytes);
      workers.busy.store(false, std::memory_order_release);
      return;
    }
  }
  body(context, Team(0, 1));
}

}  // namespace fastlstm
