// prototype_drift against its definition.
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "matrix_ops.h"

namespace {

using namespace segp_test;

template <class T>
void check_drift(const Sample& sample, double tolerance, double temperature = 0.1) {
  using Result = segp::accumulator_t<T>;
  const auto [classes, anchors, width, is_scattered, size] = sample;
  Matrix<T> prototypes(classes, width, is_scattered, size), before(anchors, width, is_scattered, size);
  Matrix<T> after(anchors, width, is_scattered, size);
  if (classes > 2 && anchors > 2) {
    prototypes.fill_row(1, 0);
    before.fill_row(2, 0);
  }
  std::vector<Result> drift(static_cast<size_t>(classes * width)), proximity(static_cast<size_t>(classes));
  segp::DriftParams params{prototypes.ref(), before.ref(), after.ref(), temperature, drift.data(), proximity.data()};
  run(params);

  const Rows p = unit_rows(prototypes), z = unit_rows(before);
  std::vector<double> wanted, wanted_proximity;
  for (const auto& row : p) {
    std::vector<double> logits;
    for (const auto& anchor : z) {
      logits.push_back(dot(row, anchor) / temperature);
    }
    const std::vector<double> weight = softmax(logits);
    std::vector<double> sum(static_cast<size_t>(width));
    double near = 0;
    for (int64_t a = 0; a < anchors; ++a) {
      const double w = weight[static_cast<size_t>(a)];
      near += w * std::max(0.0, logits[static_cast<size_t>(a)] * temperature);
      for (int64_t k = 0; k < width; ++k) {
        sum[static_cast<size_t>(k)] += w * (after.at(a, k) - before.at(a, k));
      }
    }
    wanted_proximity.push_back(near);
    wanted.insert(wanted.end(), sum.begin(), sum.end());
  }
  CHECK(close(drift, wanted, tolerance));
  CHECK(close(proximity, wanted_proximity, tolerance));
}

TEST_CASE(drift_is_its_definition) {
  for (Sample sample : samples()) {
    check_drift<segp::Half>(sample, 5e-6);
    check_drift<segp::BFloat16>(sample, 5e-6);
    for (double size : sizes()) {
      sample.size = size;
      check_drift<float>(sample, 5e-6);
      check_drift<double>(sample, 1e-13);
    }
  }
}

TEST_CASE(drift_of_half_types_is_exact_beyond_their_range) {
  for (const auto& [from, to] : {std::pair{-60000.0, 60000.0}, std::pair{1.0, 1.0 + 0x1p-10}}) {
    Matrix<segp::Half> prototypes(1, 3), before(1, 3), after(1, 3);
    before.fill_row(0, from);
    after.fill_row(0, to);
    std::vector<float> drift(3), proximity(1);
    run(segp::DriftParams{prototypes.ref(), before.ref(), after.ref(), 0.1, drift.data(), proximity.data()});
    CHECK(std::count(drift.begin(), drift.end(), static_cast<float>(to - from)) == 3);
  }
}

#if SEGP_EMULATED_CUDA
TEST_CASE(drift_in_several_chunks) {  // the tile is 10 KiB here
  check_drift<float>({33, 90, 64}, 5e-6);
  check_drift<float>({3, 300, 40}, 1e-4, 0.002);  // sharp: the maximum moves from chunk to chunk
  check_drift<double>({3, 300, 40}, 1e-12, 0.002);
}

TEST_CASE(chunks_of_tiny_features_far_away_do_not_vanish) {
  check_drift<float>({3, 300, 40, false, 1e-25}, 5e-6, 0.025);
  check_drift<float>({3, 300, 40, false, 1e-25}, 1e-4, 0.002);
}
#else
TEST_CASE(drift_in_several_chunks_of_anchors_and_blocks_of_prototypes) {
  check_drift<float>({20, 7000, 512}, 1e-5);
  check_drift<segp::BFloat16>({1500, 3500, 512}, 1e-5);
  check_drift<float>({3, 20000, 400}, 1e-4, 0.002);  // sharp: the maximum moves from chunk to chunk
}
#endif

TEST_CASE(without_anchors_nothing_drifts) {
  const Matrix<float> rows(2, 4), none(0, 4);
  std::vector<float> drift(8, 5.0f), proximity(2, 5.0f);
  segp::DriftParams still{rows.ref(), none.ref(), none.ref(), 0.1, drift.data(), proximity.data()};
  run(still);
  CHECK(std::count(drift.begin(), drift.end(), 0.0f) == 8 && proximity[0] == 0 && proximity[1] == 0);
}

}  // namespace
