// The forward pass of one layer whose cell is a variant: scratch memory and threads.
#include "general_loop.hpp"

namespace fastlstm {

template <class T>
void general_forward(const LayerPlan<T>& plan, const LayerForward<T>& args,
                     BufferPool& pool) {
  const int threads = general_threads(plan);
  GeneralForwardLoop<T> loop{plan, args, gate_product(plan, *plan.kernels)};
  const Buffer memory = acquire_pieces(pool, [&](Arena& arena) {
    loop.packed = args.packed != nullptr ? *args.packed : take_weights(plan, arena);
    loop.take(arena, threads);
  });
  loop.begin();
  auto body = [&](const Team& team) { loop.run(team); };
  parallel(threads, body);
  loop.end();
}

template void general_forward<float>(const LayerPlan<float>&,
                                     const LayerForward<float>&, BufferPool&);
template void general_forward<double>(const LayerPlan<double>&,
                                      const LayerForward<double>&, BufferPool&);

}  // namespace fastlstm
