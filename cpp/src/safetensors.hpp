// Safetensors files (https://github.com/huggingface/safetensors#format), read strictly:
// a header is hostile until every byte of the file is accounted for. Knows tensors and
// strings, not models. Called by the model reader.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fastlstm/types.hpp"

namespace fastlstm {

struct TensorEntry {
  std::string dtype;  // one of the format's names
  std::vector<Index> shape;
  Index begin;  // of its bytes, from the start of the file
  Index end;
};

struct SafetensorsHeader {
  std::map<std::string, TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
};

// Bytes of a file or of memory. read(offset, out, count) fills out or throws.
struct ByteSource {
  Index size;
  std::function<void(Index offset, void* out, Index count)> read;
};

// A regular file, open as long as a copy lives. Throws FormatError where there is none
// or it cannot be read.
ByteSource open_file(const std::string& path);
ByteSource open_memory(const void* data, Index size);

// Memory use is bound by the header's limit of 1 MiB. Throws FormatError.
SafetensorsHeader read_safetensors_header(const ByteSource& source);

}  // namespace fastlstm
