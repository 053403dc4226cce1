// prototype_transfer against its definition.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "matrix_ops.h"

namespace {

using namespace segp_test;

// Classes 0, 3, 6, ... have the anchors, in turns; or class 0 has all of them.
template <class T>
void check_transfer(const Sample& sample, double tolerance, bool one_class = false) {
  using Result = segp::accumulator_t<T>;
  const auto [classes, anchors, width, is_scattered, size] = sample;
  Matrix<T> prototypes(classes, width, is_scattered, size), before(anchors, width, is_scattered, size);
  Matrix<T> after(anchors, width, is_scattered, size);
  std::vector<int64_t> target;
  for (int64_t i = 0; i < anchors; ++i) {
    target.push_back(one_class ? 0 : 3 * i % classes / 3 * 3);
  }
  if (classes > 2 && anchors > 2) {
    prototypes.fill_row(1, 0);
    before.fill_row(2, 0);
    after.fill_row(1, 0);
  }
  std::vector<Result> result(static_cast<size_t>(classes * width), Result(5));
  segp::TransferParams params{prototypes.ref(), before.ref(), after.ref(), result.data()};
  run(params, target);

  Rows moved = unit_rows(prototypes);
  const Rows p = moved, from = unit_rows(before), to = unit_rows(after);
  for (size_t i = 0; i < target.size(); ++i) {
    const auto c = static_cast<size_t>(target[i]);
    const double share = dot(from[i], p[c]) / static_cast<double>(std::count(target.begin(), target.end(), target[i]));
    for (size_t k = 0; k < from[i].size(); ++k) {
      moved[c][k] += share * (to[i][k] - from[i][k]);
    }
  }
  std::vector<double> wanted;
  for (const auto& row : moved) {
    const double norm = std::sqrt(dot(row, row));
    for (double value : row) {
      wanted.push_back(norm > 0 ? value / norm : 0);
    }
  }
  CHECK(close(result, wanted, tolerance));

  if (anchors > 2 && classes > 3 && width > 0 && !one_class) {  // what is not finite stays in its class
    before.fill_row(0, std::numeric_limits<double>::quiet_NaN());
    after.fill_row(1, std::numeric_limits<double>::infinity());
    prototypes.fill_row(2, std::numeric_limits<double>::infinity());
    const std::vector<Result> sound = result;
    run(params, target);
    for (int64_t c = 0; c < classes; ++c) {
      const bool is_wrong = c == target[0] || c == target[1] || c == 2;
      for (int64_t k = c * width; k < (c + 1) * width; ++k) {
        const auto i = static_cast<size_t>(k);
        CHECK(is_wrong ? std::isnan(result[i]) : result[i] == sound[i]);
      }
    }
#if SEGP_EMULATED_CUDA
    for (int64_t wrong : {int64_t{-1}, classes, std::numeric_limits<int64_t>::max()}) {
      target[2] = wrong;
      std::fill(result.begin(), result.end(), Result(5));
      run(params, target);
      CHECK(std::all_of(result.begin(), result.end(), [](Result value) { return std::isnan(value); }));
    }
#endif
  }
}

TEST_CASE(transfer_is_its_definition) {
  const auto check = [](Sample sample, bool one_class) {
    check_transfer<segp::Half>(sample, 5e-6, one_class);
    // The kernels of both sides bring any norm into range.
    for (double size : quickly({1.0, 1e30})) {
      sample.size = size;
      check_transfer<segp::BFloat16>(sample, 5e-6, one_class);
    }
    for (double size : quickly({1.0, 1e-25, 1e25, 1e-42, 1e38})) {
      sample.size = size;
      check_transfer<float>(sample, 5e-6, one_class);
      check_transfer<double>(sample, 1e-13, one_class);
    }
    for (double size : quickly({1e-140, 1e140})) {
      sample.size = size;
      check_transfer<double>(sample, 1e-13, one_class);
    }
  };
  for (const Sample& sample : samples()) {
    check(sample, false);
    check(sample, true);
  }
  check({4, 0, 8}, false);
  check({1, 64, 8}, false);  // one piece, several, and one that is not full
  check({1, 65, 8}, false);
  check({2, 128, 16}, true);
  check({7, 700, 24}, false);
  check_transfer<float>({0, 0, 4}, 0);
  check_transfer<float>({3, 5, 0}, 0);
}

}  // namespace
