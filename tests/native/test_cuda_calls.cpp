// What the CUDA ops on matrices promise about workspaces and errors, on the emulation of emulated_cuda/.
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "matrix_ops.h"

namespace {

using namespace segp_test;

TEST_CASE(workspaces_keep_to_what_is_promised) {
  // 64 MiB, where the largest tile is 40; parts begin at multiples of 256 bytes.
  constexpr int64_t kPromised = SEGP_CUDA_TILE_BYTES / 40 * 64 + 16 * 256;
  const float nothing = 0;
  const auto rows_of = [&](int64_t rows, int64_t cols, DType dtype) {
    return MatrixRef{&nothing, dtype, rows, cols, cols, 1};
  };
  for (DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    const int64_t number = dtype == DType::kFloat64 ? 8 : 4;
    for (const auto& [classes, anchors, width] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{{1, 1900, 1},
                                                                                                    {1, 7800000, 1},
                                                                                                    {1, 5000000, 2},
                                                                                                    {10, 1000000, 4},
                                                                                                    {5000, 25000, 4},
                                                                                                    {100000, 10, 4},
                                                                                                    {3, 5, 4},
                                                                                                    {0, 9000, 4}}) {
      const segp::DriftParams params{rows_of(classes, width, dtype),
                                     rows_of(anchors, width, dtype),
                                     rows_of(anchors, width, dtype),
                                     1,
                                     nullptr,
                                     nullptr};
      CHECK(segp::cuda::prototype_drift_workspace(params) <= kPromised + 6 * number * classes);
    }
    for (const auto& [rows, classes, width] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{{5000000, 10, 4},
                                                                                                 {512, 200, 4},
                                                                                                 {5000, 250, 4},
                                                                                                 {5000, 250, 1024},
                                                                                                 {1, 1000, 4},
                                                                                                 {33, 90, 4},
                                                                                                 {0, 2000, 4},
                                                                                                 {2000, 0, 4}}) {
      const MatrixRef images = rows_of(rows, width, dtype), text = rows_of(classes, width, dtype);
      float gradient = 0;
      const segp::DistillParams distill{images, text, images, text, 1, 1, nullptr, &gradient, &gradient};
      const int64_t one_row = number * 4 * (classes + 8);  // what a single row needs
      CHECK(segp::cuda::geometry_distill_workspace(distill) <= kPromised + one_row + 8 * number * (rows + classes));
      const segp::DualTargetParams dual{images, images, text, text, nullptr, 1, 1, 1, nullptr, nullptr, nullptr};
      CHECK(segp::cuda::dual_target_loss_workspace(dual) <= kPromised + one_row + 3 * number * (rows + classes));
    }
  }
}

TEST_CASE(an_error_of_the_device_comes_back) {
  const Matrix<float> rows(40, 8);
  std::vector<float> loss(40), drift(320), proximity(40);
  std::vector<int64_t> target(40), order(40);
  std::vector<char> workspace(1 << 20);
  const segp::DistillParams distill{rows.ref(), rows.ref(),  rows.ref(), rows.ref(), 1,
                                    1,          loss.data(), nullptr,    nullptr};
  const segp::DualTargetParams dual{rows.ref(), rows.ref(), rows.ref(),  rows.ref(), target.data(), 1,
                                    1,          1,          loss.data(), nullptr,    nullptr};
  const segp::DriftParams moved{rows.ref(), rows.ref(), rows.ref(), 1, drift.data(), proximity.data()};
  const segp::TransferParams transfer{rows.ref(), rows.ref(), rows.ref(), drift.data()};
  constexpr cudaError_t kError = 719;
  const auto fails = [&](auto&& call) {
    emulated_cuda::fail_next(kError);
    return call() == kError && call() == cudaSuccess;
  };
  CHECK(fails([&] { return segp::cuda::geometry_distill(distill, workspace.data(), 0, nullptr); }));
  CHECK(fails([&] { return segp::cuda::dual_target_loss(dual, workspace.data(), 0, nullptr); }));
  CHECK(fails([&] { return segp::cuda::prototype_drift(moved, workspace.data(), 0, nullptr); }));
  CHECK(fails([&] {
    return segp::cuda::prototype_transfer(transfer, target.data(), order.data(), workspace.data(), 0, nullptr);
  }));
}

}  // namespace
