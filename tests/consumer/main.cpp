// A program of somebody else: loads a model and runs it over a file of numbers.
//   consumer_cpp float32|float64 model.safetensors x seq_len batch_size y
// x: (T, N, I), or indices (T, N) of 64 bits; y is written.
#include <fastlstm/fastlstm.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

template <class Value>
std::vector<Value> read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  std::vector<Value> values(bytes.size() / sizeof(Value));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(Value));
  return values;
}

// The stream must say at every step what the whole sequence says, to the bit.
template <class T>
void check_stream(const fastlstm::Model<T>& model, const std::vector<T>& x,
                  fastlstm::Index steps, fastlstm::Index batch,
                  const std::vector<T>& y) {
  fastlstm::Stream<T> stream = model.stream(batch);
  std::vector<T> streamed(y.size());
  stream.process(x.data(), streamed.data(), steps);
  if (std::memcmp(streamed.data(), y.data(), y.size() * sizeof(T)) != 0) {
    throw std::runtime_error("the stream differs from the whole sequence");
  }
}

template <class T>
void run(char** argv) {
  const fastlstm::Model<T> model = fastlstm::Model<T>::load(argv[2]);
  const fastlstm::Index steps = std::atoi(argv[4]), batch = std::atoi(argv[5]);
  const fastlstm::Index answers = model.return_sequences() ? steps * batch : batch;
  std::vector<T> y(static_cast<std::size_t>(answers * model.output_size()));
  if (model.num_embeddings() > 0) {
    const std::vector<std::int64_t> x = read<std::int64_t>(argv[3]);
    model.predict(x.data(), steps, batch, y.data());
  } else {
    const std::vector<T> x = read<T>(argv[3]);
    model.predict(x.data(), steps, batch, y.data());
    if (model.return_sequences() && !model.config().bidirectional) {
      check_stream(model, x, steps, batch, y);
    }
  }
  std::ofstream(argv[6], std::ios::binary)
      .write(reinterpret_cast<const char*>(y.data()),
             static_cast<std::streamsize>(y.size() * sizeof(T)));
}

int main(int argc, char** argv) try {
  if (argc != 7) throw std::runtime_error("expected six arguments");
  if (std::strcmp(argv[1], "float32") == 0) {
    run<float>(argv);
  } else {
    run<double>(argv);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
