// A program of somebody else: one step of an LSTM whose answer is known in closed form.
#include <fastlstm/fastlstm.hpp>

#include <cmath>
#include <cstdio>
#include <vector>

int main() {
  fastlstm::RecurrentConfig config;
  config.input_size = 3;
  config.hidden_size = 5;
  const std::vector<float> weight_ih(20 * 3), weight_hh(20 * 5), x(3, 1.0f);
  std::vector<float> bias(20), output(5), h_n(5), c_n(5);
  for (std::size_t unit = 0; unit < 5; ++unit) bias[10 + unit] = 1.0f;  // gate g
  const fastlstm::LayerArrays<const float> params = {weight_ih.data(), weight_hh.data(),
                                                     bias.data(), nullptr};
  fastlstm::ForwardArgs<float> args = {};
  args.seq_len = args.batch_size = 1;
  args.x = {x.data(), 3, 3};
  args.output = {output.data(), 5, 5};
  args.params = &params;
  args.h_n = h_n.data();
  args.c_n = c_n.data();
  fastlstm::BufferPool pool;
  fastlstm::recurrent_forward<float>(config, args, pool, nullptr);

  const float wanted = 0.5f * std::tanh(0.5f * std::tanh(1.0f));
  for (const float h : h_n) {
    if (!(std::abs(h - wanted) < 1e-6f)) {
      std::fprintf(stderr, "h_n is %.8f, expected %.8f\n", h, wanted);
      return 1;
    }
  }
  std::printf("fastlstm %s works\n", FASTLSTM_VERSION);
}
