// interposer.hpp by RealtimeSanitizer, which watches more functions of the C library
// than interposer.cpp: each piece of work runs in a child process, in a function that
// must not block, and the sanitizer ends the child at the first call that might.
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "interposer.hpp"

namespace fastlstm::testing {
namespace {

void run_in_real_time(void (*work)(void*), void* context) noexcept
    [[clang::nonblocking]] {
  work(context);
}

// What the child says on stderr, and whether it came to its end.
std::string run_in_child(void (*work)(void*), void* context, bool& ended) {
  int ends[2];
  if (pipe(ends) != 0) return "pipe";
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    run_in_real_time(work, context);
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char piece[4096];
  for (ssize_t got; (got = read(ends[0], piece, sizeof(piece))) > 0;) {
    text.append(piece, static_cast<std::size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  ended = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return text;
}

}  // namespace

// The report names the function between these two.
const char* forbidden_call_in(void (*work)(void*), void* context) {
  static std::string name;
  bool ended = false;
  name = run_in_child(work, context, ended);
  if (ended) return "";
  const std::string before = "real-time unsafe function `";
  const std::size_t at = name.find(before);
  if (at == std::string::npos) return name.c_str();
  name.erase(0, at + before.size());
  name.resize(name.find('`'));
  return name.c_str();
}

bool can_filter_system_calls() { return false; }

long system_call_in(void (*)(void*), void*) { return -2; }

}  // namespace fastlstm::testing
