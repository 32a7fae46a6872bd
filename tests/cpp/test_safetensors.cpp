// The strict safetensors reader: hostile headers, layouts and files.
#include "safetensors.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <fstream>

#include "json.hpp"
#include "model_files.hpp"

using namespace fastlstm;
using namespace fastlstm::testing;

namespace {

SafetensorsHeader header_of(const std::vector<char>& bytes) {
  return read_safetensors_header(
      open_memory(bytes.data(), static_cast<Index>(bytes.size())));
}

// The error of {"a": <info>} before this many bytes of data.
std::string refusal(const std::string& header, std::size_t data = 0) {
  return error_of([&] { header_of(file_of(header, std::string(data, '\0'))); });
}

std::string info(const std::string& shape, const std::string& offsets,
                 const std::string& dtype = "F32") {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" +
         offsets + "}";
}

std::string one(const std::string& shape, const std::string& offsets,
                const std::string& dtype = "F32") {
  return R"({"a":)" + info(shape, offsets, dtype) + "}";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Index peak_bytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<Index>(usage.ru_maxrss) * 1024;
}

}  // namespace

TEST_CASE("safetensors: a good file") {
  const auto header = header_of(file_of(
      R"({"__metadata__":{"k":"v"},"b":)" + info("[2]", "[8,16]") + R"(,"a":)" +
          info("[1,1]", "[0,8]", "F64") + R"(,"none":)" + info("[0,3]", "[16,16]") +
          R"(,"one":)" + info("[]", "[16,17]", "U8") + "}   ",
      std::string(17, 'x')));
  CHECK(header.metadata.at("k") == "v");
  REQUIRE(header.tensors.size() == 4);
  const TensorEntry& b = header.tensors.at("b");
  CHECK(b.dtype == "F32");
  CHECK(b.shape == std::vector<Index>{2});
  CHECK(b.end - b.begin == 8);
  CHECK(b.begin - header.tensors.at("a").begin == 8);
}

TEST_CASE("safetensors: refused headers") {
  CHECK(contains(refusal(""), "must start with '{'"));
  CHECK(contains(refusal(" {}"), "must start with '{'"));
  CHECK(contains(refusal("{} {}"), "the end must come"));
  CHECK(contains(refusal("{\"a\xFF\":1}"), "not UTF-8 at byte 3"));
  CHECK(contains(refusal(R"({"a":1})"), "'a'"));
  CHECK(
      contains(refusal(R"({"a":)" + std::string(500000, '[')), "an object must come"));
  CHECK(contains(refusal(R"({"__metadata__":{"k":"1","k":"2"}})"), "'k' comes twice"));
  CHECK(contains(refusal(R"({"__metadata__":{"k":1}})"), "a string must come"));
  CHECK(contains(refusal(R"({"__metadata__":null})"), "an object must come"));
  const std::string empty = info("[0]", "[0,0]");
  CHECK(contains(refusal(R"({"a":)" + empty + R"(,"a":)" + empty + "}"),
                 "'a' comes twice"));
  CHECK(contains(refusal(R"({"a":{"dtype":"F32","shape":[]}})"), "must have dtype"));
  CHECK(contains(refusal(R"({"a":{"dtype":"F32","size":[]}})"), "unknown key 'size'"));
  CHECK(contains(refusal(one("[1]", "[0,4]", "F99"), 4), "unknown dtype 'F99'"));
  CHECK(contains(refusal(one("[-1]", "[0,4]"), 4), "an integer from 0"));
  CHECK(contains(refusal(one("[1.0]", "[0,4]"), 4), "an integer from 0"));
  CHECK(contains(refusal(one("[1]", "[0]"), 4), "two data_offsets"));
  CHECK(contains(refusal(one("[1]", "[0,4,8]"), 8), "more than 2"));
  std::string ones = "[1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  CHECK(contains(refusal(one(ones + "]", "[0,4]"), 4), "more than 64"));
}

TEST_CASE("safetensors: refused layouts") {
  CHECK(contains(refusal(one("[1]", "[4,0]"), 4), "take 4 bytes"));
  CHECK(contains(refusal(one("[4611686018427387904,4]", "[0,0]")), "too large"));
  CHECK(contains(refusal(one("[0,4611686018427387904,4]", "[0,0]")), "too large"));
  CHECK(contains(refusal(one("[2305843009213693952]", "[0,0]")), "too large"));
  CHECK(contains(refusal(one("[1]", "[4,8]"), 8), "leaves a hole"));
  CHECK(contains(refusal(one("[0]", "[5,5]")), "leaves a hole"));
  CHECK(contains(refusal(one("[1]", "[0,4]"), 8), "take 4 bytes, the file has 8"));
  CHECK(contains(refusal(one("[2]", "[0,8]"), 4), "take 8 bytes, the file has 4"));
  const auto two = [](const std::string& a, const std::string& b) {
    return R"({"a":)" + a + R"(,"b":)" + b + "}";
  };
  CHECK(contains(refusal(two(info("[1]", "[0,4]"), info("[1]", "[0,4]")), 4),
                 "overlaps"));
  CHECK(contains(refusal(two(info("[2]", "[0,8]"), info("[1]", "[4,8]")), 8),
                 "overlaps"));
  const std::string far = "[9223372036854775803,9223372036854775807]";
  CHECK(contains(refusal(one("[1]", far), 4), "leaves a hole"));
}

TEST_CASE("safetensors: refused lengths") {
  const std::vector<char> good = file_of("{}", "");
  for (std::size_t size = 0; size < good.size(); ++size) {
    CHECK(error_of([&] {
            header_of({good.begin(), good.begin() + static_cast<Index>(size)});
          }) != "");
  }
  for (const std::uint64_t length :
       {std::uint64_t{3}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    std::vector<char> bytes = good;
    std::memcpy(bytes.data(), &length, sizeof(length));
    CHECK(contains(error_of([&] { header_of(bytes); }), "must be at most 2"));
  }
  CHECK(contains(refusal("{}" + std::string(1 << 20, ' ')), "at most 1048576"));
}

TEST_CASE("safetensors: what is no regular file") {
  CHECK(contains(error_of([] { open_file("/nowhere/model"); }), "No such file"));
  CHECK(contains(error_of([] { open_file("/"); }), "not a regular file"));
  const TemporaryFolder folder;
  const std::string pipe = folder.path("pipe");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(contains(error_of([&] { open_file(pipe); }), "not a regular file"));
}

TEST_CASE("safetensors: the largest headers stay cheap") {
  for (const std::string unit :
       {R"("%":"",)", R"("%":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"}) {
    const bool metadata = unit.size() < 10;
    std::string text = metadata ? R"({"__metadata__":{)" : "{";
    for (int i = 0; text.size() + unit.size() + 12 < (1 << 20); ++i) {
      std::string item = unit;
      replace(item, "%", std::to_string(i));
      text += item;
    }
    text.back() = '}';
    if (metadata) text += '}';
    const std::vector<char> bytes = file_of(text, "");
    const Index before = peak_bytes();
    const auto start = std::chrono::steady_clock::now();
    CHECK(error_of([&] { header_of(bytes); }).empty());
    const std::chrono::duration<double> seconds =
        std::chrono::steady_clock::now() - start;
    CHECK(seconds.count() < 5.0);
    CHECK(peak_bytes() - before < (Index{64} << 20));
  }
}

// $FASTLSTM_CONFORMANCE_DIR/hostile/safetensors, where there is one.
TEST_CASE("safetensors: hostile files behave as their manifest says") {
  const char* root = std::getenv("FASTLSTM_CONFORMANCE_DIR");
  if (root == nullptr) return;
  const std::string folder = std::string(root) + "/hostile/safetensors/";
  std::ifstream stream(folder + "manifest.json");
  const std::string text((std::istreambuf_iterator<char>(stream)), {});
  JsonReader json(text);
  int cases = 0;
  json.array([&] {
    std::map<std::string, JsonScalar> item;
    json.object([&](const std::string& key) { item[key] = json.scalar(); });
    const auto file = std::get<std::string>(item.at("file"));
    const auto expect = std::get<std::string>(item.at("expect"));
    CAPTURE(file);
    const Index before = peak_bytes();
    const std::string error =
        error_of([&] { read_safetensors_header(open_file(folder + file)); });
    CHECK(peak_bytes() - before < (Index{64} << 20));
    if (expect == "accept") CHECK(error == "");
    if (expect == "reject") CHECK(error != "");
    CHECK(error.find('\n') == error.npos);
    ++cases;
  });
  CHECK(cases > 0);
}
