// What the C++ tests share: random arrays, loops over instruction sets, comparisons
// that report one number instead of a failure for each element.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "fastlstm/fastlstm.hpp"

namespace fastlstm::testing {

constexpr CellKind kCells[] = {CellKind::lstm, CellKind::gru, CellKind::rnn};

// Uniform in [-1, 1), the same values on every machine.
template <class T>
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  T next() {
    return static_cast<T>(static_cast<double>(engine_() >> 11) * 0x1p-52 - 1.0);
  }
  std::vector<T> array(Index size) {
    std::vector<T> values(static_cast<std::size_t>(size));
    for (T& value : values) value = next();
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

// Runs check() with each instruction set of this CPU in force, then goes back to auto.
template <class Check>
void for_each_isa(const Check& check) {
  for (const std::string& name : available_isas()) {
    CAPTURE(name);
    set_isa(name);
    check();
  }
  set_isa("auto");
}

// max |a - b|; infinite where the sizes differ or only one is NaN.
template <class T>
double max_difference(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference =
        std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(a[i]) != std::isnan(b[i]))
      return std::numeric_limits<double>::infinity();
    if (difference > worst) worst = difference;
  }
  return worst;
}

// |a - b| / |b| in the Euclidean norm.
template <class T>
double relative_difference(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double wanted = static_cast<double>(b[i]);
    error += std::pow(static_cast<double>(a[i]) - wanted, 2);
    norm += wanted * wanted;
  }
  return std::sqrt(error) / std::max(std::sqrt(norm), 1e-300);
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

// The text of the exception that call() throws, or "" if it throws nothing.
template <class Call>
std::string error_of(const Call& call) {
  try {
    call();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace fastlstm::testing
