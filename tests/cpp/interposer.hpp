// Watches what a real-time thread must not do. While armed, allocations and thread
// functions of the C library are counted; a system call ends a child process.
#pragma once

namespace fastlstm::testing {

// Runs work() while every allocation, lock and thread function is watched; returns the
// name of the first that was called, or "".
const char* forbidden_call_in(void (*work)(void*), void* context);

// The same of allocations alone.
const char* allocation_in(void (*work)(void*), void* context);

bool can_filter_system_calls();

// Runs work() in a child process that may make no system call but its last. Returns the
// number of the first other one, -1 if there was none, -2 where such a filter cannot be
// had, -3 if the child failed otherwise.
long system_call_in(void (*work)(void*), void* context);

template <class Work>
const char* forbidden_call(Work& work) {
  return forbidden_call_in([](void* w) { (*static_cast<Work*>(w))(); }, &work);
}

template <class Work>
const char* allocation(Work& work) {
  return allocation_in([](void* w) { (*static_cast<Work*>(w))(); }, &work);
}

template <class Work>
long system_call(Work& work) {
  return system_call_in([](void* w) { (*static_cast<Work*>(w))(); }, &work);
}

}  // namespace fastlstm::testing
