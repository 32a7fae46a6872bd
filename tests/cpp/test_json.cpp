// The strict JSON reader: what it takes, and that it takes nothing else.
#include "json.hpp"

#include "support.hpp"

using namespace fastlstm;
using namespace fastlstm::testing;

namespace {

std::string string_of(const std::string& text) {
  JsonReader json(text);
  std::string value = json.string();
  json.end();
  return value;
}

JsonScalar scalar_of(const std::string& text) {
  JsonReader json(text);
  JsonScalar value = json.scalar();
  json.end();
  return value;
}

std::string keys_of(const std::string& text) {
  JsonReader json(text);
  std::string keys;
  json.object(
      [&](const std::string& key) { keys += key + std::to_string(json.size()); });
  json.end();
  return keys;
}

}  // namespace

TEST_CASE("json: strings and their escapes") {
  CHECK(string_of(R"( "" )").empty());
  CHECK(string_of(R"("a\"\\\/\b\f\n\r\t")") == "a\"\\/\b\f\n\r\t");
  CHECK(string_of(R"("\u0041\u00e9\u20AC\ud83d\ude00")") ==
        "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(string_of(R"("\u0000")") == std::string(1, '\0'));
  CHECK(string_of("\"\xE2\x82\xAC\"") == "\xE2\x82\xAC");
}

TEST_CASE("json: strings that are none") {
  for (const char* text :
       {"", "a", "'a'", "\"", "\"a", R"("\x")", R"("\u12")", R"("\u12G4")",
        R"("\u-123")", R"("\ud83d")", R"("\ud83dx")", R"("\ud83d\u0041")",
        R"("\ude00")", "\"\n\"", R"("a" "b")", R"("\)"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(string_of(text), FormatError);
  }
}

TEST_CASE("json: only UTF-8") {
  for (const char* text :
       {"\"\x80\"", "\"\xC0\xAF\"", "\"\xC1\x81\"", "\"\xE0\x80\xAF\"",
        "\"\xED\xA0\x80\"", "\"\xF0\x80\x80\xAF\"", "\"\xF4\x90\x80\x80\"",
        "\"\xF5\x80\x80\x80\"", "\"\xE2\x82\"", "\"\xC3", "\"\xFF\""}) {
    CHECK(error_of([&] { string_of(text); }).find("not UTF-8 at byte 1") == 0);
  }
}

TEST_CASE("json: scalars") {
  CHECK(std::get<Index>(scalar_of("0")) == 0);
  CHECK(std::get<Index>(scalar_of("-17")) == -17);
  CHECK(std::get<Index>(scalar_of("9223372036854775807")) ==
        std::numeric_limits<Index>::max());
  CHECK(std::get<double>(scalar_of("9223372036854775808")) == 9223372036854775808.0);
  CHECK(std::get<double>(scalar_of("1.5")) == 1.5);
  CHECK(std::get<double>(scalar_of("-2E-2")) == -0.02);
  CHECK(std::get<bool>(scalar_of("true")));
  CHECK(!std::get<bool>(scalar_of("false")));
  CHECK(std::holds_alternative<std::monostate>(scalar_of("\tnull\r\n")));
  CHECK(std::get<std::string>(scalar_of("\"a\"")) == "a");
  for (const char* text :
       {"", "-", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "1 2", "NaN", "Infinity",
        "-Infinity", "nul", "nulll", "True", "1e999", "[]", "{}"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(scalar_of(text), FormatError);
  }
}

TEST_CASE("json: sizes") {
  CHECK(keys_of(R"({"a":9223372036854775807})") == "a9223372036854775807");
  for (const char* text :
       {R"({"a":-1})", R"({"a":9223372036854775808})", R"({"a":1.0})", R"({"a":1e3})",
        R"({"a":"1"})", R"({"a":})"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(keys_of(text), FormatError);
  }
}

TEST_CASE("json: objects") {
  CHECK(keys_of("{}").empty());
  CHECK(keys_of(" { \"b\" : 1 ,\n\"a\":2 } ") == "b1a2");
  for (const char* text :
       {"", "{", "[]", R"({"a"})", R"({"a":1)", R"({"a":1,})", R"({,"a":1})",
        R"({"a":1 "b":2})", R"({"a" 1})", "{a:1}", R"({"a":1}})", R"({"a":1],)"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(keys_of(text), FormatError);
  }
  CHECK(error_of([] { keys_of(R"({"a":1,"b":2,"\u0061":3})"); }) ==
        "the key 'a' comes twice");
}

TEST_CASE("json: arrays") {
  const auto sum = [](const std::string& text) {
    JsonReader json(text);
    Index total = 0;
    json.array([&] { total += json.size(); });
    json.end();
    return total;
  };
  CHECK(sum("[]") == 0);
  CHECK(sum("[1, 2,3 ]") == 6);
  for (const char* text : {"[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1}", "{}"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(sum(text), FormatError);
  }
}

TEST_CASE("json: what a file holds is shown on one short line") {
  CHECK(shown("two\nlines\x80") == "'two?lines?'");
  CHECK(shown(std::string(1000, 'a')).size() < 70);
}
