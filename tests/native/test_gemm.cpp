// The library's own matrix product, in all layouts that it takes, at sizes around those of its blocks.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "segp/gemm_blocked.h"

namespace {

using segp::GemmMatrix;

// Rows by columns, consecutive along the rows or down the columns, with a gap after each.
template <class T>
struct Operand {
  std::vector<T> data;
  GemmMatrix<const T> view;

  Operand(int64_t rows, int64_t cols, bool by_column, uint32_t seed) {
    const int64_t stride = (by_column ? rows : cols) + 3;
    data.resize(static_cast<size_t>(stride * (by_column ? cols : rows)));
    for (T& value : data) {
      seed = seed * 1664525u + 1013904223u;
      value = static_cast<T>(static_cast<double>(seed) / 4294967296.0 - 0.5);
    }
    view = {data.data(), rows, cols, by_column ? 1 : stride, by_column ? stride : 1};
  }
  double at(int64_t i, int64_t k) const {
    return static_cast<double>(view.data[i * view.row_stride + k * view.col_stride]);
  }
};

template <class T>
void check_product(int64_t rows, int64_t depth, int64_t cols, double tolerance) {
  constexpr int64_t kGap = 5;
  for (int layout = 0; layout < 8; ++layout) {
    const bool accumulate = (layout & 4) != 0;
    const Operand<T> a(rows, depth, (layout & 1) != 0, 17), b(depth, cols, (layout & 2) != 0, 29);
    std::vector<T> out(static_cast<size_t>(rows * (cols + kGap)), T(7));
    segp::cpu::gemm_blocked<T>(a.view, b.view, {out.data(), rows, cols, cols + kGap, 1}, accumulate);
    double worst = 0;
    bool gaps_are_left_alone = true;
    for (int64_t i = 0; i < rows; ++i) {
      const T* row = out.data() + i * (cols + kGap);
      for (int64_t j = 0; j < cols; ++j) {
        double wanted = accumulate ? 7 : 0;
        for (int64_t k = 0; k < depth; ++k) {
          wanted += a.at(i, k) * b.at(k, j);
        }
        worst = std::fmax(worst, std::fabs(static_cast<double>(row[j]) - wanted));
      }
      for (int64_t j = cols; j < cols + kGap; ++j) {
        gaps_are_left_alone = gaps_are_left_alone && row[j] == T(7);
      }
    }
    CHECK(worst <= tolerance);
    CHECK(gaps_are_left_alone);
  }
}

}  // namespace

TEST_CASE(products_around_the_sizes_of_blocks) {
  for (int64_t rows : {1, 2, 5, 6, 12, 13, 37}) {
    for (int64_t cols : {1, 3, 4, 8, 15, 16, 17, 31, 32, 33, 70}) {
      for (int64_t depth : {1, 7, 16, 50}) {
        check_product<float>(rows, depth, cols, 2e-5);
        check_product<double>(rows, depth, cols, 1e-13);
      }
    }
  }
}

TEST_CASE(products_of_several_blocks_panels_and_groups) {
  check_product<float>(3, 600, 40, 1e-4);
  check_product<float>(200, 257, 19, 5e-5);
  check_product<float>(150, 70, 600, 5e-5);
  check_product<double>(100, 520, 50, 1e-12);
}

TEST_CASE(products_over_nothing_are_zero) {
  check_product<float>(4, 0, 20, 0);
  check_product<float>(0, 3, 4, 0);
  check_product<float>(4, 3, 0, 0);
}

TEST_CASE(a_nan_stays_in_its_row_and_column) {
  constexpr int64_t kSize = 19;
  for (bool by_column : {false, true}) {
    Operand<float> a(kSize, kSize, by_column, 1), b(kSize, kSize, by_column, 2);
    a.data[static_cast<size_t>(4 * (a.view.row_stride + a.view.col_stride))] = std::numeric_limits<float>::quiet_NaN();
    b.data[static_cast<size_t>(9 * (b.view.row_stride + b.view.col_stride))] = std::numeric_limits<float>::infinity();
    std::vector<float> out(kSize * kSize);
    segp::cpu::gemm_blocked<float>(a.view, b.view, {out.data(), kSize, kSize, kSize, 1}, false);
    for (int64_t i = 0; i < kSize; ++i) {
      for (int64_t j = 0; j < kSize; ++j) {
        CHECK(std::isfinite(out[static_cast<size_t>(i * kSize + j)]) == (i != 4 && j != 9));
      }
    }
  }
}

TEST_CASE(the_number_of_threads_changes_no_bit) {
  const char* before = std::getenv("SEGP_EXT_THREADS");
  const std::string asked = before == nullptr ? "" : before;
  const Operand<float> a(130, 300, false, 3), b(300, 210, true, 4);
  std::vector<std::vector<float>> results;
  for (const char* threads : {"1", "2", "5"}) {
    setenv("SEGP_EXT_THREADS", threads, 1);
    results.emplace_back(130 * 210);
    segp::cpu::gemm_blocked<float>(a.view, b.view, {results.back().data(), 130, 210, 210, 1}, false);
    CHECK(results.back() == results.front());
  }
  asked.empty() ? unsetenv("SEGP_EXT_THREADS") : setenv("SEGP_EXT_THREADS", asked.c_str(), 1);
}
