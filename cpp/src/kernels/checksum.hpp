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
  std::uint64_t lanes[kChecksumLanes];
  std::memcpy(lanes, sums, kBlock);
  const auto add_block = [&lanes](const char* p) {
    for (int i = 0; i < kChecksumLanes; ++i) {
      std::uint64_t word;
      std::memcpy(&word, p + i * sizeof word, sizeof word);
      std::uint64_t x = lanes[i] ^ word;
      x ^= x >> 11;
      lanes[i] = x + (x << 7);
    }
  };
  const char* p = static_cast<const char*>(data);
  for (; bytes >= kBlock; bytes -= kBlock, p += kBlock) add_block(p);
  if (bytes > 0) {
    char last[kBlock] = {};
    std::memcpy(last, p, bytes);
    add_block(last);
  }
  std::memcpy(sums, lanes, kBlock);
}

}  // namespace
}  // namespace fastlstm
