// The ops on matrices against their definitions, written out in double: the CPU's kernels, and with
// SEGP_EMULATED_CUDA the CUDA ones on the emulation of emulated_cuda/.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "check.h"
#if SEGP_EMULATED_CUDA
#include "cuda_runtime.h"
#endif
#include "segp/distill.h"
#include "segp/drift.h"
#include "segp/dual_target.h"
#include "segp/half.h"
#include "segp/transfer.h"

namespace {

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
void run(const segp::DistillParams& params) {
  run(&segp::cuda::geometry_distill_workspace, &segp::cuda::geometry_distill, params);
}
void run(const segp::DualTargetParams& params) {
  run(&segp::cuda::dual_target_loss_workspace, &segp::cuda::dual_target_loss, params);
}
void run(const segp::DriftParams& params) {
  run(&segp::cuda::prototype_drift_workspace, &segp::cuda::prototype_drift, params);
}
void run(const segp::TransferParams& params, const std::vector<int64_t>& target) {
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
void run(const segp::DistillParams& params) { segp::cpu::geometry_distill(params); }
void run(const segp::DualTargetParams& params) { segp::cpu::dual_target_loss(params); }
void run(const segp::DriftParams& params) { segp::cpu::prototype_drift(params); }
void run(const segp::TransferParams& params, const std::vector<int64_t>& target) {
  segp::cpu::prototype_transfer(params, target.data(), 1);
}
#endif

template <class T>
DType dtype_of();
template <>
DType dtype_of<float>() {
  return DType::kFloat32;
}
template <>
DType dtype_of<double>() {
  return DType::kFloat64;
}
template <>
DType dtype_of<segp::Half>() {
  return DType::kFloat16;
}
template <>
DType dtype_of<segp::BFloat16>() {
  return DType::kBFloat16;
}

double uniform() {
  static uint64_t state = 0x2545f4914f6cdd1dull;
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return static_cast<double>(state >> 11) / 9007199254740992.0 - 0.5;
}

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
      value = segp::Store<T>::from(static_cast<segp::accumulator_t<T>>(size * uniform()));
    }
  }

  MatrixRef ref() const { return {data.data(), dtype_of<T>(), rows, cols, stride, step}; }
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

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t k = 0; k < a.size(); ++k) {
    sum += a[k] * b[k];
  }
  return sum;
}

std::vector<double> softmax(std::vector<double> logits) {
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
std::vector<double> through_norm(const std::vector<double>& direction, const std::vector<double>& unit, double norm) {
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

template <class T, class Result>
void check_distill(int64_t batch, int64_t classes, int64_t width, bool scattered, double size, double tolerance,
                   Spoil<T> spoil = nullptr, double sharpness = 15) {
  Matrix<T> student(batch, width, scattered, size), student_text(classes, width, scattered, size);
  Matrix<T> teacher(batch, width, scattered, size), teacher_text(classes, width, scattered, size);
  if (batch > 2 && classes > 2) {
    student.fill_row(1, 0);
    student_text.fill_row(2, 0);
    teacher.fill_row(2, 0);
  }
  if (spoil != nullptr) {
    spoil(student, student_text);
    spoil(teacher_text, teacher);
  }
  Result loss = -1;
  std::vector<Result> grad_student(static_cast<size_t>(batch * width)), grad_text(static_cast<size_t>(classes * width));
  segp::DistillParams params{};
  params.student = student.ref();
  params.student_text = student_text.ref();
  params.teacher = teacher.ref();
  params.teacher_text = teacher_text.ref();
  params.logit_scale = 2 * sharpness;
  params.temperature = 2;
  params.loss = &loss;
  params.grad_student = grad_student.data();
  params.grad_student_text = grad_text.data();
  run(params);

  std::vector<double> norms, text_norms;
  const Rows s = unit_rows(student, &norms), u = unit_rows(student_text, &text_norms);
  const Rows t = unit_rows(teacher), v = unit_rows(teacher_text);
  Rows text_direction(static_cast<size_t>(classes), std::vector<double>(static_cast<size_t>(width)));
  std::vector<double> wanted_student, wanted_text;
  double wanted = 0;
  for (size_t b = 0; b < s.size(); ++b) {
    std::vector<double> p, q;
    for (size_t c = 0; c < u.size(); ++c) {
      p.push_back(sharpness * dot(s[b], u[c]));
      q.push_back(sharpness * dot(t[b], v[c]));
    }
    p = softmax(p);
    q = softmax(q);
    std::vector<double> direction(static_cast<size_t>(width));
    for (size_t c = 0; c < u.size(); ++c) {
      wanted += 4 * q[c] * std::log(q[c] / p[c]) / static_cast<double>(batch);
      const double weight = 4 * sharpness * (p[c] - q[c]) / static_cast<double>(batch);
      for (size_t k = 0; k < direction.size(); ++k) {
        direction[k] += weight * u[c][k];
        text_direction[c][k] += weight * s[b][k];
      }
    }
    const auto gradient = through_norm(direction, s[b], norms[b]);
    wanted_student.insert(wanted_student.end(), gradient.begin(), gradient.end());
  }
  for (size_t c = 0; c < u.size(); ++c) {
    const auto gradient = through_norm(text_direction[c], u[c], text_norms[c]);
    wanted_text.insert(wanted_text.end(), gradient.begin(), gradient.end());
  }
  CHECK(close(std::vector<Result>{loss}, {wanted}, tolerance));
  if (spoil == nullptr) {
    CHECK(close(grad_student, wanted_student, tolerance));
    CHECK(close(grad_text, wanted_text, tolerance));
  } else {
    CHECK(close_rows(grad_student, wanted_student, width, tolerance));
    CHECK(close_rows(grad_text, wanted_text, width, tolerance));
  }

  const Result before = loss;
  params.grad_student = params.grad_student_text = nullptr;
  run(params);
  CHECK(loss == before);

  params.student = teacher.ref();  // nothing is left but the square of a rounding
  params.student_text = teacher_text.ref();
  run(params);
  CHECK(loss >= 0 && loss <= 1e-10);
}

template <class T, class Result>
void check_dual_target(int64_t batch, int64_t classes, int64_t width, bool scattered, double size, double tolerance,
                       Spoil<T> spoil = nullptr) {
  Matrix<T> embedding(batch, width, scattered, size), feature(batch, width + 1, scattered, size);
  Matrix<T> text(classes, width, scattered, size), prototypes(classes, width + 1, scattered, size);
  std::vector<int64_t> target;
  for (int64_t b = 0; b < batch; ++b) {
    target.push_back((7 * b + 3) % classes);
  }
  if (batch > 2 && classes > 2) {
    embedding.fill_row(1, 0);
    feature.fill_row(0, 0);
    prototypes.fill_row(target[2], 0);
  }
  if (spoil != nullptr) {
    spoil(embedding, text);
    spoil(prototypes, feature);
  }
  std::vector<Result> loss(static_cast<size_t>(batch)), grad_embedding(static_cast<size_t>(batch * width));
  std::vector<Result> grad_feature(static_cast<size_t>(batch * (width + 1)));
  segp::DualTargetParams params{};
  params.embedding = embedding.ref();
  params.feature = feature.ref();
  params.text = text.ref();
  params.prototypes = prototypes.ref();
  params.target = target.data();
  params.target_stride = 1;
  params.logit_scale = 20;
  params.visual_weight = 0.7;
  params.loss = loss.data();
  params.grad_embedding = grad_embedding.data();
  params.grad_feature = grad_feature.data();
  run(params);

  std::vector<double> norms, feature_norms, wanted, wanted_embedding, wanted_feature;
  const Rows v = unit_rows(embedding, &norms), z = unit_rows(feature, &feature_norms);
  const Rows u = unit_rows(text), p = unit_rows(prototypes);
  for (size_t b = 0; b < v.size(); ++b) {
    const auto c = static_cast<size_t>(target[b]);
    std::vector<double> probability;
    for (const auto& row : u) {
      probability.push_back(20 * dot(v[b], row));
    }
    probability = softmax(probability);
    wanted.push_back(-std::log(probability[c]) + 0.7 * (1 - dot(z[b], p[c])));
    std::vector<double> direction(static_cast<size_t>(width)), visual;
    for (size_t k = 0; k < direction.size(); ++k) {
      for (size_t i = 0; i < u.size(); ++i) {
        direction[k] += 20 * (probability[i] - (i == c ? 1 : 0)) * u[i][k];
      }
    }
    for (double value : p[c]) {
      visual.push_back(-0.7 * value);
    }
    const auto gradient = through_norm(direction, v[b], norms[b]);
    wanted_embedding.insert(wanted_embedding.end(), gradient.begin(), gradient.end());
    const auto visual_gradient = through_norm(visual, z[b], feature_norms[b]);
    wanted_feature.insert(wanted_feature.end(), visual_gradient.begin(), visual_gradient.end());
  }
  CHECK(close(loss, wanted, tolerance));
  if (spoil == nullptr) {
    CHECK(close(grad_embedding, wanted_embedding, tolerance));
    CHECK(close(grad_feature, wanted_feature, tolerance));
  } else {
    CHECK(close_rows(grad_embedding, wanted_embedding, width, tolerance));
    CHECK(close_rows(grad_feature, wanted_feature, width + 1, tolerance));
  }

  if (batch > 3) {
    target[3] = classes;
    target[0] = -1;
    run(params);
    for (int64_t b : {int64_t{0}, int64_t{3}}) {
      const auto row = static_cast<size_t>(b);
      CHECK(std::isnan(loss[row]) && std::isnan(grad_embedding[row * static_cast<size_t>(width)]) &&
            std::isnan(grad_feature[row * static_cast<size_t>(width + 1)]));
    }
    CHECK(std::isfinite(loss[1]) && std::isfinite(loss[2]));
  }
}

template <class T, class Result>
void check_drift(int64_t classes, int64_t anchors, int64_t width, bool scattered, double size, double tolerance,
                 double temperature = 0.1) {
  Matrix<T> prototypes(classes, width, scattered, size), before(anchors, width, scattered, size);
  Matrix<T> after(anchors, width, scattered, size);
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

// Classes 0, 3, 6, ... have the anchors, in turns; or class 0 has all of them.
template <class T, class Result>
void check_transfer(int64_t classes, int64_t anchors, int64_t width, bool scattered, double size, double tolerance,
                    bool one_class = false) {
  Matrix<T> prototypes(classes, width, scattered, size), before(anchors, width, scattered, size);
  Matrix<T> after(anchors, width, scattered, size);
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

#if SEGP_EMULATED_CUDA
// A thread of the emulation costs as much as a whole row elsewhere. The binding hands over consecutive columns only.
// The weights of the gradients' products are of the inputs' type.
constexpr bool kScattered[] = {false};
constexpr double kHalf = 2e-3, kBFloat = 1.5e-2;
const std::vector<std::tuple<int, int, int>> kShapes{{5, 7, 13}, {1, 1, 4}, {9, 70, 40},
                                                     {2, 3, 16}, {3, 1, 5}, {1, 300, 3}};
#else
constexpr bool kScattered[] = {false, true};
constexpr double kHalf = 5e-6, kBFloat = 5e-6;
const std::vector<std::tuple<int, int, int>> kShapes{{5, 7, 13}, {1, 1, 4}, {33, 90, 64}, {3, 1, 5}, {1, 40, 3}};
#endif

// Squares of 1e-25 vanish in float, those of 1e25 are infinite: neither may be seen in the results.
constexpr double kSizes[] = {1.0, 1e-25, 1e25};

}  // namespace

TEST_CASE(distill_is_its_definition) {
  for (const auto& [b, c, d] : kShapes) {
    for (bool scattered : kScattered) {
      for (double size : kSizes) {
        check_distill<float, float>(b, c, d, scattered, size, 5e-6);
        check_distill<double, double>(b, c, d, scattered, size, 1e-13);
      }
      check_distill<segp::Half, float>(b, c, d, scattered, 1, kHalf);
      check_distill<segp::BFloat16, float>(b, c, d, scattered, 1, kBFloat);
    }
  }
}

TEST_CASE(dual_target_is_its_definition) {
  for (const auto& [b, c, d] : kShapes) {
    for (bool scattered : kScattered) {
      for (double size : kSizes) {
        check_dual_target<float, float>(b, c, d, scattered, size, 5e-6);
        check_dual_target<double, double>(b, c, d, scattered, size, 1e-13);
      }
      check_dual_target<segp::Half, float>(b, c, d, scattered, 1, kHalf);
      check_dual_target<segp::BFloat16, float>(b, c, d, scattered, 1, kBFloat);
    }
  }
}

TEST_CASE(drift_is_its_definition) {
  for (const auto& [c, a, d] : kShapes) {
    for (bool scattered : kScattered) {
      for (double size : kSizes) {
        check_drift<float, float>(c, a, d, scattered, size, 5e-6);
        check_drift<double, double>(c, a, d, scattered, size, 1e-13);
      }
      check_drift<segp::Half, float>(c, a, d, scattered, 1, 5e-6);
      check_drift<segp::BFloat16, float>(c, a, d, scattered, 1, 5e-6);
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

TEST_CASE(rows_far_apart_in_size_leave_each_other_alone) {
  const auto some_tiny = [](auto& rows, auto& others) {  // norms of 8e-3 and 8e-4 among 23 and 2.3
    for (int64_t i = 0; i < rows.rows; ++i) {
      rows.scale_row(i, i == 3 ? 3.5e-3 : 10.0);
    }
    others.scale_row(4, 3.5e-4);
  };
  check_distill<segp::Half, float>(8, 20, 64, false, 1, kHalf, some_tiny);
  check_distill<segp::BFloat16, float>(8, 20, 64, false, 1, kBFloat, some_tiny);
  check_dual_target<segp::Half, float>(8, 20, 64, false, 1, kHalf, some_tiny);
  check_dual_target<segp::BFloat16, float>(8, 20, 64, false, 1, kBFloat, some_tiny);
  const auto extreme = [](auto& rows, auto& others) {  // squares and products of norms beyond float
    rows.scale_row(3, 1e-25);
    rows.scale_row(4, 1e25);
    others.scale_row(4, 1e-30);
    others.scale_row(5, 1e30);
  };
  check_distill<float, float>(8, 20, 64, false, 1, 1e-5, extreme);
  check_dual_target<float, float>(8, 20, 64, false, 1, 1e-5, extreme);
  const auto all_tiny = [](auto& rows, auto&) {
    for (int64_t i = 0; i < rows.rows; ++i) {
      rows.scale_row(i, 1e-21);
    }
  };
  check_distill<float, float>(8, 20, 64, false, 1, 1e-5, all_tiny);
  const auto all_large = [](auto& rows, auto&) {
    for (int64_t i = 0; i < rows.rows; ++i) {
      rows.scale_row(i, 1e19);
    }
  };
  check_distill<float, float>(8, 20, 64, false, 1, 1e-5, all_large);
}

TEST_CASE(transfer_is_its_definition) {
  const auto check = [](int64_t c, int64_t a, int64_t d, bool scattered, bool one_class) {
    // The kernels of both sides bring any norm into range.
    for (double size : {1.0, 1e-25, 1e25, 1e-42, 1e38}) {
      check_transfer<float, float>(c, a, d, scattered, size, 5e-6, one_class);
      check_transfer<double, double>(c, a, d, scattered, size, 1e-13, one_class);
    }
    check_transfer<double, double>(c, a, d, scattered, 1e-140, 1e-13, one_class);
    check_transfer<double, double>(c, a, d, scattered, 1e140, 1e-13, one_class);
    check_transfer<segp::Half, float>(c, a, d, scattered, 1, 5e-6, one_class);
    check_transfer<segp::BFloat16, float>(c, a, d, scattered, 1, 5e-6, one_class);
    check_transfer<segp::BFloat16, float>(c, a, d, scattered, 1e30, 5e-6, one_class);
  };
  for (const auto& [c, a, d] : kShapes) {
    for (bool scattered : kScattered) {
      check(c, a, d, scattered, false);
      check(c, a, d, scattered, true);
    }
  }
  check(4, 0, 8, false, false);
  check(1, 64, 8, false, false);  // one piece, several, and one that is not full
  check(1, 65, 8, false, false);
  check(2, 128, 16, false, true);
  check(7, 700, 24, false, false);
  check_transfer<float, float>(0, 0, 4, false, 1, 0);
  check_transfer<float, float>(3, 5, 0, false, 1, 0);
}

#if SEGP_EMULATED_CUDA
TEST_CASE(several_blocks_and_chunks) {  // the tile is 10 KiB here
  check_distill<float, float>(33, 90, 64, false, 1, 5e-6);
  check_distill<segp::BFloat16, float>(33, 90, 64, false, 1, kBFloat);
  check_distill<segp::Half, float>(33, 90, 64, false, 1, kHalf);
  check_dual_target<segp::Half, float>(33, 90, 64, false, 1, kHalf);
  check_drift<float, float>(33, 90, 64, false, 1, 5e-6);
  check_drift<float, float>(3, 300, 40, false, 1, 1e-4, 0.002);  // sharp: the maximum moves from chunk to chunk
  check_drift<double, double>(3, 300, 40, false, 1, 1e-12, 0.002);
}

// What the largest value is compared with must be the number that it is, whatever the compiler does with a * b - c.
TEST_CASE(sharp_softmaxes_are_those_of_their_largest_value) {
  for (const auto& [scale, temperature] :
       {std::pair{1e6, 1e-6}, std::pair{1e4, 1e-6}, std::pair{100.0, 1e-6}, std::pair{1e6, 1.0}}) {
    for (int64_t classes : {int64_t{1}, int64_t{40}}) {
      const Matrix<float> student(3, 8), text(classes, 8), teacher(3, 8), teacher_text(classes, 8);
      std::vector<float> gradient(24), text_gradient(static_cast<size_t>(classes * 8));
      float loss = -1;
      run(segp::DistillParams{student.ref(), text.ref(), teacher.ref(), teacher_text.ref(), scale, temperature, &loss,
                              gradient.data(), text_gradient.data()});
      CHECK(loss >= 0 && std::isfinite(loss));
      for (const auto& values : {gradient, text_gradient}) {
        CHECK(std::all_of(values.begin(), values.end(),
                          [&](float x) { return classes == 1 ? x == 0 : std::isfinite(x); }));
      }
      CHECK(classes > 1 || loss == 0);
    }
    const Matrix<float> image(1, 8), others(40, 8), prototypes(41, 8);
    Matrix<float> texts(41, 8);
    for (int64_t i = 0; i < 41 * 8; ++i) {
      texts.data[static_cast<size_t>(i)] =
          i < 8 ? image.data[static_cast<size_t>(i)] : others.data[static_cast<size_t>(i - 8)];
    }
    const int64_t target = 0;
    std::vector<float> loss(1), gradient(8), rest(8);
    run(segp::DualTargetParams{image.ref(), image.ref(), texts.ref(), prototypes.ref(), &target, 1, scale, 0,
                               loss.data(), gradient.data(), rest.data()});
    CHECK(loss[0] >= 0 && loss[0] <= 1e-4);  // the nearest text is the image itself
    CHECK(std::all_of(gradient.begin(), gradient.end(), [](float x) { return std::fabs(x) <= 1e-2f; }));
  }
}

TEST_CASE(equal_sides_have_no_gradient) {
  for (double scale : {20.0, 100.0}) {
    for (int64_t classes : {int64_t{2}, int64_t{40}}) {
      const Matrix<float> rows(9, 16), text(classes, 16);
      std::vector<float> gradient(144, 1.0f), text_gradient(static_cast<size_t>(classes * 16), 1.0f);
      float loss = -1;
      run(segp::DistillParams{rows.ref(), text.ref(), rows.ref(), text.ref(), scale, 1, &loss, gradient.data(),
                              text_gradient.data()});
      CHECK(loss == 0 && std::count(gradient.begin(), gradient.end(), 0.0f) == 144 &&
            std::count(text_gradient.begin(), text_gradient.end(), 0.0f) == classes * 16);
    }
  }
}

TEST_CASE(a_small_loss_is_never_negative) {
  for (double scale : {20.0, 39.9, 40.1}) {
    Matrix<float> image(4, 3), text(20, 3);
    for (int64_t c = 0; c < 20; ++c) {
      text.set(c, 0, c == 2 ? 0.31 : -0.7);
      text.set(c, 1, std::sqrt(1 - (c == 2 ? 0.31 * 0.31 : 0.49)));
      text.set(c, 2, 0);
    }
    for (int64_t b = 0; b < 4; ++b) {
      image.set(b, 0, 1 + 0.01 * static_cast<double>(b));
      image.set(b, 1, 0);
      image.set(b, 2, 0);
    }
    const std::vector<int64_t> target(4, 2);
    std::vector<float> loss(4), gradient(12), rest(12);
    run(segp::DualTargetParams{image.ref(), image.ref(), text.ref(), text.ref(), target.data(), 1, scale, 0,
                               loss.data(), gradient.data(), rest.data()});
    CHECK(std::all_of(loss.begin(), loss.end(), [](float x) { return x >= 0 && x <= 1e-6f; }) || scale == 20.0);
    CHECK(std::all_of(loss.begin(), loss.end(), [](float x) { return x >= 0 && x <= 1e-5f; }));
  }
}

TEST_CASE(many_flat_classes_keep_their_digits_in_half_types) {
  const auto a_tiny_row = [](auto& rows, auto&) { rows.scale_row(1, 1e-3); };
  const auto a_tiny_text = [](auto& rows, auto& others) {
    if (others.rows > rows.rows) {  // of the student; the teacher's come the other way round
      others.scale_row(7, 1e-3);
    }
  };
  check_distill<segp::Half, float>(2, 20000, 16, false, 1, kHalf, a_tiny_row, 1.0);
  check_distill<segp::Half, float>(2, 20000, 16, false, 1, 2 * kHalf, a_tiny_text, 1.0);
}

TEST_CASE(chunks_of_tiny_features_far_away_do_not_vanish) {
  check_drift<float, float>(3, 300, 40, false, 1e-25, 5e-6, 0.025);
  check_drift<float, float>(3, 300, 40, false, 1e-25, 1e-4, 0.002);
}

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
      CHECK(segp::cuda::prototype_drift_workspace(params) <= kPromised + 7 * number * classes);
    }
    for (const auto& [rows, classes] : std::vector<std::pair<int64_t, int64_t>>{
             {5000000, 10}, {512, 200}, {5000, 250}, {1, 1000}, {33, 90}, {0, 2000}, {2000, 0}}) {
      const MatrixRef images = rows_of(rows, 4, dtype), text = rows_of(classes, 4, dtype);
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
#else
TEST_CASE(distill_in_several_blocks_of_rows_and_of_classes) {
  check_distill<float, float>(60, 30000, 6, false, 1, 1e-5);
  check_distill<segp::BFloat16, float>(5, 1500, 512, false, 1, 1e-5);
  check_distill<float, float>(1500, 9, 1500, true, 1, 1e-5);
}

TEST_CASE(dual_target_in_several_blocks) {
  check_dual_target<float, float>(100, 40000, 6, false, 1, 1e-5);
  check_dual_target<segp::BFloat16, float>(5, 1500, 512, false, 1, 1e-5);
  check_dual_target<float, float>(1500, 9, 1500, true, 1, 1e-5);
}

TEST_CASE(drift_in_several_chunks_of_anchors_and_blocks_of_prototypes) {
  check_drift<float, float>(20, 7000, 512, false, 1, 1e-5);
  check_drift<segp::BFloat16, float>(1500, 3500, 512, false, 1, 1e-5);
  check_drift<float, float>(3, 20000, 400, false, 1, 1e-4, 0.002);  // sharp: the maximum moves from chunk to chunk
}
#endif

TEST_CASE(nothing_in_nothing_out) {
  check_distill<float, float>(0, 3, 4, false, 1, 0);
  check_distill<float, float>(0, 1100, 4, false, 1, 0);
  check_distill<segp::Half, float>(0, 1100, 4, false, 1, 0);
  check_distill<float, float>(3, 3, 0, false, 1, 1e-6);
  check_distill<float, float>(60, 70, 0, false, 1, 1e-6);  // of several blocks

  const Matrix<float> images(60, 0), texts(70, 0), features(60, 3), prototypes(70, 3);
  const std::vector<int64_t> target(60);
  std::vector<float> losses(60), feature_gradient(180);
  run(segp::DualTargetParams{images.ref(), features.ref(), texts.ref(), prototypes.ref(), target.data(), 1, 20, 0,
                             losses.data(), nullptr, feature_gradient.data()});
  CHECK(close(losses, std::vector<double>(60, std::log(70.0)), 1e-6));
  float loss = -1;
  std::vector<float> gradient(8, 5.0f), rest(1);
  const Matrix<float> rows(2, 4), none(0, 4);
  segp::DistillParams params{rows.ref(), none.ref(), rows.ref(), none.ref(), 1, 1, &loss, gradient.data(), rest.data()};
  run(params);
  CHECK(loss == 0 && std::count(gradient.begin(), gradient.end(), 0.0f) == 8);
  const Matrix<float> many(1100, 4);
  std::vector<float> gradients(4400, 5.0f);
  params = {many.ref(), none.ref(), many.ref(), none.ref(), 1, 1, &loss, gradients.data(), rest.data()};
  run(params);
  CHECK(loss == 0 && std::count(gradients.begin(), gradients.end(), 0.0f) == 4400);

  std::vector<float> drift(8, 5.0f), proximity(2, 5.0f);
  segp::DriftParams still{rows.ref(), none.ref(), none.ref(), 0.1, drift.data(), proximity.data()};
  run(still);
  CHECK(std::count(drift.begin(), drift.end(), 0.0f) == 8 && proximity[0] == 0 && proximity[1] == 0);
}
