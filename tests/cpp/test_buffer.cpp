// Buffers and their pool: alignment, reuse, limits, lifetimes, and sizes that overflow.
#include <thread>
#include <utility>

#include "arena.hpp"
#include "support.hpp"

namespace fastlstm::testing {

TEST_CASE("a block is aligned and at least as large as asked") {
  BufferPool pool;
  for (const std::size_t bytes : {0, 1, 63, 64, 65, 100000, 3 << 20}) {
    const Buffer buffer = pool.acquire(bytes);
    CHECK(buffer.capacity() >= bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(buffer.data()) % 64 == 0);
    std::memset(buffer.data(), 1, buffer.capacity());
  }
}

TEST_CASE("a released block is handed out again") {
  BufferPool pool;
  Buffer buffer = pool.acquire(5000);
  const void* block = buffer.data();
  CHECK(pool.idle_bytes() == 0);
  buffer.reset();
  CHECK(buffer.data() == nullptr);
  CHECK(pool.idle_bytes() >= 5000);
  CHECK(pool.acquire(4000).data() == block);

  const Buffer small = pool.acquire(100);  // would waste most of the block
  CHECK(small.data() != block);
}

TEST_CASE("trim gives idle blocks back") {
  BufferPool pool;
  const Buffer used = pool.acquire(5000);
  pool.acquire(9000).reset();
  CHECK(pool.idle_bytes() > 0);
  pool.trim();
  CHECK(pool.idle_bytes() == 0);
  std::memset(used.data(), 1, used.capacity());
}

TEST_CASE("the free list is bounded") {
  BufferPool pool;
  std::vector<Buffer> buffers;
  for (int i = 0; i < 100; ++i) buffers.push_back(pool.acquire(64));
  buffers.clear();
  CHECK(pool.idle_bytes() <= 32 * 64);
}

TEST_CASE("a buffer may outlive its pool") {
  Buffer buffer;
  {
    BufferPool pool;
    buffer = pool.acquire(1000);
  }
  std::memset(buffer.data(), 1, buffer.capacity());
}

TEST_CASE("moving a buffer moves its block") {
  BufferPool pool;
  Buffer first = pool.acquire(100);
  void* block = first.data();
  Buffer second = std::move(first);
  CHECK(second.data() == block);
  Buffer third = pool.acquire(100);
  third = std::move(second);
  CHECK(third.data() == block);
}

TEST_CASE("several threads may use one pool") {
  BufferPool pool;
  std::vector<std::thread> users;
  for (int user = 0; user < 4; ++user) {
    users.emplace_back([&pool, user] {
      for (int i = 0; i < 500; ++i) {
        const Buffer buffer = pool.acquire(static_cast<std::size_t>(64 + 64 * (i % 7)));
        std::memset(buffer.data(), user, buffer.capacity());
      }
    });
  }
  for (std::thread& user : users) user.join();
  CHECK(pool.idle_bytes() > 0);
}

TEST_CASE("sizes that no memory can hold") {
  BufferPool pool;
  CHECK_THROWS_AS(pool.acquire(static_cast<std::size_t>(-1)), std::bad_alloc);
  CHECK_THROWS_AS(checked_product(Index{1} << 40, Index{1} << 40), std::length_error);
  CHECK(checked_product(3, 5) == 15);
}

TEST_CASE("an arena measures first and then cuts") {
  alignas(kArenaAlignment) char memory[512];
  for (Arena arena;;) {
    auto* floats = arena.take<float>(3);
    auto* doubles = arena.take<double>(1);
    CHECK(arena.used() == 128);
    if (floats == nullptr) {
      arena = Arena(memory);
      continue;
    }
    CHECK(reinterpret_cast<char*>(floats) == memory);
    CHECK(reinterpret_cast<char*>(doubles) == memory + 64);
    break;
  }
}

}  // namespace fastlstm::testing
