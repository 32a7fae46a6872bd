// Runs an effect over a WAV file in blocks and prints its real-time factor.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "wav.hpp"

// process(in, out, count) turns count samples into as many. Only its time is counted.
template <class Process>
void run_effect(const char* in_path, const char* out_path, const char* block_text,
                const Process& process) {
  using Clock = std::chrono::steady_clock;
  char* end = nullptr;
  const long block = std::strtol(block_text, &end, 10);
  if (*end != '\0' || block < 1 || block > 1 << 20) {
    throw std::runtime_error("BLOCK must be a number of samples from 1 to 1048576");
  }
  const Sound in = read_wav(in_path);
  Sound out = in;
  const auto total = static_cast<long>(in.samples.size());
  Clock::duration spent{}, longest{};
  for (long begin = 0; begin < total; begin += block) {
    const long count = std::min(block, total - begin);
    const Clock::time_point start = Clock::now();
    process(&in.samples[begin], &out.samples[begin], static_cast<int>(count));
    const Clock::duration taken = Clock::now() - start;
    spent += taken;
    longest = std::max(longest, taken);
  }
  write_wav(out_path, out);
  const double seconds = std::chrono::duration<double>(spent).count();
  const double sound_seconds = static_cast<double>(total) / in.rate;
  std::printf("%.2f s of sound in blocks of %ld: %.4f s, %.4f of real time\n",
              sound_seconds, block, seconds, seconds / sound_seconds);
  std::printf("%.0f ns a sample; longest block %.3f ms of %.3f ms\n",
              1e9 * seconds / static_cast<double>(total),
              1e3 * std::chrono::duration<double>(longest).count(),
              1e3 * static_cast<double>(block) / in.rate);
}
