// The same effect from the exported header: no library is linked.
//   amplifier_header IN.wav OUT.wav [BLOCK]
#include "../effect.hpp"
#include "amp.hpp"

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::fprintf(stderr, "usage: amplifier_header IN.wav OUT.wav [BLOCK]\n");
    return 2;
  }
  try {
    std::printf("self-test: largest error %.1e\n", double{amp::self_test()});
    amp::Model model;
    run_effect(
        argv[1], argv[2], argc == 4 ? argv[3] : "64",
        [&](const float* in, float* out, int count) { model.process(in, out, count); });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "amplifier_header: %s\n", error.what());
    return 1;
  }
}
