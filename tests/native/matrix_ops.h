// Samples for the ops on matrices, their definitions' parts written out in double, and the call of an op: of the CPU's
// kernels, or with SEGP_EMULATED_CUDA of the CUDA ones on the emulation of emulated_cuda/.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "check.h"
#include "random.h"
#if SEGP_EMULATED_CUDA
#include "cuda_runtime.h"
#endif
#include "segp/distill.h"
#include "segp/drift.h"
#include "segp/dual_target.h"
#include "segp/half.h"
#include "segp/transfer.h"

namespace segp_test {

using segp::DType;
using segp::MatrixRef;

#if SEGP_EMULATED_CUDA
// Calls an op with exactly its workspace. Everything must go to the stream that was given, and an error must come back.
template <class Params>
void run(int64_t (*workspace_of)(const Params&), int (*op)(const Params&, void*, int, void*), const Params& params) {
  std::vector<char> workspace(static_cast<size_t>(workspace_of(params)), 0x7f);
  int stream;
  emulated_cuda::streams_used();
  CHECK(op(params, workspace.data(), 0, &stream) == cudaSuccess);
  const std::set<cudaStream_t> used = emulated_cuda::streams_used();
  CHECK(used.empty() || used == std::set<cudaStream_t>{&stream});
}
inline void run(const segp::DistillParams& params) {
  run(&segp::cuda::geometry_distill_workspace, &segp::cuda::geometry_distill, params);
}
inline void run(const segp::DualTargetParams& params) {
  run(&segp::cuda::dual_target_loss_workspace, &segp::cuda::dual_target_loss, params);
}
inline void run(const segp::DriftParams& params) {
  run(&segp::cuda::prototype_drift_workspace, &segp::cuda::prototype_drift, params);
}
inline void run(const segp::TransferParams& params, const std::vector<int64_t>& target) {
  std::vector<int64_t> order, sorted;
  for (size_t i = 0; i < target.size(); ++i) {
    order.push_back(static_cast<int64_t>(i));
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return target[static_cast<size_t>(a)] < target[static_cast<size_t>(b)];
  });
  for (int64_t i : order) {
    sorted.push_back(target[static_cast<size_t>(i)]);
  }
  const auto bytes = static_cast<size_t>(segp::cuda::prototype_transfer_workspace(params));
  const std::unique_ptr<char[]> workspace(new char[bytes]);  // aligned as a device's memory is
  CHECK(segp::cuda::prototype_transfer(params, sorted.data(), order.data(), workspace.get(), 0, nullptr) == 0);
}
#else
inline void run(const segp::DistillParams& params) { segp::cpu::geometry_distill(params); }
inline void run(const segp::DualTargetParams& params) { segp::cpu::dual_target_loss(params); }
inline void run(const segp::DriftParams& params) { segp::cpu::prototype_drift(params); }
inline void run(const segp::TransferParams& params, const std::vector<int64_t>& target) {
  segp::cpu::prototype_transfer(params, target.data(), 1);
}
#endif

// Rows by columns, stored with a gap after each row and, if asked for, one after each element.
template <class T>
struct Matrix {
  int64_t rows, cols, stride, step;
  std::vector<T> data;

  Matrix(int64_t rows, int64_t cols, bool scattered = false, double size = 1.0)
      : rows(rows),
        cols(cols),
        stride((cols + (scattered ? 3 : 0)) * (scattered ? 2 : 1)),
        step(scattered ? 2 : 1),
        data(static_cast<size_t>(rows * stride + 1)) {
    for (T& value : data) {
      value = segp::Store<T>::from(static_cast<segp::accumulator_t<T>>(size * (uniform() - 0.5)));
    }
  }

  MatrixRef ref() const { return {data.data(), segp::kDTypeOf<T>, rows, cols, stride, step}; }
  double at(int64_t i, int64_t k) const {
    return static_cast<double>(segp::load_value(data[static_cast<size_t>(i * stride + k * step)]));
  }
  void set(int64_t i, int64_t k, double value) {
    data[static_cast<size_t>(i * stride + k * step)] = segp::Store<T>::from(static_cast<segp::accumulator_t<T>>(value));
  }
  void fill_row(int64_t i, double value) {
    for (int64_t k = 0; k < cols; ++k) {
      set(i, k, value);
    }
  }
  void scale_row(int64_t i, double factor) {
    for (int64_t k = 0; k < cols; ++k) {
      set(i, k, at(i, k) * factor);
    }
  }
};

using Rows = std::vector<std::vector<double>>;

template <class T>
Rows unit_rows(const Matrix<T>& matrix, std::vector<double>* norms = nullptr) {
  Rows unit;
  for (int64_t i = 0; i < matrix.rows; ++i) {
    std::vector<double> row;
    double sum = 0;
    for (int64_t k = 0; k < matrix.cols; ++k) {
      row.push_back(matrix.at(i, k));
      sum += row.back() * row.back();
    }
    for (double& value : row) {
      value = sum > 0 ? value / std::sqrt(sum) : 0;
    }
    if (norms != nullptr) {
      norms->push_back(std::sqrt(sum));
    }
    unit.push_back(row);
  }
  return unit;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    sum += a[k] * b[k];
  }
  return sum;
}

inline std::vector<double> softmax(std::vector<double> logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double& value : logits) {
    value = std::exp(value - most);
    sum += value;
  }
  for (double& value : logits) {
    value /= sum;
  }
  return logits;
}

// (direction - unit (unit . direction)) / norm, the derivative through the normalisation.
inline std::vector<double> through_norm(const std::vector<double>& direction, const std::vector<double>& unit,
                                        double norm) {
  const double along = dot(direction, unit);
  std::vector<double> result;
  for (size_t k = 0; k < unit.size(); ++k) {
    result.push_back(norm > 0 ? (direction[k] - unit[k] * along) / norm : 0);
  }
  return result;
}

// Relative error of a whole array, so that rounding of vanishing entries does not count.
template <class T>
bool close(const std::vector<T>& got, const std::vector<double>& wanted, double tolerance) {
  double error = 0, size = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += (static_cast<double>(got[i]) - wanted[i]) * (static_cast<double>(got[i]) - wanted[i]);
    size += wanted[i] * wanted[i];
  }
  return std::sqrt(error) <= tolerance * std::sqrt(size) + 1e-300;
}

// The same of every row, so that a large one does not hide the others. Rows all of rounding may be left out.
template <class T>
bool close_rows(const std::vector<T>& got, const std::vector<double>& wanted, int64_t width, double tolerance) {
  bool all = true;
  for (auto begin = int64_t{0}; begin < static_cast<int64_t>(wanted.size()); begin += width) {
    const auto row = [&](const auto& values) {
      return std::vector(values.begin() + begin, values.begin() + begin + width);
    };
    all = all && close(row(got), row(wanted), tolerance);
  }
  return all;
}

// Brings rows of a matrix far from the others in size.
template <class T>
using Spoil = void (*)(Matrix<T>& rows, Matrix<T>& others);

inline constexpr auto kSomeTiny = [](auto& rows, auto& others) {  // norms of 8e-3 and 8e-4 among 23 and 2.3
  for (int64_t i = 0; i < rows.rows; ++i) {
    rows.scale_row(i, i == 3 ? 3.5e-3 : 10.0);
  }
  others.scale_row(4, 3.5e-4);
};
inline constexpr auto kExtreme = [](auto& rows, auto& others) {  // squares and products of norms beyond float
  rows.scale_row(3, 1e-25);
  rows.scale_row(4, 1e25);
  others.scale_row(4, 1e-30);
  others.scale_row(5, 1e30);
};

// Rows of an op's first matrix, rows of the others that they meet, columns, and how they are stored.
struct Sample {
  int64_t rows, others, width;
  bool is_scattered = false;  // with gaps between elements
  double size = 1;            // of the elements
};

#if SEGP_EMULATED_CUDA
// A thread of the emulation costs as much as a whole row elsewhere. The binding hands over consecutive columns only.
// The weights of the gradients' products are of the inputs' type.
constexpr double kHalf = 2e-3, kBFloat = 1.5e-2;

inline std::vector<Sample> samples() {
  // {3, 4, 70} is small and takes several warps: check_kernels.py.
  return {{5, 7, 13}, {1, 1, 4}, {9, 70, 40}, {2, 3, 16}, {3, 1, 5}, {1, 300, 3}, {3, 4, 70}};
}
#else
constexpr double kHalf = 5e-6, kBFloat = 5e-6;

inline std::vector<Sample> samples() {
  std::vector<Sample> all{{5, 7, 13}, {1, 1, 4}, {33, 90, 64}, {3, 1, 5}, {1, 40, 3}};
  for (size_t i = 0, count = all.size(); i < count; ++i) {
    all.push_back(all[i]);
    all.back().is_scattered = true;
  }
  return all;
}
#endif

// Squares of 1e-25 vanish in float, those of 1e25 are infinite: neither may be seen in the results.
inline std::vector<double> sizes() { return quickly({1.0, 1e-25, 1e25}); }

}  // namespace segp_test
