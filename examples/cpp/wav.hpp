// WAV files of one channel and 16 bits: all that the examples read and write.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct Sound {
  std::uint32_t rate = 0;      // samples a second
  std::vector<float> samples;  // within +-1
};

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

inline File open_file(const std::string& path, const char* mode) {
  File file(std::fopen(path.c_str(), mode), std::fclose);
  if (!file) throw std::runtime_error("cannot open " + path);
  return file;
}

inline std::uint32_t little_endian(const unsigned char* bytes, int count) {
  std::uint32_t value = 0;
  for (int i = count - 1; i >= 0; --i) value = value << 8 | bytes[i];
  return value;
}

inline void append(std::string& bytes, std::uint32_t value, int count) {
  for (int i = 0; i < count; ++i) bytes += static_cast<char>(value >> 8 * i & 255);
}

inline Sound read_wav(const std::string& path) {
  const File file = open_file(path, "rb");
  unsigned char head[12];
  if (std::fread(head, 1, 12, file.get()) != 12 || std::memcmp(head, "RIFF", 4) != 0 ||
      std::memcmp(head + 8, "WAVE", 4) != 0) {
    throw std::runtime_error(path + " is no WAV file");
  }
  Sound sound;
  unsigned char chunk[8];
  while (std::fread(chunk, 1, 8, file.get()) == 8) {
    const std::uint32_t size = little_endian(chunk + 4, 4);
    if (std::memcmp(chunk, "fmt ", 4) == 0 && size >= 16) {
      unsigned char format[16];
      if (std::fread(format, 1, 16, file.get()) != 16) break;
      sound.rate = little_endian(format + 4, 4);
      // PCM, one channel, 16 bits
      if (little_endian(format, 2) != 1 || little_endian(format + 2, 2) != 1 ||
          little_endian(format + 14, 2) != 16) {
        throw std::runtime_error(path + " must have one channel of 16 bits");
      }
      std::fseek(file.get(), static_cast<long>(size - 16 + size % 2), SEEK_CUR);
    } else if (std::memcmp(chunk, "data", 4) == 0 && sound.rate != 0) {
      // The size in the file is not believed: what is there is read.
      unsigned char pair[2];
      for (std::uint32_t i = 0; i + 1 < size; i += 2) {
        if (std::fread(pair, 1, 2, file.get()) != 2) break;
        const auto value = static_cast<std::int16_t>(little_endian(pair, 2));
        sound.samples.push_back(static_cast<float>(value) / 32767.0f);
      }
      return sound;
    } else {
      std::fseek(file.get(), static_cast<long>(size + size % 2), SEEK_CUR);
    }
  }
  throw std::runtime_error(path + " has no samples");
}

inline void write_wav(const std::string& path, const Sound& sound) {
  const auto size = static_cast<std::uint32_t>(2 * sound.samples.size());
  std::string bytes = "RIFF";
  append(bytes, 36 + size, 4);
  bytes += "WAVEfmt ";
  append(bytes, 16, 4);  // size of what follows
  append(bytes, 1, 2);   // PCM
  append(bytes, 1, 2);   // channels
  append(bytes, sound.rate, 4);
  append(bytes, 2 * sound.rate, 4);  // bytes a second
  append(bytes, 2, 2);               // bytes a sample
  append(bytes, 16, 2);              // bits a sample
  bytes += "data";
  append(bytes, size, 4);
  for (const float sample : sound.samples) {
    const float held = sample > 1 ? 1 : (sample > -1 ? sample : -1);
    append(bytes, static_cast<std::uint32_t>(std::lrint(held * 32767)), 2);
  }
  const File file = open_file(path, "wb");
  if (std::fwrite(bytes.data(), 1, bytes.size(), file.get()) != bytes.size() ||
      std::fflush(file.get()) != 0) {
    throw std::runtime_error("cannot write " + path);
  }
}
