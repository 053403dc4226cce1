// parallel_for on torch's own thread pool: no second pool competes with it, and torch.set_num_threads is obeyed.
#include <torch/csrc/stable/ops.h>

#include "segp/parallel.h"

namespace segp {

void parallel_for(int64_t count, int64_t grain, void (*body)(const void* context, int64_t begin, int64_t end),
                  const void* context) {
  if (count <= 0) {
    return;
  }
  if (count <= grain) {  // not worth the way through torch
    body(context, 0, count);
    return;
  }
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) { body(context, begin, end); });
}

}  // namespace segp
