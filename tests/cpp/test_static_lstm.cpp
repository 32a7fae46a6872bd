// StaticLstm against Stream: bit for bit where both use FMA, on every instruction set
// of this CPU at once in one program.
#include "recurrent_problem.hpp"
#include "static_lstm_runs.hpp"

bool static_lstm_scalar(const void* run);
#ifdef FASTLSTM_TEST_X86
bool static_lstm_avx2(const void* run);
bool static_lstm_avx512(const void* run);
#endif

namespace fastlstm::testing {
namespace {

using Entry = bool (*)(const void*);

// With the flags of this instruction set, or null. The baseline of aarch64 is NEON.
Entry entry_of(const std::string& name) {
#ifdef FASTLSTM_TEST_X86
  if (name == "avx2") return static_lstm_avx2;
  if (name == "avx512" || name == "amx") return static_lstm_avx512;
  return static_lstm_scalar;
#else
  return name == "neon" ? static_lstm_scalar : nullptr;
#endif
}

}  // namespace

TEST_CASE("StaticLstm gives the bits of Stream where FMA is used") {
  constexpr int kSteps = 9;
  const int sizes[][2] = {{1, 1}, {3, 5}, {1, 16}, {2, 24}, {1, 40}, {4, 77}, {1, 128}};
  for_each_isa([&] {
    const Entry entry = entry_of(isa());
    if (entry == nullptr) return;
    for (const auto& [inputs, units] : sizes) {
      CAPTURE(units);
      const RecurrentConfig config = make_config(CellKind::lstm, inputs, units);
      const Problem<float> problem(config, kSteps, 1);
      const LayerValues<float>& params = problem.params[0];
      Outcome<float> got = problem.infer();
      const Outcome<float> wanted = got;
      std::fill(got.output.begin(), got.output.end(), 0.0f);
      const StaticRun run = {inputs,
                             units,
                             kSteps,
                             params[0].data(),
                             params[1].data(),
                             params[2].data(),
                             problem.h0.data(),
                             problem.c0.data(),
                             problem.x.data(),
                             got.output.data(),
                             got.c_n.data()};
      REQUIRE(entry(&run));
      if (isa() == "scalar") {
        CHECK(max_difference(got.output, wanted.output) < 1e-6);
        CHECK(max_difference(got.c_n, wanted.c_n) < 1e-6);
      } else {
        CHECK(same_bits(got.output, wanted.output));
        CHECK(same_bits(got.c_n, wanted.c_n));
      }
    }
  });
}

TEST_CASE("StaticLstm starts from zero and takes no bias for zeros") {
  const std::vector<float> weight_ih(20, 0.5f), weight_hh(100, 0.125f), bias(20);
  const float x = 1.5f;
  StaticLstm<1, 5> one, other;
  one.set_weights(weight_ih.data(), weight_hh.data(), bias.data());
  other.set_weights(weight_ih.data(), weight_hh.data(), nullptr);
  float first[5];
  std::memcpy(first, one.step(&x), sizeof first);
  CHECK(std::memcmp(first, other.step(&x), sizeof first) == 0);
  one.step(&x);
  CHECK(std::memcmp(first, one.h(), sizeof first) != 0);
  one.reset();
  CHECK(std::memcmp(first, one.step(&x), sizeof first) == 0);
}

}  // namespace fastlstm::testing
