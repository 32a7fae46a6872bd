// A checksum of parameters at memory speed, in plain loops that the compiler vectorises
// for each instruction set. Every step is invertible, so a change of any one word
// always shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "table.hpp"

namespace fastlstm {
namespace {

void checksum(const void* data, std::size_t bytes, std::uint64_t* sums) {
  constexpr std::size_t kBlock = kChecksumLanes * sizeof(std::uint64_t);
  const char* p = static_cast<const char*>(data);
  std::uint64_t lanes[kChecksumLanes];
  std::memcpy(lanes, sums, kBlock);
  for (std::size_t begin = 0; begin < bytes; begin += kBlock) {
    std::uint64_t words[kChecksumLanes] = {};
    std::memcpy(words, p + begin, bytes - begin < kBlock ? bytes - begin : kBlock);
    for (int i = 0; i < kChecksumLanes; ++i) {
      std::uint64_t x = lanes[i] ^ words[i];
      x ^= x >> 11;
      lanes[i] = x + (x << 7);
    }
  }
  std::memcpy(sums, lanes, kBlock);
}

}  // namespace
}  // namespace fastlstm
