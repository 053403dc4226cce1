// parallel_for on plain threads, for builds without torch (the NumPy module and the native tests).
#include "segp/parallel.h"

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <vector>

namespace segp {
namespace {

int64_t thread_limit() {
  if (const char* text = std::getenv("SEGP_EXT_THREADS")) {
    const int64_t asked = std::atoll(text);
    if (asked > 0) {
      return asked;
    }
  }
  return std::max<int64_t>(1, std::thread::hardware_concurrency());
}

}  // namespace

void parallel_for(int64_t count, int64_t grain, void (*body)(const void* context, int64_t begin, int64_t end),
                  const void* context) {
  if (count <= 0) {
    return;
  }
  const int64_t useful = (count + std::max<int64_t>(grain, 1) - 1) / std::max<int64_t>(grain, 1);
  const int64_t threads = std::min(useful, thread_limit());
  if (threads <= 1) {
    body(context, 0, count);
    return;
  }
  const int64_t share = (count + threads - 1) / threads;
  std::vector<std::thread> workers;
  workers.reserve(static_cast<size_t>(threads - 1));
  for (int64_t begin = share; begin < count; begin += share) {
    const int64_t end = std::min(count, begin + share);
    workers.emplace_back([=] { body(context, begin, end); });
  }
  body(context, 0, std::min(count, share));
  for (std::thread& worker : workers) {
    worker.join();
  }
}

}  // namespace segp
