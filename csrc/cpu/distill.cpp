#include "segp/distill.h"

#include <algorithm>
#include <cmath>

#include "isa.h"
#include "segp/buffer.h"
#include "segp/divergence.h"
#include "segp/gemm.h"
#include "segp/parallel.h"
#include "unit_rows.h"
#include "vector_math.h"

namespace segp {
namespace cpu {
namespace {

// Elements of the B x C matrix that a thread should have to work on, at least.
constexpr int64_t kGrain = 16 * 1024;
// What the two tiles of similarities may take together.
constexpr int64_t kTileBytes = 50 << 20;

// The teacher's share. Three products need the student's tile and one the teacher's, and more rows make them faster,
// so the student's is the larger one, unless too few rows would be left to the teacher.
int64_t teacher_bytes(int64_t row_bytes) {
  constexpr int64_t kFewRows = 96;
  return kTileBytes / 5 >= kFewRows * row_bytes ? kTileBytes / 5 : kTileBytes / 2;
}

template <class T>
struct RowArgs {
  T* x;              // [classes] products of the student's row, to be multiplied by x_factor * x_scale[c]; then weights
  const T* x_scale;  // [classes]
  T x_factor;
  T* y;  // [classes] the same of the teacher; overwritten
  const T* y_scale;
  T y_factor;
  int64_t classes;
  T gradient;  // what weights are multiplied by
};

// One row of both similarity matrices, between the products that make them and those that use them.
struct RowKernel {
  // Returns KL(teacher || student), and leaves x[c] = gradient * (softmax(x)[c] - softmax(y)[c]) * x_scale[c].
  template <class T>
  SEGP_ALWAYS_INLINE static T run(RowArgs<T> args) {
    T* x = args.x;
    T* y = args.y;
    T x_lane[kLanes];
    T y_lane[kLanes];
    for (int k = 0; k < kLanes; ++k) {
      x_lane[k] = y_lane[k] = -std::numeric_limits<T>::infinity();
    }
    for_lanes(args.classes, [&](int64_t c, int k) SEGP_INLINE_LAMBDA {
      x[c] *= args.x_factor * args.x_scale[c];
      y[c] *= args.y_factor * args.y_scale[c];
      x_lane[k] = x[c] > x_lane[k] ? x[c] : x_lane[k];
      y_lane[k] = y[c] > y_lane[k] ? y[c] : y_lane[k];
    });
    const T x_most = combine_max(x_lane);
    const T y_most = combine_max(y_lane);

    for (int k = 0; k < kLanes; ++k) {
      x_lane[k] = y_lane[k] = T(0);
    }
    for_lanes(args.classes, [&](int64_t c, int k) SEGP_INLINE_LAMBDA {
      x_lane[k] += vector_exp(x[c] - x_most);
      y_lane[k] += vector_exp(y[c] - y_most);
    });
    const T x_sum = combine_sum(x_lane);
    const T y_sum = combine_sum(y_lane);
    const T x_share = 1 / x_sum;
    const T y_share = 1 / y_sum;
    const T shift = std::log(y_sum / x_sum);
    T loss_lane[kLanes] = {};
    for_lanes(args.classes, [&](int64_t c, int k) SEGP_INLINE_LAMBDA {
      const T x_below = x[c] - x_most;
      const T y_below = y[c] - y_most;
      const T p = vector_exp(x_below) * x_share;
      const T q = vector_exp(y_below) * y_share;
      loss_lane[k] += divergence_term(p, q, (y_below - x_below) - shift);
      x[c] = (p - q) * args.gradient * args.x_scale[c];
    });
    return combine_sum(loss_lane);
  }
};

template <class T>
void run(const DistillParams& params) {
  const int64_t batch = params.student.rows;
  const int64_t classes = params.student_text.rows;
  const int64_t width = params.student.cols;
  T* grad_student = static_cast<T*>(params.grad_student);
  T* grad_text = static_cast<T*>(params.grad_student_text);
  const bool want_gradient = grad_student != nullptr || grad_text != nullptr;
  T* loss = static_cast<T*>(params.loss);
  *loss = T(0);
  if (batch == 0 || classes == 0) {
    if (grad_student != nullptr) {
      std::fill_n(grad_student, batch * width, T(0));
    }
    if (grad_text != nullptr) {
      std::fill_n(grad_text, classes * width, T(0));
    }
    return;
  }

  const int64_t row_bytes = classes * static_cast<int64_t>(sizeof(T));
  const int64_t block = rows_together(batch, row_bytes, kTileBytes - teacher_bytes(row_bytes), width, sizeof(T));
  const int64_t part = rows_together(block, row_bytes, teacher_bytes(row_bytes), width, sizeof(T));
  const int64_t chunk = cached_rows(width, sizeof(T));
  UnitRows<T> student(params.student, block);
  UnitRows<T> teacher(params.teacher, part);
  UnitRows<T> student_text(params.student_text, chunk);
  UnitRows<T> teacher_text(params.teacher_text, chunk);
  Buffer<T> x(block * classes);
  Buffer<T> y(part * classes);
  Buffer<T> row_loss(batch);
  const T sharpness = static_cast<T>(params.logit_scale / params.temperature);
  const T mean_weight = static_cast<T>(params.temperature * params.temperature / static_cast<double>(batch));

  for (int64_t begin = 0; begin < batch; begin += block) {
    const int64_t end = std::min(batch, begin + block);
    const GemmMatrix<T> x_tile{x.data(), end - begin, classes, classes, 1};
    const GemmMatrix<const T> student_rows = student.rows(begin, end);
    multiply_by_rows(student_rows, student_text, x_tile);
    for (int64_t first_row = begin; first_row < end; first_row += part) {
      const int64_t rows = std::min(end, first_row + part) - first_row;
      multiply_by_rows(teacher.rows(first_row, first_row + rows), teacher_text,
                       GemmMatrix<T>{y.data(), rows, classes, classes, 1});
      parallel_for(rows, std::max<int64_t>(1, kGrain / classes), [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          const int64_t row = first_row + i;
          RowArgs<T> args;
          args.x = x_tile.data + (row - begin) * classes;
          args.x_scale = student_text.scale();
          args.x_factor = sharpness * student.scale()[row];
          args.y = y.data() + i * classes;
          args.y_scale = teacher_text.scale();
          args.y_factor = sharpness * teacher.scale()[row];
          args.classes = classes;
          args.gradient = mean_weight * sharpness * student.scale()[row];
          row_loss[row] = run_for_isa<RowKernel>(args);
        }
      });
    }
    const GemmMatrix<const T> weights{x.data(), end - begin, classes, classes, 1};
    // By chunks of classes, whose gradients are complete, and still in the cache, when they are projected.
    for (int64_t c = 0; want_gradient && c < classes; c += chunk) {
      const int64_t c_end = std::min(classes, c + chunk);
      if (grad_student != nullptr) {
        gemm(weights.columns(c, c_end), student_text.rows(c, c_end),
             {grad_student + begin * width, end - begin, width, std::max<int64_t>(width, 1), 1}, c > 0);
      }
      if (grad_text != nullptr) {
        gemm(weights.columns(c, c_end).transposed(), student_rows,
             {grad_text + c * width, c_end - c, width, std::max<int64_t>(width, 1), 1}, begin > 0);
        if (end == batch) {
          project_gradient(student_text, c, c_end, grad_text);
        }
      }
    }
    if (grad_student != nullptr) {
      project_gradient(student, begin, end, grad_student);
    }
  }
  double sum = 0.0;
  for (int64_t i = 0; i < batch; ++i) {
    sum += static_cast<double>(row_loss[i]);
  }
  *loss = static_cast<T>(sum * params.temperature * params.temperature / static_cast<double>(batch));
}

}  // namespace

void geometry_distill(const DistillParams& params) {
  if (result_dtype(params) == DType::kFloat64) {
    run<double>(params);
  } else {
    run<float>(params);
  }
}

}  // namespace cpu
}  // namespace segp
