// The strict JSON reader; see json.hpp.
#include "json.hpp"

#include <charconv>
#include <cstdint>
#include <system_error>

namespace fastlstm {
namespace {

constexpr std::size_t kMaxShown = 60;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, unsigned code) {
  const auto put = [&](unsigned byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

// Bytes of the UTF-8 sequence at the start of text, 0 if there is none: neither
// overlong forms nor surrogates nor codes above 0x10FFFF count.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xC2   ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned second = byte(1);
  const bool bad = (lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
                   (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F);
  return bad ? 0 : length;
}

}  // namespace

std::string shown(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (out.size() > kMaxShown) return out + "...'";
    out.push_back(c >= 0x20 && c < 0x7F ? c : '?');
  }
  return out + "'";
}

JsonReader::JsonReader(std::string_view text) : text_(text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) throw FormatError("not UTF-8 at byte " + std::to_string(i));
    i += length;
  }
}

void JsonReader::fail(const char* wanted) const {
  throw FormatError("not as it must be at byte " + std::to_string(position_) +
                    " of the JSON: " + wanted + " must come");
}

char JsonReader::peek() {
  while (position_ < text_.size()) {
    const char c = text_[position_];
    if (c != ' ' && c != '\t' && c != '\n' && c != '\r') return c;
    ++position_;
  }
  return '\0';
}

void JsonReader::expect(char c, const char* wanted) {
  if (peek() != c) fail(wanted);
  ++position_;
}

// Whether there is another element; reads the comma before it, or the bracket.
bool JsonReader::next(char bracket, bool first) {
  if (peek() == bracket) {
    ++position_;
    return false;
  }
  if (!first) expect(',', "',' or a closing bracket");
  return true;
}

bool JsonReader::word(std::string_view text) {
  peek();
  if (text_.substr(position_, text.size()) != text) return false;
  position_ += text.size();
  return true;
}

bool JsonReader::null() { return word("null"); }

void JsonReader::end() {
  peek();
  if (position_ != text_.size()) fail("the end");
}

std::string JsonReader::string() {
  expect('"', "a string");
  std::string out;
  for (;;) {
    if (position_ == text_.size()) fail("a closing quote");
    const char c = text_[position_];
    if (static_cast<unsigned char>(c) < 0x20) fail("no control character");
    ++position_;
    if (c == '"') return out;
    if (c == '\\') {
      escape(out);
    } else {
      out.push_back(c);
    }
  }
}

void JsonReader::escape(std::string& out) {
  constexpr std::string_view kNames = "\"\\/bfnrt";
  constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
  const char c = position_ < text_.size() ? text_[position_] : '\0';
  if (c != 'u') {
    const std::size_t which = kNames.find(c);
    if (which == std::string_view::npos) fail("a known escape");
    ++position_;
    out.push_back(kValues[which]);
    return;
  }
  ++position_;
  unsigned code = hex4();
  if (code >= 0xD800 && code < 0xDC00) {
    if (text_.substr(position_, 2) != "\\u") fail("the second half of a surrogate");
    position_ += 2;
    const unsigned low = hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("the second half of a surrogate");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  } else if (code >= 0xDC00 && code < 0xE000) {
    fail("the first half of a surrogate");
  }
  append_utf8(out, code);
}

unsigned JsonReader::hex4() {
  const std::string_view four = text_.substr(position_, 4);
  unsigned code = 0;
  const auto [end, error] =
      std::from_chars(four.data(), four.data() + four.size(), code, 16);
  if (four.size() != 4 || error != std::errc() || end != four.data() + 4) {
    fail("four hexadecimal digits");
  }
  position_ += 4;
  return code;
}

Index JsonReader::size() {
  const std::size_t begin = position_;
  if (is_digit(peek())) {
    const JsonScalar value = number();
    if (const auto* integer = std::get_if<Index>(&value)) return *integer;
  }
  position_ = begin;
  fail("an integer from 0 to 2**63 - 1");
}

JsonScalar JsonReader::scalar() {
  const char c = peek();
  if (c == '"') return string();
  if (c == '-' || is_digit(c)) return number();
  if (word("true")) return true;
  if (word("false")) return false;
  if (null()) return {};
  fail("a string, a number, true, false or null");
}

// Skips digits; whether there were any.
bool JsonReader::digits() {
  const std::size_t begin = position_;
  while (position_ < text_.size() && is_digit(text_[position_])) ++position_;
  return position_ > begin;
}

// from_chars alone would take forms that JSON does not know.
JsonScalar JsonReader::number() {
  const std::size_t begin = position_;
  const auto skip = [&](std::string_view any) {
    if (position_ == text_.size() ||
        any.find(text_[position_]) == std::string_view::npos) {
      return false;
    }
    ++position_;
    return true;
  };
  skip("-");
  const bool zero = skip("0");
  bool valid = zero || digits();
  bool integer = true;
  if (valid && skip(".")) {
    integer = false;
    valid = digits();
  }
  if (valid && skip("eE")) {
    integer = false;
    skip("+-");
    valid = digits();
  }
  const char* first = text_.data() + begin;
  const char* last = text_.data() + position_;
  if (valid && integer) {
    Index value = 0;
    if (std::from_chars(first, last, value).ec == std::errc()) return value;
  }
  double value = 0;
  if (!valid || std::from_chars(first, last, value).ec != std::errc()) {
    position_ = begin;
    fail("a number that fits 64 bits");
  }
  return value;
}

}  // namespace fastlstm
