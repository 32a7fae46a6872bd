// Says where somebody speaks in a WAV file of 16 kHz, frame by frame as it would come
// from a microphone.
//   voice MODEL.safetensors IN.wav [--frames]
// --frames prints each frame's probability too.
#include <fastlstm/fastlstm.hpp>

#include <array>
#include <chrono>

#include "../wav.hpp"

constexpr int kRate = 16000;
constexpr int kFrame = 512;  // 32 ms
constexpr int kBands = 16;
// First bins of the bands, 31.25 Hz each, and the end; train.py has the same.
constexpr int kEdges[kBands + 1] = {3,  5,  7,  9,  12, 15, 19,  23, 28,
                                    34, 41, 49, 59, 71, 85, 104, 128};

// cos(2 pi n / kFrame); the sine is a quarter turn behind.
std::array<float, kFrame> cosines() {
  std::array<float, kFrame> table{};
  for (int n = 0; n < kFrame; ++n) {
    table[n] = static_cast<float>(std::cos(6.283185307179586 * n / kFrame));
  }
  return table;
}

// samples: (kFrame,); bands: (kBands,), 0.5 log10(1e-3 + energy).
void band_energies(const float* samples, float* bands) {
  static const std::array<float, kFrame> table = cosines();
  float windowed[kFrame];
  for (int n = 0; n < kFrame; ++n) {
    windowed[n] = samples[n] * (0.5f - 0.5f * table[n]);
  }
  for (int band = 0; band < kBands; ++band) {
    float energy = 0;
    for (int bin = kEdges[band]; bin < kEdges[band + 1]; ++bin) {
      // X = sum of x e^(-2 pi i bin n / kFrame); so few bins need no fast transform.
      float real = 0, imaginary = 0;
      for (int n = 0; n < kFrame; ++n) {
        const int turn = bin * n % kFrame;
        real += windowed[n] * table[turn];
        imaginary += windowed[n] * table[(turn + kFrame - kFrame / 4) % kFrame];
      }
      energy += real * real + imaginary * imaginary;
    }
    bands[band] = 0.5f * std::log10(1e-3f + energy);
  }
}

// Follows the frames' probabilities and prints each utterance when it is over.
class Utterances {
 public:
  void frame(double seconds, float probability) {
    if (probability > 0.6f) {
      if (!inside_) begin_ = seconds;
      inside_ = true;
      last_ = seconds + 1.0 * kFrame / kRate;
    } else if (inside_ && probability < 0.4f && seconds - last_ > kHangover) {
      finish();
    }
  }
  void finish() {
    if (inside_) std::printf("speech %.2f to %.2f s\n", begin_, last_);
    inside_ = false;
  }

 private:
  static constexpr double kHangover = 0.16;  // seconds: no gap between syllables
  bool inside_ = false;
  double begin_ = 0, last_ = 0;
};

void run(const char* model_path, const char* sound_path, bool print_frames) {
  using Clock = std::chrono::steady_clock;
  const auto model = fastlstm::Model<float>::load(model_path);
  fastlstm::Stream<float> stream = model.stream();
  if (stream.input_size() != kBands || stream.output_size() != 2) {
    throw std::runtime_error("the model must have 16 inputs and two classes");
  }
  const Sound sound = read_wav(sound_path);
  if (sound.rate != kRate) throw std::runtime_error("the sound must be of 16 kHz");
  const std::size_t frames = sound.samples.size() / kFrame;
  Utterances utterances;
  Clock::duration spent{};
  for (std::size_t t = 0; t < frames; ++t) {
    float bands[kBands], logits[2];
    const Clock::time_point start = Clock::now();
    band_energies(&sound.samples[t * kFrame], bands);
    stream.step(bands, logits);
    spent += Clock::now() - start;
    const float probability = 1 / (1 + std::exp(logits[0] - logits[1]));
    if (print_frames) std::printf("frame %zu %.6f\n", t, probability);
    utterances.frame(static_cast<double>(t * kFrame) / kRate, probability);
  }
  utterances.finish();
  const double seconds = std::chrono::duration<double>(spent).count();
  const double total = static_cast<double>(frames * kFrame) / kRate;
  std::printf("%zu frames, %.1f us each, %.5f of real time\n", frames,
              1e6 * seconds / static_cast<double>(frames), seconds / total);
}

int main(int argc, char** argv) {
  const bool print_frames = argc == 4 && std::string(argv[3]) == "--frames";
  if (argc != 3 && !print_frames) {
    std::fprintf(stderr, "usage: voice MODEL IN.wav [--frames]\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], print_frames);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "voice: %s\n", error.what());
    return 1;
  }
}
