// Optimizer steps: the factors of a rule, and the parameters dealt out to threads. The
// updates themselves are kernels.
#include "fastlstm/optim.hpp"

#include <algorithm>
#include <cmath>

#include "fastlstm/threads.hpp"
#include "kernels/table.hpp"
#include "parallel.hpp"

namespace fastlstm {
namespace {

// Parameters are cut into pieces of this many elements, or a multiple: 16 KB of floats,
// of which an update touches four arrays, stay in L1 and L2.
constexpr Index kPiece = 4096;
// Most partial sums that a norm is made of; models beyond have larger pieces.
constexpr Index kMaxPieces = 512;
// Fewer elements are updated within 10 us, in which another thread hardly wakes.
constexpr Index kMinParallelSize = 1 << 15;

// A list of arrays cut into pieces that depend on the sizes alone.
template <class T>
class Pieces {
 public:
  Pieces(const Parameter<T>* params, Index count) : params_(params), count_(count) {
    Index total = 0;
    for (Index i = 0; i < count; ++i) total += params[i].size;
    // Half of the pieces for whole ones, half for the last one of each array.
    const Index whole = kPiece * (kMaxPieces / 2);
    size_ = kPiece * std::max<Index>(1, (total + whole - 1) / whole);
    for (Index i = 0; i < count; ++i) pieces_ += (params[i].size + size_ - 1) / size_;
    parallel_ = total >= kMinParallelSize && pieces_ <= kMaxPieces;
  }

  int threads(const UpdateStep& step) const {
    return parallel_ ? useful_threads(step.max_threads) : 1;
  }
  Index count() const { return pieces_; }

  // Calls body(piece, param, begin, n) for the pieces of a range, in order.
  template <class Body>
  void each(const Team::Range& range, const Body& body) const {
    Index piece = 0;
    for (Index i = 0; i < count_; ++i) {
      for (Index begin = 0; begin < params_[i].size; begin += size_, ++piece) {
        if (piece < range.begin) continue;
        if (piece >= range.end) return;
        body(piece, params_[i], begin, std::min(size_, params_[i].size - begin));
      }
    }
  }

 private:
  const Parameter<T>* params_;
  Index count_;
  Index size_ = 0;
  Index pieces_ = 0;
  bool parallel_ = false;
};

template <class T>
SgdFactors<T> factors(const Sgd& rule, const UpdateStep& step) {
  SgdFactors<T> f{};
  f.scale = static_cast<T>(step.grad_scale);
  f.decay = static_cast<T>(rule.weight_decay);
  f.rate = static_cast<T>(step.lr);
  f.momentum = static_cast<T>(rule.momentum);
  f.direct = rule.nesterov ? T(1) : T(0);
  f.ahead = rule.nesterov ? f.momentum : T(1);
  return f;
}

template <class T>
AdamFactors<T> factors(const Adam& rule, const UpdateStep& step) {
  const double shrink = step.lr * rule.weight_decay;
  AdamFactors<T> f{};
  f.scale = static_cast<T>(step.grad_scale);
  f.decay = static_cast<T>(rule.decoupled ? 0.0 : rule.weight_decay);
  f.keep1 = static_cast<T>(1 - rule.beta1);
  f.beta2 = static_cast<T>(rule.beta2);
  f.keep2 = static_cast<T>(1 - rule.beta2);
  f.inverse_root = static_cast<T>(1 / std::sqrt(1 - std::pow(rule.beta2, step.number)));
  f.eps = static_cast<T>(rule.eps);
  f.rate = static_cast<T>(step.lr / (1 - std::pow(rule.beta1, step.number)));
  f.shrink = static_cast<T>(rule.decoupled ? 1 - shrink : 1.0);
  return f;
}

template <class T>
RmspropFactors<T> factors(const Rmsprop& rule, const UpdateStep& step) {
  RmspropFactors<T> f{};
  f.scale = static_cast<T>(step.grad_scale);
  f.decay = static_cast<T>(rule.weight_decay);
  f.alpha = static_cast<T>(rule.alpha);
  f.keep = static_cast<T>(1 - rule.alpha);
  f.eps = static_cast<T>(rule.eps);
  f.rate = static_cast<T>(step.lr);
  f.momentum = static_cast<T>(rule.momentum);
  return f;
}

// The pieces of a range with one rule's kernel.
template <class T, class Rule, class Kernel>
void update_pieces(const Rule& rule, const UpdateStep& step, Kernel kernel,
                   const Pieces<T>& pieces, const Team::Range& range) {
  const auto f = factors<T>(rule, step);
  pieces.each(range, [&](Index, const Parameter<T>& p, Index begin, Index n) {
    kernel(f, {n, p.param + begin, p.grad + begin,
               p.first == nullptr ? nullptr : p.first + begin,
               p.second == nullptr ? nullptr : p.second + begin, step.zero_grads});
  });
}

template <class T>
void update_range(const UpdateRule& rule, const UpdateStep& step,
                  const Pieces<T>& pieces, const Team::Range& range) {
  const Kernels<T>& k = kernels<T>();
  if (const auto* adam = std::get_if<Adam>(&rule)) {
    update_pieces(*adam, step, k.adam, pieces, range);
  } else if (const auto* sgd = std::get_if<Sgd>(&rule)) {
    update_pieces(*sgd, step, k.sgd, pieces, range);
  } else if (const auto* rmsprop = std::get_if<Rmsprop>(&rule)) {
    update_pieces(*rmsprop, step, k.rmsprop, pieces, range);
  }
}

template <class T>
double norm_of(const Pieces<T>& pieces) {
  double total = 0;
  pieces.each({0, pieces.count()},
              [&](Index, const Parameter<T>& p, Index begin, Index n) {
                total += kernels<T>().sum_of_squares(p.grad + begin, n);
              });
  return std::sqrt(total);
}

// The norm, the same on every thread of the team: partial sums are added in order.
template <class T>
double team_norm(const Pieces<T>& pieces, const Team& team, double* partial) {
  if (team.size() == 1) return norm_of(pieces);
  pieces.each(team.share(pieces.count()),
              [&](Index piece, const Parameter<T>& p, Index begin, Index n) {
                partial[piece] = kernels<T>().sum_of_squares(p.grad + begin, n);
              });
  team.barrier();
  double total = 0;
  for (Index piece = 0; piece < pieces.count(); ++piece) total += partial[piece];
  return std::sqrt(total);
}

}  // namespace

template <class T>
void update(const UpdateRule& rule, const UpdateStep& step, const Parameter<T>* params,
            Index count) noexcept {
  const Pieces<T> pieces(params, count);
  auto body = [&](const Team& team) {
    update_range(rule, step, pieces, team.share(pieces.count()));
  };
  parallel(pieces.threads(step), body);
}

template <class T>
double gradient_norm(const Parameter<T>* params, Index count) noexcept {
  return norm_of(Pieces<T>(params, count));
}

double clip_scale(double norm, double max_norm) noexcept {
  return std::min(1.0, max_norm / (norm + 1e-6));
}

template <class T>
double clipped_update(const UpdateRule& rule, const UpdateStep& step, double max_norm,
                      const Parameter<T>* params, Index count) noexcept {
  const Pieces<T> pieces(params, count);
  double partial[kMaxPieces];
  double norm = 0;
  auto body = [&](const Team& team) {
    const double whole = team_norm(pieces, team, partial);
    if (team.rank() == 0) norm = whole;
    if (!std::isfinite(whole)) return;
    UpdateStep scaled = step;
    scaled.grad_scale *= clip_scale(whole, max_norm);
    update_range(rule, scaled, pieces, team.share(pieces.count()));
  };
  parallel(pieces.threads(step), body);
  return norm;
}

#define FASTLSTM_OPTIM(T)                                                            \
  template void update<T>(const UpdateRule&, const UpdateStep&, const Parameter<T>*, \
                          Index) noexcept;                                           \
  template double gradient_norm<T>(const Parameter<T>*, Index) noexcept;             \
  template double clipped_update<T>(const UpdateRule&, const UpdateStep&, double,    \
                                    const Parameter<T>*, Index) noexcept;
FASTLSTM_OPTIM(float)
FASTLSTM_OPTIM(double)
#undef FASTLSTM_OPTIM

}  // namespace fastlstm
