// Reads JSON (RFC 8259) strictly and step by step: the caller says what must come next,
// so nothing is built or nested that it does not know. Called by the model reader.
#pragma once

#include <cstddef>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "fastlstm/types.hpp"

namespace fastlstm {

// What is wrong with a text or a file, on one line, without the file's name.
struct FormatError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// null, true or false, an integer of 64 bits, another number, a string.
using JsonScalar = std::variant<std::monostate, bool, Index, double, std::string>;

// A short ASCII form, in quotes and on one line, of what a file may hold.
std::string shown(std::string_view text);

class JsonReader {
 public:
  // Borrows text. Throws FormatError unless it is UTF-8; so does every other member
  // where something else comes than it reads.
  explicit JsonReader(std::string_view text);

  // on_key(key) must read the value. No key comes twice.
  template <class OnKey>
  void object(const OnKey& on_key) {
    std::set<std::string> seen;
    open('{', "an object");
    for (bool first = true; next('}', first); first = false) {
      const auto [key, is_new] = seen.insert(string());
      if (!is_new) throw FormatError("the key " + shown(*key) + " comes twice");
      expect(':', "':'");
      on_key(*key);
    }
  }

  // on_element() must read the element.
  template <class OnElement>
  void array(const OnElement& on_element) {
    open('[', "an array");
    for (bool first = true; next(']', first); first = false) on_element();
  }

  std::string string();
  Index size();  // an integer from 0 to 2^63 - 1
  JsonScalar scalar();
  bool at_array() { return peek() == '['; }  // reads nothing
  bool null();                               // reads null, if that is what comes
  void end();                                // nothing but white space is left

 private:
  [[noreturn]] void fail(const char* wanted) const;
  char peek();  // next character after white space; 0 at the end
  void expect(char c, const char* wanted);
  void open(char bracket, const char* wanted) { expect(bracket, wanted); }
  bool next(char bracket, bool first);
  bool word(std::string_view text);
  bool digits();
  JsonScalar number();
  void escape(std::string& out);
  unsigned hex4();

  std::string_view text_;
  std::size_t position_ = 0;
};

}  // namespace fastlstm
