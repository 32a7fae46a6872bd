// The backward pass of one layer whose cell is a variant, whole or in pieces: scratch
// memory and threads. The loop itself is in general_backward_loop.hpp.
#include <algorithm>
#include <memory>

#include "general_backward_loop.hpp"

namespace fastlstm {
namespace {

// Rows (t, n) of a chunk, as in backward_loop.hpp.
constexpr Index kChunkRows = 256;

template <class T>
struct GeneralBackward {
  LayerPlan<T> plan;
  int threads;
  GeneralBackwardLoop<T> loop;
  Buffer memory;

  GeneralBackward(const LayerPlan<T>& whole, const LayerBackward<T>& args,
                  BufferPool& pool)
      : plan(whole),
        threads(general_threads(plan)),
        loop{plan, plan, args, steps_of_chunk()} {
    memory =
        acquire_pieces(pool, [&](Arena& arena) { loop.take_arrays(arena, threads); });
    loop.cell = make_cell(plan, loop.vectors, loop.bias);
    loop.begin_state();
  }

  Index steps_of_chunk() const {
    return std::clamp<Index>(kChunkRows / std::max<Index>(1, plan.batch_size), 1,
                             std::max<Index>(1, plan.seq_len));
  }

  void run(Index begin, Index end, const LayerBackward<T>& args) {
    const bool first = end == plan.seq_len;
    loop.set_piece(begin, end, args);
    auto body = [&](const Team& team) {
      if (first) loop.prepare(team);
      loop.run(team);
    };
    parallel(threads, body);
    if (begin == 0) loop.end_state();
  }
};

}  // namespace

template <class T>
void general_backward(const LayerPlan<T>& plan, const LayerBackward<T>& args,
                      BufferPool& pool) {
  GeneralBackward<T>(plan, args, pool).run(0, plan.seq_len, args);
}

template <class T>
PieceBackward<T> general_backward_pieces(const LayerPlan<T>& whole,
                                         const LayerBackward<T>& args,
                                         BufferPool& pool) {
  const auto pass = std::make_shared<GeneralBackward<T>>(whole, args, pool);
  return [pass](Index begin, Index end, const LayerBackward<T>& piece) {
    pass->run(begin, end, piece);
  };
}

#define FASTLSTM_GENERAL_BACKWARD(T)                                              \
  template void general_backward<T>(const LayerPlan<T>&, const LayerBackward<T>&, \
                                    BufferPool&);                                 \
  template PieceBackward<T> general_backward_pieces<T>(                           \
      const LayerPlan<T>&, const LayerBackward<T>&, BufferPool&);
FASTLSTM_GENERAL_BACKWARD(float)
FASTLSTM_GENERAL_BACKWARD(double)
#undef FASTLSTM_GENERAL_BACKWARD

}  // namespace fastlstm
