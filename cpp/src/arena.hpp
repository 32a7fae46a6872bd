// Cuts one buffer into aligned pieces. Sizes are added up first, with overflow checks,
// then handed out in the same order.
#pragma once

#include <cstddef>
#include <stdexcept>

#include "fastlstm/buffer.hpp"
#include "fastlstm/types.hpp"

namespace fastlstm {

constexpr Index kArenaAlignment = 64;

// a * b for sizes; throws std::length_error where memory could never hold it.
inline Index checked_product(Index a, Index b) {
  Index product = 0;
  if (__builtin_mul_overflow(a, b, &product) || product > (Index{1} << 56)) {
    throw std::length_error("array too large for this machine");
  }
  return product;
}

// A first pass with a null base only measures; a second pass hands out pointers.
class Arena {
 public:
  explicit Arena(void* base = nullptr) : base_(static_cast<char*>(base)) {}

  template <class T>
  T* take(Index count) {
    const Index bytes = checked_product(count, sizeof(T));
    char* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
    return reinterpret_cast<T*>(piece);
  }
  std::size_t used() const { return static_cast<std::size_t>(used_); }

 private:
  char* base_;
  Index used_ = 0;
};

// A block of the pool for the pieces that take(arena) takes; it is called twice, and
// the second time they are real.
template <class Take>
Buffer acquire_pieces(BufferPool& pool, const Take& take) {
  Arena measure;
  take(measure);
  Buffer memory = pool.acquire(measure.used());
  Arena arena(memory.data());
  take(arena);
  return memory;
}

}  // namespace fastlstm
