// Runs a sound through a trained amplifier, block by block as a plug-in would.
//   amplifier MODEL.safetensors IN.wav OUT.wav [BLOCK]
#include <fastlstm/fastlstm.hpp>

#include "../effect.hpp"

int main(int argc, char** argv) {
  if (argc != 4 && argc != 5) {
    std::fprintf(stderr, "usage: amplifier MODEL IN.wav OUT.wav [BLOCK]\n");
    return 2;
  }
  try {
    const auto model = fastlstm::Model<float>::load(argv[1]);
    fastlstm::Stream<float> stream = model.stream();
    if (stream.input_size() != 1 || stream.output_size() != 1) {
      throw std::runtime_error("the model must have one input and one output");
    }
    run_effect(argv[2], argv[3], argc == 5 ? argv[4] : "64",
               [&](const float* in, float* out, int count) {
                 stream.process(in, out, count);
               });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "amplifier: %s\n", error.what());
    return 1;
  }
}
