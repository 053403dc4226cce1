#include "segp/distill.h"

#include <algorithm>
#include <cmath>

#include "cosines.cuh"
#include "distill_small.cuh"
#include "matrix_rows.cuh"
#include "norms.cuh"
#include "project.cuh"
#include "rounded.cuh"
#include "segp/divergence.h"
#include "softmax.cuh"

namespace segp {
namespace cuda {
namespace {

template <class T>
struct RowArgs {
  using Acc = accumulator_t<T>;
  Acc* x;          // [rows, stride] products of the student; if T is narrower, then weights in their first half
  Acc* y;          // [rows, stride] products of the teacher
  T* for_student;  // [rows, student_stride] weights of the student's gradient, over x; null if it is not wanted
  T* for_text;     // [rows, stride] weights of the text's gradient, null if it is not wanted
  int64_t stride;  // a multiple of 8
  int64_t student_stride;
  int64_t classes;
  Cosines<T> student;  // of the rows and their text
  Cosines<T> teacher;
  Acc* row_factor;  // [rows] what weights for the student are multiplied by
  Acc text_factor;  // what those for the text are multiplied by, beside the factor of the students' norms
  Acc sharpness;    // of powers of two
  Acc* loss;        // [rows]
};

// A block per row. Both rows are read twice, from memory or, where they are short, from the caches: once for the
// softmaxes, once for the loss and the weights. Two blocks at a time are asked for where registers suffice, which those
// of double do not.
//
// Each weight p - q carries the inverse norm of the rows that it will be multiplied by, and no other.
template <class T, bool kBounded>
__global__ void __launch_bounds__(kWideThreads, sizeof(accumulator_t<T>) == sizeof(double) ? 1 : 2)
    distill_rows_kernel(const __grid_constant__ RowArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x;
  Acc* x = args.x + row * args.stride;
  Acc* y = args.y + row * args.stride;
  args.student.repair(x, row, args.classes);
  args.teacher.repair(y, row, args.classes);
  Softmax<Acc, kBounded> student = Softmax<Acc, kBounded>::empty(args.sharpness);
  Softmax<Acc, kBounded> teacher = student;
  const Acc student_scale = args.sharpness * args.student.row_norms.scale[row];
  const Acc teacher_scale = args.sharpness * args.teacher.row_norms.scale[row];
  for (int64_t first = threadIdx.x * 4; first < args.classes; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    const Pack<Acc, 4> ys = *reinterpret_cast<const Pack<Acc, 4>*>(y + first);
    const Pack<Acc, 4> text = args.student.scales(first);
    const Pack<Acc, 4> teacher_text = args.teacher.scales(first);
#pragma unroll(sizeof(Acc) == 8 ? 1 : 4)
    for (int k = 0; k < 4; ++k) {
      if (first + k < args.classes) {
        student.add(student_scale, xs.values[k] * text.values[k]);
        teacher.add(teacher_scale, ys.values[k] * teacher_text.values[k]);
      }
    }
  }
  student = block_merge(student);
  teacher = block_merge(teacher);
  const Acc student_share = 1 / student.sum;
  const Acc teacher_share = 1 / teacher.sum;
  const Acc shift = log(teacher.sum / student.sum);
  // No |p - q| exceeds the largest p or q. With the largest value as the base these are the shares; with a bound they
  // are no more.
  const Acc share = student_share > teacher_share ? student_share : teacher_share;
  const Acc most = share < Acc(1) ? share : Acc(1);
  const Acc row_factor = factor_of<T>(args.student.other_norms) * factor_for<T>(kFactorRange * most);
  const Acc student_factor =
      args.student.row_norms.inverse[row] * factor_of<T>(args.student.row_norms) * args.text_factor;
  Acc loss = 0;
  int64_t step = 0;
  int64_t barrier = 0;  // the step before whose writes all must have read
  for (int64_t begin = 0; begin < args.classes; begin += blockDim.x * 4, ++step) {
    const int64_t first = begin + threadIdx.x * 4;
    Pack<T, 4> for_student;
    Pack<T, 4> for_text;
    if (first < args.classes) {
      const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
      const Pack<Acc, 4> ys = *reinterpret_cast<const Pack<Acc, 4>*>(y + first);
      const Pack<Acc, 4> text = args.student.scales(first);
      const Pack<Acc, 4> teacher_text = args.teacher.scales(first);
      const Pack<Acc, 4> inverse = args.student.inverses(first);
#pragma unroll(sizeof(Acc) == 8 ? 1 : 4)
      for (int k = 0; k < 4; ++k) {
        Acc difference = 0;
        Acc text_inverse = 0;
        if (first + k < args.classes) {
          const Acc student_below = student.below(student_scale, xs.values[k] * text.values[k]);
          const Acc teacher_below = teacher.below(teacher_scale, ys.values[k] * teacher_text.values[k]);
          // Rounded, so that p - q is 0 where they are equal.
          const Acc p = rounded_product(student.term(student_below), student_share);
          const Acc q = rounded_product(teacher.term(teacher_below), teacher_share);
          loss += divergence_term(p, q, (teacher_below - student_below) * Acc(kLn2) - shift);
          difference = p - q;
          text_inverse = inverse.values[k];
        }
        device_store(for_student.values[k], difference * row_factor * text_inverse);
        device_store(for_text.values[k], difference * student_factor);
      }
    }
    if constexpr (sizeof(T) != sizeof(Acc)) {
      // Narrower weights end up where other threads' products were: those of step i over the products of step i / 2.
      if (step == barrier) {
        __syncthreads();
        barrier = 2 * step + 2;
      }
    }
    if (first < args.classes && args.for_student != nullptr) {
      *reinterpret_cast<Pack<T, 4>*>(args.for_student + row * args.student_stride + first) = for_student;
    }
    if (first < args.classes && args.for_text != nullptr) {
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

// Whether a product can be added to what is there.
template <class T>
constexpr bool kAddsGemm = sizeof(T) == sizeof(accumulator_t<T>);

constexpr int64_t kAligned = 8;  // numbers of a half type in 16 bytes

// The parts of the workspace; with a null base, their size.
template <class T>
struct Parts {
  using Acc = accumulator_t<T>;
  int64_t stride, student_stride, block, group;
  int* flags;  // [4]
  Norms<Acc> student, teacher, student_text, teacher_text;
  Acc *row_loss, *row_factor, *x, *y, *text_sum;
  T *for_student, *for_text;
  int64_t text_sums;  // elements of text_sum
  int64_t bytes;

  Parts(const DistillParams& params, void* base) {
    const int64_t rows = std::max<int64_t>(1, params.student.rows);
    const int64_t classes = std::max<int64_t>(1, params.student_text.rows);
    const int64_t width = std::max<int64_t>(1, params.student.cols);
    stride = padded(classes);
    student_stride = stride * static_cast<int64_t>(sizeof(Acc) / sizeof(T));
    block = balanced(rows, kTileBytes / (2 * stride * static_cast<int64_t>(sizeof(Acc))));
    const int64_t tiles = 2 * block * stride;
    const int64_t spare = std::min<int64_t>(tiles / 64, (kAligned - 1) * width);  // for pieces of whole vectors
    // The text's gradient takes as many rows at a time as there is room for: each time it is added to what is there.
    const int64_t room = kWorkspaceBytes - (tiles + spare) * static_cast<int64_t>(sizeof(Acc));
    group = std::max<int64_t>(1, room / (stride * static_cast<int64_t>(sizeof(T))) / block) * block;
    group = std::min(group, (rows + block - 1) / block * block);
    text_sums = group < rows ? std::max(tiles + spare, width) : tiles;
    Workspace workspace(base);
    flags = workspace.take<int>(4);
    row_loss = workspace.take<Acc>(rows);
    student = take_norms<Acc>(workspace, rows, flags, flags + 1);
    student_text = take_norms<Acc>(workspace, classes, flags, flags + 2);
    teacher = take_norms<Acc>(workspace, rows, flags + 3, nullptr);
    teacher_text = take_norms<Acc>(workspace, classes, flags + 3, nullptr);
    row_factor = workspace.take<Acc>(rows);
    x = workspace.take<Acc>(text_sums);
    y = x + block * stride;
    for_student = reinterpret_cast<T*>(x);
    text_sum = x;  // and y, once the student's gradient has been made
    for_text = workspace.take<T>(params.grad_student_text != nullptr ? group * stride : 0);
    bytes = workspace.bytes();
  }
};

// grad_text (=, or += from the second group on) weights^T student. The sum of half types is added in pieces of
// classes.
template <class T>
void add_text_gradient(const Parts<T>& parts, const MatrixRef& weights, const MatrixRef& student, bool is_first,
                       accumulator_t<T>* grad_text, int device, cudaStream_t stream) {
  using Acc = accumulator_t<T>;
  const int64_t classes = weights.cols;
  const int64_t width = student.cols;
  if (is_first) {
    gemm(transposed(weights), student, dense(grad_text, classes, width, width), device);
  } else if constexpr (kAddsGemm<T>) {
    add_gemm(transposed(weights), student, dense(grad_text, classes, width, width), device);
  } else {
    int64_t piece = std::max<int64_t>(1, parts.text_sums / width);
    piece -= piece < kAligned ? 0 : piece % kAligned;  // else weights begin at places where products are slow
    for (int64_t c = 0; c < classes; c += piece) {
      const int64_t taken = std::min(classes, c + piece) - c;
      const MatrixRef some = dense(parts.for_text + c, weights.rows, taken, parts.stride);
      gemm(transposed(some), student, dense(parts.text_sum, taken, width, width), device);
      launch(add_kernel<Acc>, blocks_for(taken * width, kRowThreads), kRowThreads, stream, grad_text + c * width,
             parts.text_sum, taken * width);
    }
  }
}

template <class T>
cudaError_t run_tiled(const DistillParams& params, void* base, int device, cudaStream_t stream) {
  using Acc = accumulator_t<T>;
  const int64_t rows = params.student.rows;
  const int64_t classes = params.student_text.rows;
  const int64_t width = params.student.cols;
  Acc* grad_student = static_cast<Acc*>(params.grad_student);
  Acc* grad_text = static_cast<Acc*>(params.grad_student_text);
  const double sharpness = sharpness_of(params);
  const Parts<T> parts(params, base);
  cudaMemsetAsync(parts.flags, 0, 4 * sizeof(int), stream);
  launch_norms<T>({{norms_of<T>(params.student, parts.student), norms_of<T>(params.student_text, parts.student_text),
                    norms_of<T>(params.teacher, parts.teacher), norms_of<T>(params.teacher_text, parts.teacher_text)},
                   width},
                  stream);

  RowArgs<T> args;
  args.x = parts.x;
  args.y = parts.y;
  args.for_student = grad_student != nullptr ? parts.for_student : nullptr;
  args.stride = parts.stride;
  args.student_stride = parts.student_stride;
  args.classes = classes;
  args.sharpness = static_cast<Acc>(sharpness * kLog2E);
  // No p or q exceeds e^(2 s / tau) / C, as logits are within s / tau of 0.
  const double most = std::min(1.0, std::exp(2 * std::min(sharpness, 100.0)) / static_cast<double>(classes));
  args.text_factor = kHasFactors<T> ? static_cast<Acc>(std::exp2(std::floor(-std::log2(most)))) : Acc(1);
  int64_t group_begin = 0;
  for (int64_t begin = 0; begin < rows; begin += parts.block) {
    const int64_t end = std::min(rows, begin + parts.block);
    const int64_t count = end - begin;
    const MatrixRef student = row_range<T>(params.student, begin, end);
    const MatrixRef teacher = row_range<T>(params.teacher, begin, end);
    gemm(student, transposed(params.student_text), dense(parts.x, count, classes, parts.stride), device);
    gemm(teacher, transposed(params.teacher_text), dense(parts.y, count, classes, parts.stride), device);
    args.student = cosines<T>(student, parts.student.from(begin), params.student_text, parts.student_text);
    args.teacher = cosines<T>(teacher, parts.teacher.from(begin), params.teacher_text, parts.teacher_text);
    args.for_text = grad_text != nullptr && width > 0 ? parts.for_text + (begin - group_begin) * parts.stride : nullptr;
    args.row_factor = parts.row_factor + begin;
    args.loss = parts.row_loss + begin;
    launch(is_bounded(sharpness, classes) ? distill_rows_kernel<T, true> : distill_rows_kernel<T, false>,
           static_cast<unsigned>(count), threads_for_row(classes), stream, args);
    if (grad_student != nullptr) {
      gemm(dense(parts.for_student, count, classes, parts.student_stride), params.student_text,
           dense(grad_student + begin * width, count, width, width), device);
    }
    if (args.for_text != nullptr && (end == rows || end - group_begin == parts.group)) {
      add_text_gradient(parts, dense(parts.for_text, end - group_begin, classes, parts.stride),
                        row_range<T>(params.student, group_begin, end), group_begin == 0, grad_text, device, stream);
      group_begin = end;
    }
  }
  const auto gradient = gradient_of<Acc>(params);
  ProjectArgs<T> project{};
  project.mean = mean_of(params, parts.row_loss);
  project.width = width;
  if (grad_student != nullptr) {
    project.sets[0] = projection_of<T>(params.student, parts.student, gradient, grad_student);
    project.sets[0].row_factor = parts.row_factor;
  }
  if (grad_text != nullptr) {
    project.sets[1] = projection_of<T>(params.student_text, parts.student_text, gradient / args.text_factor, grad_text);
    project.sets[1].factor_of = parts.student;
  }
  launch_project(project, stream);
  return cudaGetLastError();
}

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
  return takes_distill_small(params) ? run_distill_small<T>(params, base, stream)
                                     : run_tiled<T>(params, base, device, stream);
}

}  // namespace

int64_t geometry_distill_workspace(const DistillParams& params) {
  int64_t bytes = 0;
  visit_dtype(params.student.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    bytes = takes_distill_small(params) ? DistillSmallParts<T>(params, nullptr).bytes : Parts<T>(params, nullptr).bytes;
  });
  return bytes;
}

int geometry_distill(const DistillParams& params, void* workspace, int device, void* stream) {
  return on_device(device, params.student.dtype, [&](auto tag) {
    return run<typename decltype(tag)::type>(params, workspace, device, static_cast<cudaStream_t>(stream));
  });
}

}  // namespace cuda
}  // namespace segp
