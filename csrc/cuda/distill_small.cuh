// geometry_distill of few rows and classes: a block per row does all of it, and one per class its text's gradient.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "launch.cuh"
#include "matrix_rows.cuh"
#include "project.cuh"
#include "segp/distill.h"
#include "segp/divergence.h"
#include "small_rows.cuh"
#include "softmax.cuh"
#include "unit_rows.cuh"

namespace segp {
namespace cuda {

inline double sharpness_of(const DistillParams& params) { return params.logit_scale / params.temperature; }

// What the sum of the rows' divergences is multiplied by: tau^2 over the rows.
inline double mean_weight(const DistillParams& params) {
  return params.temperature * params.temperature / static_cast<double>(params.student.rows);
}

// What sums of weights times unit vectors are multiplied by. It comes last, so that weights in a half type are of the
// size that their factor was chosen for.
template <class Acc>
Acc gradient_of(const DistillParams& params) {
  return static_cast<Acc>(mean_weight(params) * sharpness_of(params));
}

template <class Acc>
MeanLoss<Acc> mean_of(const DistillParams& params, Acc* row_loss) {
  return {row_loss, params.student.rows, static_cast<Acc>(mean_weight(params)), static_cast<Acc*>(params.loss)};
}

template <class T>
struct DistillSmallArgs {
  using Acc = accumulator_t<T>;
  Rows<T> student, text, teacher, teacher_text;
  int64_t width;
  Acc sharpness;      // of powers of two
  Acc gradient;       // what sums of weights times unit vectors are multiplied by
  Acc* grad_student;  // null if it is not wanted
  Acc* grad_text;     // null if it is not wanted
  Acc* weights;       // [classes, rows] p - q over the norm of the student
  MeanLoss<Acc> mean;
};

// A block per row: its loss, its gradient, and the weights for the text's.
template <class T, int kPack>
__global__ void __launch_bounds__(kRowThreads, 2)
    distill_small_kernel(const __grid_constant__ DistillSmallArgs<T> args) {
  using Acc = accumulator_t<T>;
  __shared__ OfOthers<Acc> x, y, text_inverse;
  const int64_t row = blockIdx.x;
  const UnitScale<Acc> scale = block_cosines<kPack>(args.student[row], args.text, args.width, x, &text_inverse);
  block_cosines<kPack>(args.teacher[row], args.teacher_text, args.width, y, nullptr);
  Softmax<Acc, false> student = Softmax<Acc, false>::empty(0);
  Softmax<Acc, false> teacher = student;
  for (int64_t c = threadIdx.x; c < args.text.count; c += blockDim.x) {
    student.add(args.sharpness, x[c]);
    teacher.add(args.sharpness, y[c]);
  }
  student = block_merge(student);
  teacher = block_merge(teacher);
  const Acc shift = log(teacher.sum / student.sum);
  Acc loss = 0;
  for (int64_t c = threadIdx.x; c < args.text.count; c += blockDim.x) {
    const Acc student_below = student.below(args.sharpness, x[c]);
    const Acc teacher_below = teacher.below(args.sharpness, y[c]);
    const Acc p = student.term(student_below) / student.sum;
    const Acc q = teacher.term(teacher_below) / teacher.sum;
    loss += divergence_term(p, q, (teacher_below - student_below) * Acc(kLn2) - shift);
    x[c] = (p - q) * text_inverse[c];
    if (args.grad_text != nullptr) {
      args.weights[c * args.student.count + row] = (p - q) * (scale.inverse * scale.power);
    }
  }
  loss = block_sum(loss);  // waits for the weights too
  if (threadIdx.x == 0) {
    args.mean.rows[row] = loss;
  }
  if (args.grad_student != nullptr) {
    block_gradient(args.student[row], scale, args.text, x, args.width, args.gradient,
                   args.grad_student + row * args.width);
  }
}

// The first block is for the loss, and one per class for the text's gradient, if it is wanted.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    distill_small_text_kernel(const __grid_constant__ DistillSmallArgs<T> args) {
  using Acc = accumulator_t<T>;
  if (blockIdx.x == 0) {
    block_mean(args.mean);
    return;
  }
  __shared__ OfOthers<Acc> weights;
  const int64_t c = blockIdx.x - 1;
  for (int64_t b = threadIdx.x; b < args.student.count; b += blockDim.x) {
    weights[b] = args.weights[c * args.student.count + b];
  }
  __syncthreads();
  const UnitScale<Acc> scale = or_zero(unit_scale<1>(args.text[c], args.width));
  block_gradient(args.text[c], scale, args.student, weights, args.width, args.gradient,
                 args.grad_text + c * args.width);
}

// Rows and classes are each other's others: the text's gradient is a sum over rows.
inline bool takes_distill_small(const DistillParams& params) {
  return params.student.rows <= kMostOthers &&
         is_small(params.student.rows, params.student_text.rows, params.student.cols);
}

// The parts of the small kernels' workspace; with a null base, their size.
template <class T>
struct DistillSmallParts {
  using Acc = accumulator_t<T>;
  Acc *row_loss, *weights;
  int64_t bytes;

  DistillSmallParts(const DistillParams& params, void* base) {
    Workspace workspace(base);
    row_loss = workspace.take<Acc>(params.student.rows);
    weights = workspace.take<Acc>(params.student.rows * params.student_text.rows);
    bytes = workspace.bytes();
  }
};

template <class T>
cudaError_t run_distill_small(const DistillParams& params, void* base, cudaStream_t stream) {
  using Acc = accumulator_t<T>;
  constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));
  const DistillSmallParts<T> parts(params, base);
  const DistillSmallArgs<T> args{Rows<T>(params.student),
                                 Rows<T>(params.student_text),
                                 Rows<T>(params.teacher),
                                 Rows<T>(params.teacher_text),
                                 params.student.cols,
                                 static_cast<Acc>(sharpness_of(params) * kLog2E),
                                 gradient_of<Acc>(params),
                                 static_cast<Acc*>(params.grad_student),
                                 static_cast<Acc*>(params.grad_student_text),
                                 parts.weights,
                                 mean_of(params, parts.row_loss)};
  const bool packs = can_pack<kPack, T>(params.student) && can_pack<kPack, T>(params.student_text) &&
                     can_pack<kPack, T>(params.teacher) && can_pack<kPack, T>(params.teacher_text);
  launch(packs ? distill_small_kernel<T, kPack> : distill_small_kernel<T, 1>, static_cast<unsigned>(args.student.count),
         kRowThreads, stream, args);
  launch(distill_small_text_kernel<T>, static_cast<unsigned>(args.grad_text != nullptr ? args.text.count : 0) + 1,
         kRowThreads, stream, args);
  return cudaGetLastError();
}

}  // namespace cuda
}  // namespace segp
