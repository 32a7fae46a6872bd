// Watches sensors: tells the next sample, raises an alarm where it is far off, and goes
// on learning, so that a machine that was rebuilt is soon normal again.
//   watch MODEL.safetensors RECORD.csv
// The recurrent layer stays as it was trained. What learns is the dense layer behind
// it, by recursive least squares that forget: it starts from the model's own head.
#include <fastlstm/fastlstm.hpp>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

using Record = std::vector<std::vector<float>>;  // (steps, channels)

Record read_record(const std::string& path, std::size_t channels) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  Record record;
  for (std::string line; std::getline(file, line);) {
    std::vector<float> row;
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) {
      row.push_back(std::stof(cell));
    }
    if (row.size() != channels) {
      throw std::runtime_error(path + " must have " + std::to_string(channels) +
                               " columns, as the model has inputs");
    }
    record.push_back(row);
  }
  return record;
}

// y = W [h; 1], with W fitted to the newest samples. All memory is taken when it is
// made; a step allocates nothing.
class LearningHead {
 public:
  LearningHead(const fastlstm::Head<float>& head, std::size_t features)
      : features_(features + 1),
        weight_(static_cast<std::size_t>(head.out_features) * features_),
        inverse_(features_ * features_),
        gain_(features_),
        input_(features_, 1.0) {
    for (std::size_t o = 0; o < outputs(); ++o) {
      for (std::size_t k = 0; k < features; ++k) {
        weight_[o * features_ + k] = head.weight[o * features + k];
      }
      weight_[o * features_ + features] = head.bias == nullptr ? 0 : head.bias[o];
    }
    for (std::size_t k = 0; k < features_; ++k) {
      inverse_[k * features_ + k] = kTrust;
    }
  }

  std::size_t outputs() const { return weight_.size() / features_; }

  // h: (features,); y: (outputs(),)
  void predict(const float* h, float* y) {
    for (std::size_t k = 0; k + 1 < features_; ++k) input_[k] = h[k];
    for (std::size_t o = 0; o < outputs(); ++o) {
      double sum = 0;
      for (std::size_t k = 0; k < features_; ++k) {
        sum += weight_[o * features_ + k] * input_[k];
      }
      y[o] = static_cast<float>(sum);
    }
  }

  // error: (outputs(),), what came less what the latest predict() said.
  // gain = P x / (f + x' P x);  W += error gain';  P = (P - gain x' P) / f
  void learn(const float* error) {
    double power = kForget;
    for (std::size_t i = 0; i < features_; ++i) {
      gain_[i] = 0;
      for (std::size_t k = 0; k < features_; ++k) {
        gain_[i] += inverse_[i * features_ + k] * input_[k];
      }
      power += gain_[i] * input_[i];
    }
    // P is symmetric: gain_ holds P x, which is also (x' P)'.
    for (std::size_t i = 0; i < features_; ++i) {
      for (std::size_t k = 0; k < features_; ++k) {
        double& p = inverse_[i * features_ + k];
        p = (p - gain_[i] * gain_[k] / power) / kForget;
      }
    }
    for (std::size_t o = 0; o < outputs(); ++o) {
      for (std::size_t k = 0; k < features_; ++k) {
        weight_[o * features_ + k] += error[o] * gain_[k] / power;
      }
    }
  }

 private:
  static constexpr double kForget = 0.998;  // remembers about 500 samples
  static constexpr double kTrust = 1;       // of P at first
  std::size_t features_;                    // the constant 1 included
  std::vector<double> weight_, inverse_, gain_, input_;
};

// Compares each error with the usual one, which follows slowly.
class Alarm {
 public:
  // Returns whether an alarm begins.
  bool step(double error) {
    const bool loud = error > kFactor * usual_;
    usual_ += (std::min(error, kFactor * usual_) - usual_) / kMemory;
    quiet_ = loud ? 0 : quiet_ + 1;
    if (!loud || inside_) {
      inside_ = inside_ && quiet_ < kPause;
      return false;
    }
    return inside_ = true;
  }

 private:
  static constexpr double kFactor = 6;    // times the usual error is an alarm
  static constexpr double kMemory = 300;  // steps
  static constexpr int kPause = 100;      // quiet steps end an alarm
  double usual_ = 0.05;
  int quiet_ = 0;
  bool inside_ = false;
};

void run(const char* model_path, const char* record_path) {
  const auto model = fastlstm::Model<float>::load(model_path);
  const fastlstm::Head<float> head = model.head();
  const auto channels = static_cast<std::size_t>(model.config().input_size);
  if (static_cast<std::size_t>(head.out_features) != channels) {
    throw std::runtime_error("the model must answer with as many values as it takes");
  }
  const Record record = read_record(record_path, channels);
  fastlstm::Stream<float> layers(model.config(), model.params());
  LearningHead learning(head, static_cast<std::size_t>(layers.output_size()));
  LearningHead frozen = learning;
  Alarm alarm;
  std::vector<float> h(static_cast<std::size_t>(layers.output_size()));
  std::vector<float> next(channels), untaught(channels), error(channels);
  double squares[2] = {0, 0};
  const std::size_t last_part = record.size() - record.size() / 4;
  for (std::size_t t = 0; t + 1 < record.size(); ++t) {
    layers.step(record[t].data(), h.data());
    learning.predict(h.data(), next.data());
    frozen.predict(h.data(), untaught.data());
    double size = 0;
    for (std::size_t i = 0; i < channels; ++i) {
      error[i] = record[t + 1][i] - next[i];
      size += error[i] * error[i];
      if (t < last_part) continue;
      const double other = record[t + 1][i] - untaught[i];
      squares[0] += error[i] * error[i];
      squares[1] += other * other;
    }
    if (alarm.step(std::sqrt(size))) {
      std::printf("alarm at step %zu, error %.2f\n", t + 1, std::sqrt(size));
    }
    learning.learn(error.data());
  }
  const auto count = static_cast<double>((record.size() - 1 - last_part) * channels);
  std::printf("rms error over the last quarter: %.4f learning, %.4f as trained\n",
              std::sqrt(squares[0] / count), std::sqrt(squares[1] / count));
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: watch MODEL RECORD.csv\n");
    return 2;
  }
  try {
    run(argv[1], argv[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "watch: %s\n", error.what());
    return 1;
  }
}
