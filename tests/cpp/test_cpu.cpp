// Choosing the instruction set.
#include "kernels/table.hpp"
#include "support.hpp"

namespace fastlstm::testing {

TEST_CASE("each available instruction set can be forced") {
  const std::vector<std::string> names = available_isas();
  REQUIRE(names.front() == "scalar");
  for (const std::string& name : names) {
    set_isa(name);
    CHECK(isa() == name);
    CHECK(kernels<float>().name == name);
    CHECK(kernels<double>().name == name);
  }
  set_isa("auto");
  CHECK(isa() == names.back());
}

TEST_CASE("another name is an error that lists what there is") {
  std::string list = "auto";
  for (const std::string& name : available_isas()) list += ", " + name;
  for (const std::string wrong : {"", "AVX2", "mmx", "neon "}) {
    CHECK(error_of([&] { set_isa(wrong); }) ==
          "isa must be one of " + list + " on this CPU, got \"" + wrong + "\"");
  }
}

TEST_CASE("only levels 1 to 3 of the cache have a size") {
  CHECK(cache_bytes(0) == 0);
  CHECK(cache_bytes(4) == 0);
  if (cache_bytes(1) > 0 && cache_bytes(2) > 0) {
    CHECK(cache_bytes(1) < cache_bytes(2));
  }
}

TEST_CASE("the CPU has a name") { CHECK_FALSE(cpu_name().empty()); }

}  // namespace fastlstm::testing
