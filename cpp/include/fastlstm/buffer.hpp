// Memory that is kept: fresh pages cost more than most arithmetic here, so large
// buffers return to a free list and are handed out again.
#pragma once

#include <cstddef>
#include <memory>

#include "fastlstm/export.h"

namespace fastlstm {

class BufferPool;

// A 64-byte aligned block; goes back to its pool when destroyed. Contents are
// undefined.
class FASTLSTM_API Buffer {
 public:
  Buffer() = default;
  ~Buffer() { reset(); }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  std::size_t capacity() const { return capacity_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  void reset();

 private:
  friend class BufferPool;
  struct FreeList;
  void swap(Buffer& other) noexcept;

  void* data_ = nullptr;
  std::size_t capacity_ = 0;
  std::shared_ptr<FreeList> home_;
};

// A free list of blocks. Buffers may outlive it.
class FASTLSTM_API BufferPool {
 public:
  // Keeps up to this many blocks; a loop of training needs about ten. Not shared: the
  // pool and its buffers serve one thread at a time, and no lock is taken.
  explicit BufferPool(std::size_t max_idle_blocks = 32, bool shared = true);
  // A block of at least `bytes`. Throws std::bad_alloc.
  Buffer acquire(std::size_t bytes);
  // Gives all blocks on the free list back to the system.
  void trim();
  // Bytes on the free list.
  std::size_t idle_bytes() const;

 private:
  std::shared_ptr<Buffer::FreeList> free_;
};

}  // namespace fastlstm
