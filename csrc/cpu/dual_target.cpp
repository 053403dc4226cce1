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

template <class T>
struct TextArgs {
  T* x;            // [classes] products of the row, to be multiplied by factor * scale[c]; then weights, if wanted
  const T* scale;  // [classes]
  T factor;
  int64_t classes;
  int64_t target;
  bool want_gradient;
};

// The text half of one row, between the product that makes its similarities and the one that uses them.
struct TextKernel {
  // Returns -log softmax(x)[target], and leaves, if a gradient is wanted,
  // x[c] = factor * (softmax(x)[c] - [c = target]) * scale[c].
  template <class T>
  SEGP_ALWAYS_INLINE static T run(TextArgs<T> args) {
    T* x = args.x;
    T lane[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      lane[k] = -std::numeric_limits<T>::infinity();
    }
    for_lanes(args.classes, [&](int64_t c, int k) SEGP_INLINE_LAMBDA {
      x[c] *= args.factor * args.scale[c];
      lane[k] = x[c] > lane[k] ? x[c] : lane[k];
    });
    const T most = combine_max(lane);
    const T at_target = x[args.target];
    for (int k = 0; k < kLanes; ++k) {
      lane[k] = T(0);
    }
    for_lanes(args.classes, [&](int64_t c, int k) SEGP_INLINE_LAMBDA {
      x[c] = vector_exp(x[c] - most);
      lane[k] += x[c];
    });
    const T sum = combine_sum(lane);
    if (args.want_gradient) {
      const T weight = args.factor / sum;
      for (int64_t c = 0; c < args.classes; ++c) {
        x[c] *= weight * args.scale[c];
      }
      x[args.target] -= args.factor * args.scale[args.target];
    }
    return (most - at_target) + std::log(sum);
  }
};

template <class T>
struct VisualArgs {
  const T* feature;    // [width]
  const T* prototype;  // [width]
  int64_t width;
  T weight;
  T* loss;      // added to
  T* gradient;  // [width] with respect to the feature; null if it is not wanted
};

// The visual half of one row, both rows plain numbers of type T.
struct VisualKernel {
  // *loss += weight * (1 - cos(feature, prototype)), and its gradient. Returns false, and leaves everything alone,
  // where a norm is so extreme that squares may have overflowed or vanished.
  template <class T>
  SEGP_ALWAYS_INLINE static bool run(VisualArgs<T> args) {
    const T feature_norm = std::sqrt(dot(args.feature, args.feature, args.width));
    const T prototype_norm = std::sqrt(dot(args.prototype, args.prototype, args.width));
    if (!is_usual_norm(feature_norm) || !is_usual_norm(prototype_norm)) {
      return false;
    }
    const T cosine = dot(args.feature, args.prototype, args.width) / (feature_norm * prototype_norm);
    *args.loss += args.weight * (T(1) - cosine);
    if (args.gradient != nullptr) {
      const T along_prototype = -args.weight / (feature_norm * prototype_norm);
      const T along_feature = args.weight * cosine / (feature_norm * feature_norm);
      for (int64_t k = 0; k < args.width; ++k) {
        args.gradient[k] = along_prototype * args.prototype[k] + along_feature * args.feature[k];
      }
    }
    return true;
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
          TextArgs<T> args;
          args.x = tile.data() + i * classes_;
          args.scale = text.scale();
          args.factor = static_cast<T>(params_.logit_scale) * embedding.scale()[row];
          args.classes = classes_;
          args.target = is_inside(row) ? target(row) : int64_t{0};
          args.want_gradient = gradient != nullptr;
          loss[row] = run_for_isa<TextKernel>(args);
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
      const int64_t grain = std::max<int64_t>(1, 4 * kGrain / std::max<int64_t>(1, width));
      parallel_for(rows, grain, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          const int64_t row = begin + i;
          const int64_t c = is_inside(row) ? target(row) : int64_t{0};
          VisualArgs<T> args;
          args.width = width;
          args.weight = weight;
          args.loss = loss + row;
          args.gradient = gradient == nullptr ? nullptr : gradient + row * width;
          bool done = false;
          if (plain) {
            args.feature = plain_row<T>(params_.feature, row);
            args.prototype = plain_row<T>(params_.prototypes, c);
            done = run_for_isa<VisualKernel>(args);
          }
          if (!done) {
            T* feature = scratch.data() + 2 * i * width;
            T* prototype = feature + width;
            const double inverse_norm = unit_row(params_.feature, row, feature);
            (void)unit_row(params_.prototypes, c, prototype);
            args.feature = feature;
            args.prototype = prototype;
            visual_of_units(args, inverse_norm);
          }
        }
      });
    }
  }

  // As VisualKernel, of unit (or zero) vectors; inverse_norm is that of the feature before it became one.
  static void visual_of_units(const VisualArgs<T>& args, double inverse_norm) {
    T cosine = T(0);
    for (int64_t k = 0; k < args.width; ++k) {
      cosine += args.feature[k] * args.prototype[k];
    }
    *args.loss += args.weight * (T(1) - cosine);
    for (int64_t k = 0; args.gradient != nullptr && k < args.width; ++k) {
      const T across = args.weight * (args.prototype[k] - args.feature[k] * cosine);
      args.gradient[k] = static_cast<T>(-static_cast<double>(across) * inverse_norm);
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
  if (result_dtype(params) == DType::kFloat64) {
    DualTarget<double>(params).run();
  } else {
    DualTarget<float>(params).run();
  }
}

}  // namespace cpu
}  // namespace segp
