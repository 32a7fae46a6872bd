// The strict safetensors reader; see safetensors.hpp.
#include "safetensors.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

#include "json.hpp"

namespace fastlstm {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are little-endian");

constexpr Index kPrefix = 8;  // the header's length, little-endian
// The limit of the Python reader: a header cannot make the reader take much memory.
constexpr Index kMaxHeader = Index{1} << 20;
constexpr std::size_t kMaxRank = 64;

struct Dtype {
  const char* name;
  Index bytes;
};
constexpr Dtype kDtypes[] = {
    {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8}, {"I32", 4}, {"I16", 2},
    {"I8", 1},  {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1}};

Index dtype_bytes(const std::string& name) {
  for (const Dtype& dtype : kDtypes) {
    if (name == dtype.name) return dtype.bytes;
  }
  throw FormatError("unknown dtype " + shown(name));
}

// Bytes of a tensor. Sizes beside a zero must be possible too.
Index tensor_bytes(const std::vector<Index>& shape, Index element) {
  Index bytes = element;
  bool empty = false;
  for (const Index size : shape) {
    empty = empty || size == 0;
    if (size != 0 && __builtin_mul_overflow(bytes, size, &bytes)) {
      throw FormatError("its shape is too large for any file");
    }
  }
  return empty ? 0 : bytes;
}

std::vector<Index> read_sizes(JsonReader& json, std::size_t most) {
  std::vector<Index> sizes;
  json.array([&] {
    if (sizes.size() == most) {
      throw FormatError("more than " + std::to_string(most) + " sizes");
    }
    sizes.push_back(json.size());
  });
  return sizes;
}

// The offsets are still those of the data.
TensorEntry read_tensor(JsonReader& json) {
  TensorEntry entry{};
  std::vector<Index> offsets;
  int keys = 0;
  json.object([&](const std::string& key) {
    ++keys;
    if (key == "dtype") {
      entry.dtype = json.string();
    } else if (key == "shape") {
      entry.shape = read_sizes(json, kMaxRank);
    } else if (key == "data_offsets") {
      offsets = read_sizes(json, 2);
    } else {
      throw FormatError("unknown key " + shown(key));
    }
  });
  if (keys != 3) throw FormatError("it must have dtype, shape and data_offsets");
  if (offsets.size() != 2) throw FormatError("it must have two data_offsets");
  entry.begin = offsets[0];
  entry.end = offsets[1];
  const Index bytes = tensor_bytes(entry.shape, dtype_bytes(entry.dtype));
  if (entry.end - entry.begin != bytes) {
    throw FormatError("its shape and dtype take " + std::to_string(bytes) +
                      " bytes, its data_offsets say " +
                      std::to_string(entry.end - entry.begin));
  }
  return entry;
}

// The tensors must tile the data: no overlap, no hole, nothing left over.
void check_layout(const SafetensorsHeader& header, Index data_size) {
  using Piece = std::pair<std::pair<Index, Index>, const std::string*>;
  std::vector<Piece> pieces;
  pieces.reserve(header.tensors.size());
  for (const auto& [name, entry] : header.tensors) {
    pieces.push_back({{entry.begin, entry.end}, &name});
  }
  std::sort(pieces.begin(), pieces.end());
  Index position = 0;
  for (const auto& [range, name] : pieces) {
    if (range.first != position) {
      throw FormatError(
          "tensor " + shown(*name) +
          (range.first < position ? " overlaps another" : " leaves a hole before it"));
    }
    position = range.second;
  }
  if (position != data_size) {
    throw FormatError("the tensors take " + std::to_string(position) +
                      " bytes, the file has " + std::to_string(data_size) +
                      " for them");
  }
}

SafetensorsHeader parse_header(std::string_view text) {
  if (text.empty() || text.front() != '{') {
    throw FormatError("the header must start with '{'");
  }
  SafetensorsHeader header;
  JsonReader json(text);
  json.object([&](const std::string& name) {
    if (name == "__metadata__") {
      json.object(
          [&](const std::string& key) { header.metadata[key] = json.string(); });
      return;
    }
    try {
      header.tensors[name] = read_tensor(json);
    } catch (const FormatError& error) {
      throw FormatError("tensor " + shown(name) + ": " + error.what());
    }
  });
  json.end();
  return header;
}

[[noreturn]] void fail_with_errno() {
  throw FormatError(std::generic_category().message(errno));
}

void read_from(int descriptor, Index offset, void* out, Index count) {
  auto* to = static_cast<char*>(out);
  while (count > 0) {
    const ssize_t got = pread(descriptor, to, static_cast<std::size_t>(count), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_with_errno();
    if (got == 0) throw FormatError("the file became shorter while it was read");
    to += got;
    offset += got;
    count -= got;
  }
}

}  // namespace

ByteSource open_file(const std::string& path) {
  // Opening a pipe without O_NONBLOCK would wait for its writer.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) fail_with_errno();
  const std::shared_ptr<const int> file(new int(descriptor), [](const int* open_file) {
    close(*open_file);
    delete open_file;
  });
  struct stat status = {};
  if (fstat(descriptor, &status) != 0) fail_with_errno();
  if (!S_ISREG(status.st_mode)) throw FormatError("not a regular file");
  return {static_cast<Index>(status.st_size),
          [file](Index offset, void* out, Index count) {
            read_from(*file, offset, out, count);
          }};
}

ByteSource open_memory(const void* data, Index size) {
  return {size, [data](Index offset, void* out, Index count) {
            std::memcpy(out, static_cast<const char*>(data) + offset,
                        static_cast<std::size_t>(count));
          }};
}

SafetensorsHeader read_safetensors_header(const ByteSource& source) {
  if (source.size < kPrefix) {
    throw FormatError("a safetensors file has at least 8 bytes, got " +
                      std::to_string(source.size));
  }
  std::uint64_t length = 0;
  source.read(0, &length, kPrefix);
  const Index most = std::min(source.size - kPrefix, kMaxHeader);
  if (length > static_cast<std::uint64_t>(most)) {
    throw FormatError("the header's length must be at most " + std::to_string(most) +
                      ", got " + std::to_string(length));
  }
  std::string text(length, '\0');
  source.read(kPrefix, text.data(), static_cast<Index>(length));
  SafetensorsHeader header = parse_header(text);
  const Index data = kPrefix + static_cast<Index>(length);
  check_layout(header, source.size - data);
  for (auto& item : header.tensors) {
    item.second.begin += data;
    item.second.end += data;
  }
  return header;
}

}  // namespace fastlstm
