#include "segp/distill.h"

#include <algorithm>

#include "matrix_rows.cuh"
#include "online_softmax.cuh"
#include "unit_rows.cuh"
#include "segp/divergence.h"

namespace segp {
namespace cuda {
namespace {

template <class T>
struct RowArgs {
  using Acc = accumulator_t<T>;
  Acc* x;             // [rows, stride] products of the student
  Acc* y;             // [rows, stride] products of the teacher
  T* for_student;     // [rows, stride] weights of the gradient of the student, null if it is not wanted; may be x
  T* for_text;        // [rows, stride] those of its text; may be y
  int64_t stride;     // a multiple of 8
  int64_t classes;
  Cosines<T> student;  // of the rows and their text
  Cosines<T> teacher;
  const Acc* text_factor;     // what weights are multiplied by on behalf of the text's inverse norms
  const Acc* student_factor;  // and on behalf of the student's
  Acc* row_factor;            // [rows] text_factor, adapted to a row
  Acc sharpness;
  Acc* loss;  // [rows]
};

// A block per row. Both rows are read twice, from memory or, where they are short, from the caches: once for the
// softmaxes, once for the loss and the weights. Two blocks at a time are enough to ask for: left to itself the compiler
// spills registers of double to fit in more.
//
// Each weight p - q carries the inverse norm of the rows that it will be multiplied by, and no other.
template <class T>
__global__ void __launch_bounds__(kRowThreads, 2) distill_rows_kernel(const RowArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x;
  Acc* x = args.x + row * args.stride;
  Acc* y = args.y + row * args.stride;
  args.student.repair(x, row, args.classes);
  args.teacher.repair(y, row, args.classes);
  OnlineSoftmax<Acc> student = OnlineSoftmax<Acc>::empty();
  OnlineSoftmax<Acc> teacher = OnlineSoftmax<Acc>::empty();
  for (int64_t first = threadIdx.x * 4; first < args.classes; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    const Pack<Acc, 4> ys = *reinterpret_cast<const Pack<Acc, 4>*>(y + first);
#pragma unroll (sizeof(Acc) == 8 ? 1 : 4)
    for (int k = 0; k < 4; ++k) {
      const int64_t c = first + k;
      if (c < args.classes) {
        student.add(args.sharpness * args.student.at(xs.values[k], row, c), Acc(0));
        teacher.add(args.sharpness * args.teacher.at(ys.values[k], row, c), Acc(0));
      }
    }
  }
  student = block_merge(student);
  teacher = block_merge(teacher);
  const Acc student_share = 1 / student.sum;
  const Acc teacher_share = 1 / teacher.sum;
  const Acc shift = log(teacher.sum / student.sum);
  // No |p - q| exceeds the largest p or q, and these are the shares.
  const Acc most = student_share > teacher_share ? student_share : teacher_share;
  const Acc row_factor = factor_at<T>(args.text_factor, 0) * factor_for<T>(kFactorRange * most);
  const Acc student_factor = args.student.row_norms.inverse[row] * factor_at<T>(args.student_factor, 0);
  Acc loss = 0;
  for (int64_t first = threadIdx.x * 4; first < args.classes; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    const Pack<Acc, 4> ys = *reinterpret_cast<const Pack<Acc, 4>*>(y + first);
    Pack<T, 4> for_student;
    Pack<T, 4> for_text;
#pragma unroll (sizeof(Acc) == 8 ? 1 : 4)
    for (int k = 0; k < 4; ++k) {
      const int64_t c = first + k;
      Acc difference = 0;
      Acc text_inverse = 0;
      if (c < args.classes) {
        const Acc student_below = args.sharpness * args.student.at(xs.values[k], row, c) - student.most;
        const Acc teacher_below = args.sharpness * args.teacher.at(ys.values[k], row, c) - teacher.most;
        const Acc p = exp(student_below) * student_share;
        const Acc q = exp(teacher_below) * teacher_share;
        loss += divergence_term(p, q, (teacher_below - student_below) - shift);
        difference = p - q;
        text_inverse = args.student.other_norms.inverse[c];
      }
      device_store(for_student.values[k], difference * row_factor * text_inverse);
      device_store(for_text.values[k], difference * student_factor);
    }
    if (args.for_student != nullptr) {
      *reinterpret_cast<Pack<T, 4>*>(args.for_student + row * args.stride + first) = for_student;
    }
    if (args.for_text != nullptr) {
      *reinterpret_cast<Pack<T, 4>*>(args.for_text + row * args.stride + first) = for_text;
    }
  }
  loss = block_sum(loss);
  if (threadIdx.x == 0) {
    args.loss[row] = loss;
    if constexpr (kHasFactors<T>) {
      args.row_factor[row] = row_factor;
    }
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
  int* unusual;  // [2]: of the student and of the teacher
  Norms<Acc> student, teacher, student_text, teacher_text;
  Acc *row_loss, *row_factor, *student_factor, *text_factor, *x, *y, *text_sum;
  T *for_student, *for_text;
  int64_t bytes;

  Parts(const DistillParams& params, void* base) {
    const int64_t rows = params.student.rows;
    const int64_t classes = params.student_text.rows;
    const int64_t width = std::max<int64_t>(1, params.student.cols);
    const bool separate = sizeof(T) != sizeof(Acc);  // narrower weights cannot be written over the products
    stride = padded(classes);
    const int64_t row_bytes = stride * static_cast<int64_t>(2 * sizeof(Acc) + (separate ? 2 * sizeof(T) : 0));
    block = std::max<int64_t>(1, std::min(rows, kTileBytes / std::max<int64_t>(1, row_bytes)));
    text_block = block >= rows ? 0 : std::max<int64_t>(1, std::min<int64_t>(
                     classes, kRowsBytes / (width * static_cast<int64_t>(sizeof(Acc)))));
    Workspace workspace(base);
    unusual = workspace.take<int>(2);
    student = take_norms<Acc>(workspace, rows, unusual);
    student_text = take_norms<Acc>(workspace, classes, unusual);
    teacher = take_norms<Acc>(workspace, rows, unusual + 1);
    teacher_text = take_norms<Acc>(workspace, classes, unusual + 1);
    row_loss = workspace.take<Acc>(rows);
    row_factor = workspace.take<Acc>(rows);
    student_factor = workspace.take<Acc>(1);
    text_factor = workspace.take<Acc>(1);
    x = workspace.take<Acc>(block * stride);
    y = workspace.take<Acc>(block * stride);
    if constexpr (sizeof(T) == sizeof(Acc)) {
      for_student = x;
      for_text = y;
    } else {
      for_student = workspace.take<T>(block * stride);
      for_text = workspace.take<T>(block * stride);
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
  cudaMemsetAsync(parts.unusual, 0, 2 * sizeof(int), stream);
  launch_norms<T>(params.student, parts.student, stream);
  launch_norms<T>(params.teacher, parts.teacher, stream);
  launch_norms<T>(params.student_text, parts.student_text, stream);
  launch_norms<T>(params.teacher_text, parts.teacher_text, stream);
  launch_choose_factor<T>(parts.student.inverse, rows, parts.student_factor, stream);
  launch_choose_factor<T>(parts.student_text.inverse, classes, parts.text_factor, stream);

  RowArgs<T> args;
  args.x = parts.x;
  args.y = parts.y;
  args.for_student = grad_student != nullptr ? parts.for_student : nullptr;
  args.for_text = grad_text != nullptr ? parts.for_text : nullptr;
  args.stride = parts.stride;
  args.classes = classes;
  args.student_factor = parts.student_factor;
  args.text_factor = parts.text_factor;
  args.sharpness = static_cast<Acc>(params.logit_scale / params.temperature);
  for (int64_t begin = 0; begin < rows; begin += parts.block) {
    const int64_t end = std::min(rows, begin + parts.block);
    const int64_t count = end - begin;
    const MatrixRef student = row_range<T>(params.student, begin, end);
    const MatrixRef teacher = row_range<T>(params.teacher, begin, end);
    gemm(student, transposed(params.student_text), dense(parts.x, count, classes, parts.stride), device);
    gemm(teacher, transposed(params.teacher_text), dense(parts.y, count, classes, parts.stride), device);
    args.student = cosines<T>(student, parts.student.from(begin), params.student_text, parts.student_text);
    args.teacher = cosines<T>(teacher, parts.teacher.from(begin), params.teacher_text, parts.teacher_text);
    args.row_factor = parts.row_factor + begin;
    args.loss = parts.row_loss + begin;
    launch(distill_rows_kernel<T>, static_cast<unsigned>(count), threads_for_row(classes), stream, args);
    if (grad_student != nullptr) {
      gemm(dense(parts.for_student, count, classes, parts.stride), params.student_text,
           dense(grad_student + begin * width, count, width, width), device);
    }
    if (grad_text == nullptr || width == 0) {
      continue;
    }
    if (begin == 0) {
      gemm(transposed(dense(parts.for_text, count, classes, parts.stride)), student,
           dense(grad_text, classes, width, width), device);
      continue;
    }
    for (int64_t c = 0; c < classes; c += parts.text_block) {
      const int64_t taken = std::min(classes, c + parts.text_block) - c;
      gemm(transposed(dense(parts.for_text + c, count, taken, parts.stride)), student,
           dense(parts.text_sum, taken, width, width), device);
      launch(add_kernel<Acc>, blocks_for(taken * width, kRowThreads), kRowThreads, stream, grad_text + c * width,
             parts.text_sum, taken * width);
    }
  }
  const double squared = params.temperature * params.temperature / static_cast<double>(rows);
  // The loss's own factor comes last, so that weights in a half type are of the size that their factor was chosen for.
  const auto gradient = static_cast<Acc>(squared * params.logit_scale / params.temperature);
  if (grad_student != nullptr) {
    launch_project<T>(params.student, parts.student, parts.row_factor, 1, gradient, grad_student, stream);
  }
  if (grad_text != nullptr) {
    launch_project<T>(params.student_text, parts.student_text, parts.student_factor, 0, gradient, grad_text, stream);
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
