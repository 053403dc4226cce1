#include "segp/distill.h"

#include <algorithm>

#include "matrix_rows.cuh"
#include "online_softmax.cuh"
#include "segp/divergence.h"

namespace segp {
namespace cuda {
namespace {

template <class T>
struct RowArgs {
  using Acc = accumulator_t<T>;
  Acc* x;                  // [rows, stride] products of the student
  Acc* y;                  // [rows, stride] products of the teacher
  T* weights;              // [rows, stride], null if no gradient is wanted; may be x
  int64_t stride;          // a multiple of 8
  int64_t classes;
  const Acc* x_row;        // [rows] inverse norms
  const Acc* y_row;        // [rows]
  const Acc* x_class;      // [classes]
  const Acc* y_class;      // [classes]
  const Acc* factor;       // what the weights are multiplied by
  Acc sharpness;
  Acc* loss;               // [rows]
};

// A block per row. Both rows are read twice, from memory or, where they are short, from the caches: once for the
// softmaxes, once for the loss and the weights. Two blocks at a time are enough to ask for: left to itself the compiler
// spills registers of double to fit in more.
template <class T>
__global__ void __launch_bounds__(kRowThreads, 2) distill_rows_kernel(const RowArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x;
  const Acc* x = args.x + row * args.stride;
  const Acc* y = args.y + row * args.stride;
  const Acc x_factor = args.sharpness * args.x_row[row];
  const Acc y_factor = args.sharpness * args.y_row[row];
  OnlineSoftmax<Acc> student = OnlineSoftmax<Acc>::empty();
  OnlineSoftmax<Acc> teacher = OnlineSoftmax<Acc>::empty();
  for (int64_t first = threadIdx.x * 4; first < args.classes; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    const Pack<Acc, 4> ys = *reinterpret_cast<const Pack<Acc, 4>*>(y + first);
#pragma unroll (sizeof(Acc) == 8 ? 1 : 4)
    for (int k = 0; k < 4; ++k) {
      const int64_t c = first + k;
      if (c < args.classes) {
        const Acc p = xs.values[k] * (x_factor * args.x_class[c]);
        const Acc q = ys.values[k] * (y_factor * args.y_class[c]);
        student.add(p, Acc(0));
        teacher.add(q, Acc(0));
      }
    }
  }
  student = block_merge(student);
  teacher = block_merge(teacher);
  T* weights = args.weights == nullptr ? nullptr : args.weights + row * args.stride;
  const Acc scale = args.x_row[row] * *args.factor;
  const Acc student_share = 1 / student.sum;
  const Acc teacher_share = 1 / teacher.sum;
  const Acc shift = log(teacher.sum / student.sum);
  Acc loss = 0;
  for (int64_t first = threadIdx.x * 4; first < args.classes; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    const Pack<Acc, 4> ys = *reinterpret_cast<const Pack<Acc, 4>*>(y + first);
    Pack<T, 4> out;
#pragma unroll (sizeof(Acc) == 8 ? 1 : 4)
    for (int k = 0; k < 4; ++k) {
      const int64_t c = first + k;
      Acc weight = 0;
      if (c < args.classes) {
        const Acc student_below = xs.values[k] * (x_factor * args.x_class[c]) - student.most;
        const Acc teacher_below = ys.values[k] * (y_factor * args.y_class[c]) - teacher.most;
        const Acc p = exp(student_below) * student_share;
        const Acc q = exp(teacher_below) * teacher_share;
        loss += divergence_term(p, q, (teacher_below - student_below) - shift);
        weight = (p - q) * scale * args.x_class[c];
      }
      device_store(out.values[k], weight);
    }
    if (weights != nullptr) {
      *reinterpret_cast<Pack<T, 4>*>(weights + first) = out;
    }
  }
  loss = block_sum(loss);
  if (threadIdx.x == 0) {
    args.loss[row] = loss;
  }
}

// loss = weight * sum(rows), by one block.
template <class Acc>
__global__ void __launch_bounds__(kRowThreads) mean_kernel(const Acc* rows, int64_t count, Acc weight, Acc* loss) {
  Acc sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    sum += rows[i];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    *loss = sum * weight;
  }
}

// The parts of the workspace; with a null base, their size.
template <class T>
struct Parts {
  using Acc = accumulator_t<T>;
  int64_t stride, block, text_block;
  Acc *student, *teacher, *student_text, *teacher_text, *row_loss, *factor, *x, *y, *text_sum;
  T* weights;
  int64_t bytes;

  Parts(const DistillParams& params, void* base) {
    const int64_t rows = params.student.rows;
    const int64_t classes = params.student_text.rows;
    const int64_t width = std::max<int64_t>(1, params.student.cols);
    const bool separate = sizeof(T) != sizeof(Acc);  // narrower weights cannot be written over the products
    stride = padded(classes);
    const int64_t row_bytes = stride * static_cast<int64_t>(2 * sizeof(Acc) + (separate ? sizeof(T) : 0));
    block = std::max<int64_t>(1, std::min(rows, kTileBytes / std::max<int64_t>(1, row_bytes)));
    text_block = block >= rows ? 0 : std::max<int64_t>(1, std::min<int64_t>(
                     classes, kRowsBytes / (width * static_cast<int64_t>(sizeof(Acc)))));
    Workspace workspace(base);
    student = workspace.take<Acc>(rows);
    teacher = workspace.take<Acc>(rows);
    student_text = workspace.take<Acc>(classes);
    teacher_text = workspace.take<Acc>(classes);
    row_loss = workspace.take<Acc>(rows);
    factor = workspace.take<Acc>(1);
    x = workspace.take<Acc>(block * stride);
    y = workspace.take<Acc>(block * stride);
    if constexpr (sizeof(T) == sizeof(Acc)) {
      weights = x;
    } else {
      weights = workspace.take<T>(block * stride);
    }
    text_sum = workspace.take<Acc>(text_block * width);
    bytes = workspace.bytes();
  }
};

template <class T>
cudaError_t run(const DistillParams& params, void* base, int device, cudaStream_t stream) {
  using Acc = accumulator_t<T>;
  const int64_t rows = params.student.rows;
  const int64_t classes = params.student_text.rows;
  const int64_t width = params.student.cols;
  Acc* grad_student = static_cast<Acc*>(params.grad_student);
  Acc* grad_text = static_cast<Acc*>(params.grad_student_text);
  const bool want_gradient = grad_student != nullptr || grad_text != nullptr;
  if (rows == 0 || classes == 0) {
    cudaMemsetAsync(params.loss, 0, sizeof(Acc), stream);
    if (grad_student != nullptr) {
      cudaMemsetAsync(grad_student, 0, static_cast<size_t>(rows * width) * sizeof(Acc), stream);
    }
    if (grad_text != nullptr) {
      cudaMemsetAsync(grad_text, 0, static_cast<size_t>(classes * width) * sizeof(Acc), stream);
    }
    return cudaGetLastError();
  }
  const Parts<T> parts(params, base);
  launch_inverse_norms<T>(params.student, parts.student, stream);
  launch_inverse_norms<T>(params.teacher, parts.teacher, stream);
  launch_inverse_norms<T>(params.student_text, parts.student_text, stream);
  launch_inverse_norms<T>(params.teacher_text, parts.teacher_text, stream);
  launch(choose_factor_kernel<T>, 1, kRowThreads, stream, parts.student, rows, parts.student_text, classes, parts.factor);

  RowArgs<T> args;
  args.x = parts.x;
  args.y = parts.y;
  args.weights = want_gradient ? parts.weights : nullptr;
  args.stride = parts.stride;
  args.classes = classes;
  args.x_class = parts.student_text;
  args.y_class = parts.teacher_text;
  args.factor = parts.factor;
  args.sharpness = static_cast<Acc>(params.logit_scale / params.temperature);
  for (int64_t begin = 0; begin < rows; begin += parts.block) {
    const int64_t end = std::min(rows, begin + parts.block);
    const int64_t count = end - begin;
    gemm(row_range<T>(params.student, begin, end), transposed(params.student_text),
         dense(parts.x, count, classes, parts.stride), device);
    gemm(row_range<T>(params.teacher, begin, end), transposed(params.teacher_text),
         dense(parts.y, count, classes, parts.stride), device);
    args.x_row = parts.student + begin;
    args.y_row = parts.teacher + begin;
    args.loss = parts.row_loss + begin;
    launch(distill_rows_kernel<T>, static_cast<unsigned>(count), threads_for_row(classes), stream, args);
    const MatrixRef weights = dense(parts.weights, count, classes, parts.stride);
    if (grad_student != nullptr) {
      gemm(weights, params.student_text, dense(grad_student + begin * width, count, width, width), device);
    }
    if (grad_text == nullptr) {
      continue;
    }
    const MatrixRef student = row_range<T>(params.student, begin, end);
    if (begin == 0) {
      gemm(transposed(weights), student, dense(grad_text, classes, width, width), device);
      continue;
    }
    for (int64_t c = 0; c < classes; c += parts.text_block) {
      const int64_t taken = std::min(classes, c + parts.text_block) - c;
      if (width == 0) {
        break;
      }
      gemm(transposed(dense(parts.weights + c, count, taken, parts.stride)), student,
           dense(parts.text_sum, taken, width, width), device);
      launch(add_kernel<Acc>, blocks_for(taken * width, kRowThreads), kRowThreads, stream, grad_text + c * width,
             parts.text_sum, taken * width);
    }
  }
  const double squared = params.temperature * params.temperature / static_cast<double>(rows);
  // The loss's own factor comes last, so that weights in a half type are of the size that their factor was chosen for.
  const auto gradient = static_cast<Acc>(squared * params.logit_scale / params.temperature);
  if (grad_student != nullptr) {
    launch_project<T>(params.student, parts.student, parts.factor, gradient, grad_student, stream);
  }
  if (grad_text != nullptr) {
    launch_project<T>(params.student_text, parts.student_text, parts.factor, gradient, grad_text, stream);
  }
  launch(mean_kernel<Acc>, 1, kRowThreads, stream, parts.row_loss, rows, static_cast<Acc>(squared),
         static_cast<Acc*>(params.loss));
  return cudaGetLastError();
}

}  // namespace

int64_t geometry_distill_workspace(const DistillParams& params) {
  int64_t bytes = 0;
  visit_dtype(params.student.dtype,
              [&](auto tag) { bytes = Parts<typename decltype(tag)::type>(params, nullptr).bytes; });
  return bytes;
}

int geometry_distill(const DistillParams& params, void* workspace, int device, void* stream) {
  cudaError_t status = cudaSetDevice(device);  // for the runtime that is linked to this library
  if (status == cudaSuccess) {
    visit_dtype(params.student.dtype, [&](auto tag) {
      status = run<typename decltype(tag)::type>(params, workspace, device, static_cast<cudaStream_t>(stream));
    });
  }
  return status;
}

}  // namespace cuda
}  // namespace segp
