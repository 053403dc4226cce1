#include <atomic>
#include <vector>

#include "check.h"
#include "segp/parallel.h"

namespace {

TEST_CASE(every_item_is_visited_once) {
  for (int64_t count : {0, 1, 2, 3, 7, 64, 1000, 1001}) {
    for (int64_t grain : {0, 1, 5, 400, 5000}) {
      std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
      segp::parallel_for(count, grain, [&](int64_t begin, int64_t end) {
        CHECK(begin < end);
        for (int64_t i = begin; i < end; ++i) {
          ++visits[static_cast<size_t>(i)];
        }
      });
      for (const auto& visit : visits) {
        CHECK(visit == 1);
      }
    }
  }
}

}  // namespace
