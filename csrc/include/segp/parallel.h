// The seam to a thread pool, chosen when a library is linked.
//
// Exactly one definition of parallel_for is linked in: python/parallel_torch.cpp hands the work to torch's own
// pool (so torch.set_num_threads is obeyed), csrc/cpu/parallel_threads.cpp needs nothing but the C++ library.
#pragma once

#include <cstdint>

namespace segp {

// Calls body(context, begin, end) on disjoint ranges that cover [0, count), from several threads when count is
// larger than grain, and returns when all are done. Ranges hold at least about `grain` items. Bodies must not
// throw. count <= 0 calls nothing.
void parallel_for(int64_t count, int64_t grain, void (*body)(const void* context, int64_t begin, int64_t end),
                  const void* context);

// The same for a callable taking (begin, end).
template <class Body>
void parallel_for(int64_t count, int64_t grain, const Body& body) {
  parallel_for(
      count, grain,
      [](const void* context, int64_t begin, int64_t end) { (*static_cast<const Body*>(context))(begin, end); },
      static_cast<const void*>(&body));
}

}  // namespace segp
