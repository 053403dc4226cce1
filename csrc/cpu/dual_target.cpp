#include "segp/dual_target.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "isa.h"
#include "segp/buffer.h"
#include "segp/gemm.h"
#include "segp/parallel.h"
#include "unit_rows.h"
#include "vector_math.h"

namespace segp {
namespace cpu {
namespace {

// Elements that a thread should have to work on, at least.
constexpr int64_t kGrain = 16 * 1024;
constexpr int64_t kTileBytes = 40 << 20;

// The text half of one row, between the product that makes its similarities and the one that uses them.
struct TextKernel {
  // In: x holds the products of the row with every class, to be multiplied by factor * scale[c]. Out:
  // *loss = -log softmax(x)[target], and, if `want_gradient`,
  // x[c] = factor * (softmax(x)[c] - [c = target]) * scale[c].
  template <class T>
  SEGP_ALWAYS_INLINE static void run(T* x, const T* scale, T factor, int64_t classes, int64_t target,
                                     bool want_gradient, T* loss) {
    T lane[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      lane[k] = -std::numeric_limits<T>::infinity();
    }
    for_lanes(classes, [&](int64_t c, int k) SEGP_INLINE_LAMBDA {
      x[c] *= factor * scale[c];
      lane[k] = x[c] > lane[k] ? x[c] : lane[k];
    });
    const T most = combine_max(lane);
    const T at_target = x[target];
    for (int k = 0; k < kLanes; ++k) {
      lane[k] = T(0);
    }
    for_lanes(classes, [&](int64_t c, int k) SEGP_INLINE_LAMBDA {
      x[c] = vector_exp(x[c] - most);
      lane[k] += x[c];
    });
    const T sum = combine_sum(lane);
    *loss = (most - at_target) + std::log(sum);
    if (!want_gradient) {
      return;
    }
    const T weight = factor / sum;
    for (int64_t c = 0; c < classes; ++c) {
      x[c] *= weight * scale[c];
    }
    x[target] -= factor * scale[target];
  }
};

// The visual half of one row, both rows plain numbers of type T.
struct VisualKernel {
  // *loss += weight * (1 - cos(feature, prototype)), and its gradient with respect to the feature, unless null. Leaves
  // *done false, and everything else alone, where a norm is so extreme that squares may have overflowed or vanished.
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const T* feature, const T* prototype, int64_t width, T weight, T* loss,
                                     T* gradient, bool* done) {
    const T feature_norm = std::sqrt(dot(feature, feature, width));
    const T prototype_norm = std::sqrt(dot(prototype, prototype, width));
    if (!is_usual_norm(feature_norm) || !is_usual_norm(prototype_norm)) {
      return;
    }
    const T cosine = dot(feature, prototype, width) / (feature_norm * prototype_norm);
    *loss += weight * (T(1) - cosine);
    *done = true;
    if (gradient == nullptr) {
      return;
    }
    const T along_prototype = -weight / (feature_norm * prototype_norm);
    const T along_feature = weight * cosine / (feature_norm * feature_norm);
    for (int64_t k = 0; k < width; ++k) {
      gradient[k] = along_prototype * prototype[k] + along_feature * feature[k];
    }
  }
};

template <class T>
class DualTarget {
 public:
  explicit DualTarget(const DualTargetParams& params)
      : params_(params), batch_(params.embedding.rows), classes_(params.text.rows) {}

  void run() {
    if (classes_ > 0) {
      run_text();
      run_visual();
    }
    mark_wrong_targets();
  }

 private:
  int64_t target(int64_t row) const { return params_.target[row * params_.target_stride]; }
  bool is_inside(int64_t row) const { return target(row) >= 0 && target(row) < classes_; }

  void run_text() {
    const int64_t width = params_.embedding.cols;
    const int64_t block =
        rows_together(batch_, classes_ * static_cast<int64_t>(sizeof(T)), kTileBytes, width, sizeof(T));
    UnitRows<T> embedding(params_.embedding, block);
    UnitRows<T> text(params_.text, cached_rows(width, sizeof(T)));
    Buffer<T> tile(block * classes_);
    T* loss = static_cast<T*>(params_.loss);
    T* gradient = static_cast<T*>(params_.grad_embedding);
    for (int64_t begin = 0; begin < batch_; begin += block) {
      const int64_t end = std::min(batch_, begin + block);
      multiply_by_rows(embedding.rows(begin, end), text,
                       GemmMatrix<T>{tile.data(), end - begin, classes_, classes_, 1});
      parallel_for(end - begin, std::max<int64_t>(1, kGrain / classes_), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          const int64_t row = begin + i;
          run_for_isa<TextKernel>(tile.data() + i * classes_, text.scale(),
                                  static_cast<T>(params_.logit_scale) * embedding.scale()[row], classes_,
                                  is_inside(row) ? target(row) : int64_t{0}, gradient != nullptr, loss + row);
        }
      });
      const GemmMatrix<const T> weights{tile.data(), end - begin, classes_, classes_, 1};
      for (int64_t c = 0; gradient != nullptr && c < classes_; c += text.block_rows()) {
        const int64_t c_end = std::min(classes_, c + text.block_rows());
        gemm(weights.columns(c, c_end), text.rows(c, c_end),
             {gradient + begin * width, end - begin, width, std::max<int64_t>(width, 1), 1}, c > 0);
      }
      if (gradient != nullptr) {
        project_gradient(embedding, begin, end, gradient);
      }
    }
  }

  // Rows that are not plain numbers of type T, or of extreme norms, become unit vectors in `scratch` first.
  void run_visual() {
    const int64_t width = params_.feature.cols;
    const int64_t block = std::min(batch_, cached_rows(width, sizeof(T)));
    const bool plain = has_plain_rows<T>(params_.feature) && has_plain_rows<T>(params_.prototypes);
    T* loss = static_cast<T*>(params_.loss);
    T* gradient = static_cast<T*>(params_.grad_feature);
    Buffer<T> scratch(2 * block * width);
    const T weight = static_cast<T>(params_.visual_weight);
    for (int64_t begin = 0; begin < batch_; begin += block) {
      const int64_t rows = std::min(batch_, begin + block) - begin;
      parallel_for(
          rows, std::max<int64_t>(1, 4 * kGrain / std::max<int64_t>(1, width)), [&](int64_t first, int64_t last) {
            for (int64_t i = first; i < last; ++i) {
              const int64_t row = begin + i;
              const int64_t c = is_inside(row) ? target(row) : int64_t{0};
              T* row_gradient = gradient == nullptr ? nullptr : gradient + row * width;
              bool done = false;
              if (plain) {
                run_for_isa<VisualKernel>(plain_row<T>(params_.feature, row), plain_row<T>(params_.prototypes, c),
                                          width, weight, loss + row, row_gradient, &done);
              }
              if (!done) {
                T* feature = scratch.data() + 2 * i * width;
                T* prototype = feature + width;
                const double inverse_norm = unit_row(params_.feature, row, feature);
                (void)unit_row(params_.prototypes, c, prototype);
                visual_of_units(feature, prototype, width, weight, inverse_norm, loss + row, row_gradient);
              }
            }
          });
    }
  }

  // As VisualKernel, of unit (or zero) vectors; inverse_norm is that of the feature before it became one.
  static void visual_of_units(const T* feature, const T* prototype, int64_t width, T weight, double inverse_norm,
                              T* loss, T* gradient) {
    T cosine = T(0);
    for (int64_t k = 0; k < width; ++k) {
      cosine += feature[k] * prototype[k];
    }
    *loss += weight * (T(1) - cosine);
    for (int64_t k = 0; gradient != nullptr && k < width; ++k) {
      gradient[k] = static_cast<T>(-static_cast<double>(weight * (prototype[k] - feature[k] * cosine)) * inverse_norm);
    }
  }

  void mark_wrong_targets() {
    constexpr T kNan = std::numeric_limits<T>::quiet_NaN();
    for (int64_t row = 0; row < batch_; ++row) {
      if (is_inside(row)) {
        continue;
      }
      static_cast<T*>(params_.loss)[row] = kNan;
      for (const auto& [gradient, width] : {std::pair{params_.grad_embedding, params_.embedding.cols},
                                            std::pair{params_.grad_feature, params_.feature.cols}}) {
        if (gradient != nullptr) {
          std::fill_n(static_cast<T*>(gradient) + row * width, width, kNan);
        }
      }
    }
  }

  const DualTargetParams& params_;
  int64_t batch_;
  int64_t classes_;
};

}  // namespace

void dual_target_loss(const DualTargetParams& params) {
  if (params.embedding.rows == 0) {
    return;
  }
  if (compute_dtype({params.embedding.dtype, params.feature.dtype, params.text.dtype, params.prototypes.dtype}) ==
      DType::kFloat64) {
    DualTarget<double>(params).run();
  } else {
    DualTarget<float>(params).run();
  }
}

}  // namespace cpu
}  // namespace segp
