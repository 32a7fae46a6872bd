// Free lists of aligned blocks; see buffer.hpp.
#include "fastlstm/buffer.hpp"

#include <cstdlib>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fastlstm {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t round_up(std::size_t bytes, std::size_t unit) {
  if (bytes > static_cast<std::size_t>(-1) - unit) throw std::bad_alloc();
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

struct Buffer::FreeList {
  struct Block {
    void* data;
    std::size_t capacity;
  };

  ~FreeList() { clear(); }

  std::unique_lock<std::mutex> lock() const {
    if (!shared) return {};
    return std::unique_lock<std::mutex>(mutex);
  }

  void clear() {
    for (const Block& block : blocks) std::free(block.data);
    blocks.clear();
  }

  mutable std::mutex mutex;
  std::vector<Block> blocks;  // oldest first
  std::size_t max_blocks = 0;
  bool shared = true;
};

void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(capacity_, other.capacity_);
  std::swap(home_, other.home_);
}

void Buffer::reset() {
  if (data_ == nullptr) return;
  {
    const auto lock = home_->lock();
    auto& blocks = home_->blocks;
    if (blocks.size() == home_->max_blocks) {  // the oldest goes first
      std::free(blocks.front().data);
      blocks.erase(blocks.begin());
    }
    blocks.push_back({data_, capacity_});
  }
  data_ = nullptr;
  capacity_ = 0;
  home_.reset();
}

BufferPool::BufferPool(std::size_t max_idle_blocks, bool shared)
    : free_(std::make_shared<Buffer::FreeList>()) {
  free_->max_blocks = max_idle_blocks;
  free_->shared = shared;
  free_->blocks.reserve(max_idle_blocks);
}

Buffer BufferPool::acquire(std::size_t bytes) {
  const bool large = bytes >= kHugePage / 2;
  bytes = round_up(bytes == 0 ? 1 : bytes, large ? kHugePage : kAlignment);
  Buffer buffer;
  buffer.home_ = free_;
  {
    // The smallest block that fits without wasting more than half of itself.
    const auto lock = free_->lock();
    auto& blocks = free_->blocks;
    auto best = blocks.end();
    for (auto it = blocks.begin(); it != blocks.end(); ++it) {
      const bool fits = it->capacity >= bytes && it->capacity / 2 <= bytes;
      if (fits && (best == blocks.end() || it->capacity < best->capacity)) best = it;
    }
    if (best != blocks.end()) {
      buffer.data_ = best->data;
      buffer.capacity_ = best->capacity;
      blocks.erase(best);
      return buffer;
    }
  }
  buffer.data_ = std::aligned_alloc(large ? kHugePage : kAlignment, bytes);
  if (buffer.data_ == nullptr) throw std::bad_alloc();
  buffer.capacity_ = bytes;
#ifdef __linux__
  if (large) madvise(buffer.data_, bytes, MADV_HUGEPAGE);
#endif
  return buffer;
}

void BufferPool::trim() {
  const auto lock = free_->lock();
  free_->clear();
}

std::size_t BufferPool::idle_bytes() const {
  const auto lock = free_->lock();
  std::size_t sum = 0;
  for (const auto& block : free_->blocks) sum += block.capacity;
  return sum;
}

}  // namespace fastlstm
