// See interposer.hpp. The functions defined here take the place of the C library's in
// the whole program, operator new and the standard library among their callers.
#include "interposer.hpp"

#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <new>

namespace {

enum Armed : int { nothing, allocations, everything };
std::atomic<int> armed{nothing};
std::atomic<const char*> first_call{nullptr};

void note(const char* name, Armed least = everything) {
  const char* none = nullptr;
  if (armed.load() >= least) first_call.compare_exchange_strong(none, name);
}

// The C library's own function of this name; looked up before anything is armed.
template <class Function>
Function* original(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t size) {
  note("malloc", allocations);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) {
  note("calloc", allocations);
  return __libc_calloc(count, size);
}
void* realloc(void* old, std::size_t size) {
  note("realloc", allocations);
  return __libc_realloc(old, size);
}
void* memalign(std::size_t alignment, std::size_t size) {
  note("memalign", allocations);
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  note("aligned_alloc", allocations);
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t size) {
  note("posix_memalign", allocations);
  *out = __libc_memalign(alignment, size);
  return *out == nullptr ? ENOMEM : 0;
}
void free(void* old) {
  note("free", allocations);
  __libc_free(old);
}

// NOLINTBEGIN(bugprone-macro-parentheses)
#define FASTLSTM_WATCH(name, parameters, arguments)            \
  int name parameters {                                        \
    note(#name);                                               \
    static auto* const real = original<int parameters>(#name); \
    return real arguments;                                     \
  }
// NOLINTEND(bugprone-macro-parentheses)
FASTLSTM_WATCH(pthread_mutex_lock, (pthread_mutex_t * m), (m))
FASTLSTM_WATCH(pthread_mutex_trylock, (pthread_mutex_t * m), (m))
FASTLSTM_WATCH(pthread_mutex_unlock, (pthread_mutex_t * m), (m))
FASTLSTM_WATCH(pthread_rwlock_rdlock, (pthread_rwlock_t * l), (l))
FASTLSTM_WATCH(pthread_rwlock_wrlock, (pthread_rwlock_t * l), (l))
FASTLSTM_WATCH(pthread_cond_wait, (pthread_cond_t * c, pthread_mutex_t* m), (c, m))
FASTLSTM_WATCH(pthread_cond_signal, (pthread_cond_t * c), (c))
FASTLSTM_WATCH(pthread_cond_broadcast, (pthread_cond_t * c), (c))
FASTLSTM_WATCH(sem_wait, (sem_t * s), (s))
FASTLSTM_WATCH(sem_post, (sem_t * s), (s))
FASTLSTM_WATCH(sched_yield, (), ())
#undef FASTLSTM_WATCH
}

namespace fastlstm::testing {
namespace {

// Shared with the child: the system call that was caught, plus one.
std::atomic<long>* caught = nullptr;

void on_system_call(int, siginfo_t* info, void*) {
  caught->store(info->si_syscall + 1);
  _exit(2);
}

// From here on this process may end, and nothing else.
bool forbid_system_calls() {
  struct sigaction action = {};
  action.sa_sigaction = on_system_call;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGSYS, &action, nullptr) != 0) return false;
  sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_exit_group, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
  };
  sock_fprog program = {sizeof rules / sizeof rules[0], rules};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

namespace {

const char* first_call_in(void (*work)(void*), void* context, Armed what) {
  first_call.store(nullptr);
  armed.store(what);
  work(context);
  armed.store(nothing);
  const char* name = first_call.load();
  return name == nullptr ? "" : name;
}

}  // namespace

const char* forbidden_call_in(void (*work)(void*), void* context) {
  return first_call_in(work, context, everything);
}

const char* allocation_in(void (*work)(void*), void* context) {
  return first_call_in(work, context, allocations);
}

bool can_filter_system_calls() {
#ifdef FASTLSTM_EMULATED
  return false;  // qemu-user has no seccomp
#else
  return true;
#endif
}

long system_call_in(void (*work)(void*), void* context) {
  void* page = mmap(nullptr, sizeof *caught, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return -3;
  caught = new (page) std::atomic<long>(0);
  const pid_t child = fork();
  if (child == 0) {
    if (!forbid_system_calls()) _exit(3);
    work(context);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const long number = caught->load() - 1;
  munmap(page, sizeof *caught);
  if (number >= 0) return number;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 3 ? -2 : -3;
}

}  // namespace fastlstm::testing
