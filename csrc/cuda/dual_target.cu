#include "segp/dual_target.h"

#include <algorithm>

#include "cosines.cuh"
#include "matrix_rows.cuh"
#include "norms.cuh"
#include "project.cuh"
#include "small_rows.cuh"
#include "softmax.cuh"
#include "unit_rows.cuh"

namespace segp {
namespace cuda {
namespace {

template <class T>
struct VisualArgs {
  using Acc = accumulator_t<T>;
  const T* feature;
  int64_t feature_stride;
  const T* prototypes;
  int64_t prototypes_stride;
  int64_t width;
  Acc weight;
  Acc* grad_feature;  // [rows, width], null if it is not wanted
};

// The visual half of a row: its loss, in every thread, and its gradient. Both are NaN for a target out of range. All
// threads of the block must call it.
template <class T>
__device__ __forceinline__ accumulator_t<T> visual_loss(const VisualArgs<T>& args, int64_t row, int64_t target,
                                                        bool is_inside) {
  using Acc = accumulator_t<T>;
  Acc* gradient = args.grad_feature == nullptr ? nullptr : args.grad_feature + row * args.width;
  if (!is_inside) {
    for (int64_t k = threadIdx.x; gradient != nullptr && k < args.width; k += blockDim.x) {
      gradient[k] = Acc(NAN);
    }
    return Acc(NAN);
  }
  const T* feature = args.feature + row * args.feature_stride;
  const T* prototype = args.prototypes + target * args.prototypes_stride;
  Acc both = 0;
  Acc mine = 0;
  Acc theirs = 0;
  for (int64_t k = threadIdx.x; k < args.width; k += blockDim.x) {
    const Acc f = device_load(feature[k]);
    const Acc p = device_load(prototype[k]);
    both += f * p;
    mine += f * f;
    theirs += p * p;
  }
  both = block_sum(both);
  mine = block_sum(mine);
  theirs = block_sum(theirs);
  UnitScale<Acc> feature_scale{Acc(1), inverse_root(mine)};
  UnitScale<Acc> prototype_scale{Acc(1), inverse_root(theirs)};
  if (!is_usual_square(mine) || !is_usual_square(theirs)) {
    feature_scale = or_zero(unit_scale<1>(feature, args.width));
    prototype_scale = or_zero(unit_scale<1>(prototype, args.width));
    both = 0;
    for (int64_t k = threadIdx.x; k < args.width; k += blockDim.x) {
      both += device_load(feature[k]) * feature_scale.power * (device_load(prototype[k]) * prototype_scale.power);
    }
    both = block_sum(both);
  }
  const Acc cosine = both * feature_scale.inverse * prototype_scale.inverse;
  const Acc outer = -args.weight * (feature_scale.inverse * feature_scale.power);
  for (int64_t k = threadIdx.x; gradient != nullptr && k < args.width; k += blockDim.x) {
    const Acc f = device_load(feature[k]) * feature_scale.power * feature_scale.inverse;
    const Acc p = device_load(prototype[k]) * prototype_scale.power * prototype_scale.inverse;
    gradient[k] = outer * (p - f * cosine);
  }
  return args.weight * (Acc(1) - cosine);
}

// -log of the softmax at the target's value, never negative: the target's term is part of the sum.
template <class T, bool kBounded>
__device__ __forceinline__ T cross_entropy(const Softmax<T, kBounded>& softmax, T scale, T of_target) {
  const T below = softmax.below(scale, of_target);
  if constexpr (kBounded) {
    return log(softmax.sum / softmax.term(below));
  } else {
    return log(softmax.sum) - below * T(kLn2);
  }
}

template <class T>
struct RowArgs {
  using Acc = accumulator_t<T>;
  Acc* x;          // [rows, stride] products
  T* weights;      // [rows, stride], null if no gradient is wanted; may be x
  int64_t stride;  // a multiple of 8
  int64_t classes;
  Cosines<T> cosines;  // of the rows and the text
  VisualArgs<T> visual;
  int64_t first_row;      // of all
  const int64_t* target;  // of all rows, as what follows
  int64_t target_stride;
  Acc sharpness;  // of powers of two
  Acc* loss;
};

// A block per row: both halves of the loss, the visual gradient, and the weights for the other.
template <class T, bool kBounded>
__global__ void __launch_bounds__(kWideThreads, sizeof(accumulator_t<T>) == sizeof(double) ? 1 : 2)
    dual_rows_kernel(const __grid_constant__ RowArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x;
  Acc* x = args.x + row * args.stride;
  args.cosines.repair(x, row, args.classes);
  const int64_t target = args.target[(args.first_row + row) * args.target_stride];
  const bool is_inside = target >= 0 && target < args.classes;
  const Acc scale = args.sharpness * args.cosines.row_norms.scale[row];
  // Read before another thread writes a weight in its place.
  const Acc of_target = is_inside ? x[target] * args.cosines.other_norms.scale[target] : Acc(NAN);
  Softmax<Acc, kBounded> softmax = Softmax<Acc, kBounded>::empty(args.sharpness);
  for (int64_t first = threadIdx.x * 4; first < args.classes; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    const Pack<Acc, 4> text = args.cosines.scales(first);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (first + k < args.classes) {
        softmax.add(scale, xs.values[k] * text.values[k]);
      }
    }
  }
  softmax = block_merge(softmax);
  const Acc visual = visual_loss(args.visual, args.first_row + row, target, is_inside);
  if (threadIdx.x == 0) {
    args.loss[args.first_row + row] = cross_entropy(softmax, scale, of_target) + visual;
  }
  if (args.weights == nullptr) {
    return;
  }
  T* weights = args.weights + row * args.stride;
  const Acc factor = is_inside ? factor_of<T>(args.cosines.other_norms) : Acc(NAN);  // makes the row's gradient NaN
  const Acc share = factor / softmax.sum;
  for (int64_t first = threadIdx.x * 4; first < args.classes; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    const Pack<Acc, 4> text = args.cosines.scales(first);
    const Pack<Acc, 4> inverse = args.cosines.inverses(first);
    Pack<T, 4> out;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t c = first + k;
      Acc weight = 0;
      if (c < args.classes) {
        const Acc p = rounded_product(softmax.term(softmax.below(scale, xs.values[k] * text.values[k])), share);
        weight = (p - (c == target ? factor : Acc(0))) * inverse.values[k];
      }
      device_store(out.values[k], weight);
    }
    *reinterpret_cast<Pack<T, 4>*>(weights + first) = out;
  }
}

template <class T>
struct SmallArgs {
  using Acc = accumulator_t<T>;
  Rows<T> embedding, text;
  int64_t width;
  VisualArgs<T> visual;
  const int64_t* target;
  int64_t target_stride;
  Acc logit_scale;
  Acc* loss;
  Acc* grad_embedding;  // null if it is not wanted
};

// A block per row, for everything.
template <class T, int kPack>
__global__ void __launch_bounds__(kRowThreads, 2) dual_small_kernel(const __grid_constant__ SmallArgs<T> args) {
  using Acc = accumulator_t<T>;
  __shared__ OfOthers<Acc> x, text_inverse;
  const int64_t row = blockIdx.x;
  const int64_t target = args.target[row * args.target_stride];
  const bool is_inside = target >= 0 && target < args.text.count;
  const Acc sharpness = args.logit_scale * Acc(kLog2E);
  const UnitScale<Acc> scale = block_cosines<kPack>(args.embedding[row], args.text, args.width, x, &text_inverse);
  Softmax<Acc, false> softmax = Softmax<Acc, false>::empty(0);
  for (int64_t c = threadIdx.x; c < args.text.count; c += blockDim.x) {
    softmax.add(sharpness, x[c]);
  }
  softmax = block_merge(softmax);
  const Acc visual = visual_loss(args.visual, row, target, is_inside);
  if (threadIdx.x == 0) {
    args.loss[row] = cross_entropy(softmax, sharpness, is_inside ? x[target] : Acc(NAN)) + visual;
  }
  if (args.grad_embedding == nullptr) {
    return;
  }
  __syncthreads();  // the target's cosine is read
  Acc* gradient = args.grad_embedding + row * args.width;
  if (!is_inside) {
    for (int64_t k = threadIdx.x; k < args.width; k += blockDim.x) {
      gradient[k] = Acc(NAN);
    }
    return;
  }
  for (int64_t c = threadIdx.x; c < args.text.count; c += blockDim.x) {
    x[c] = (softmax.term(softmax.below(sharpness, x[c])) / softmax.sum - (c == target ? Acc(1) : Acc(0))) *
           text_inverse[c];
  }
  __syncthreads();
  block_gradient(args.embedding[row], scale, args.text, x, args.width, args.logit_scale, gradient);
}

inline bool takes_small_kernel(const DualTargetParams& params) {
  return is_small(params.embedding.rows, params.text.rows, params.embedding.cols);
}

// The parts of the workspace; with a null base, their size.
template <class T>
struct Parts {
  using Acc = accumulator_t<T>;
  int64_t stride, block;
  int* flags;  // [2]
  Norms<Acc> embedding, text;
  Acc* x;
  T* weights;
  int64_t bytes;

  Parts(const DualTargetParams& params, void* base) {
    const int64_t rows = params.embedding.rows;
    const int64_t classes = params.text.rows;
    stride = padded(classes);
    const int64_t row_bytes = stride * static_cast<int64_t>(sizeof(Acc) + (sizeof(T) != sizeof(Acc) ? sizeof(T) : 0));
    block = balanced(rows, kTileBytes / row_bytes);
    Workspace workspace(base);
    flags = workspace.take<int>(2);
    embedding = take_norms<Acc>(workspace, rows, flags, nullptr);
    text = take_norms<Acc>(workspace, classes, flags, flags + 1);
    x = workspace.take<Acc>(block * stride);
    if constexpr (sizeof(T) == sizeof(Acc)) {
      weights = x;
    } else {
      weights = workspace.take<T>(block * stride);
    }
    bytes = workspace.bytes();
  }
};

template <class T>
cudaError_t run(const DualTargetParams& params, void* base, int device, cudaStream_t stream) {
  using Acc = accumulator_t<T>;
  constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));
  const int64_t rows = params.embedding.rows;
  const int64_t classes = params.text.rows;
  const int64_t width = params.embedding.cols;
  if (rows == 0) {
    return cudaSuccess;
  }
  Acc* loss = static_cast<Acc*>(params.loss);
  Acc* gradient = static_cast<Acc*>(params.grad_embedding);
  const VisualArgs<T> visual{static_cast<const T*>(params.feature.data),
                             params.feature.row_stride,
                             static_cast<const T*>(params.prototypes.data),
                             params.prototypes.row_stride,
                             params.feature.cols,
                             static_cast<Acc>(params.visual_weight),
                             static_cast<Acc*>(params.grad_feature)};
  if (takes_small_kernel(params)) {
    const SmallArgs<T> args{Rows<T>(params.embedding),
                            Rows<T>(params.text),
                            width,
                            visual,
                            params.target,
                            params.target_stride,
                            static_cast<Acc>(params.logit_scale),
                            loss,
                            gradient};
    const bool packs = can_pack<kPack, T>(params.embedding) && can_pack<kPack, T>(params.text);
    launch(packs ? dual_small_kernel<T, kPack> : dual_small_kernel<T, 1>, static_cast<unsigned>(rows), kRowThreads,
           stream, args);
    return cudaGetLastError();
  }
  const Parts<T> parts(params, base);
  cudaMemsetAsync(parts.flags, 0, 2 * sizeof(int), stream);
  launch_norms<T>({{norms_of<T>(params.embedding, parts.embedding), norms_of<T>(params.text, parts.text)}, width},
                  stream);
  RowArgs<T> args;
  args.x = parts.x;
  args.weights = gradient != nullptr ? parts.weights : nullptr;
  args.stride = parts.stride;
  args.classes = classes;
  args.visual = visual;
  args.target = params.target;
  args.target_stride = params.target_stride;
  args.sharpness = static_cast<Acc>(params.logit_scale * kLog2E);
  args.loss = loss;
  for (int64_t begin = 0; begin < rows; begin += parts.block) {
    const int64_t end = std::min(rows, begin + parts.block);
    const int64_t count = end - begin;
    const MatrixRef embedding = row_range<T>(params.embedding, begin, end);
    gemm(embedding, transposed(params.text), dense(parts.x, count, classes, parts.stride), device);
    args.cosines = cosines<T>(embedding, parts.embedding.from(begin), params.text, parts.text);
    args.first_row = begin;
    launch(is_bounded(params.logit_scale, classes) ? dual_rows_kernel<T, true> : dual_rows_kernel<T, false>,
           static_cast<unsigned>(count), threads_for_row(std::max(classes, visual.width)), stream, args);
    if (gradient != nullptr) {
      gemm(dense(parts.weights, count, classes, parts.stride), params.text,
           dense(gradient + begin * width, count, width, width), device);
    }
  }
  if (gradient != nullptr) {
    ProjectArgs<T> project{};
    project.sets[0] =
        projection_of<T>(params.embedding, parts.embedding, static_cast<Acc>(params.logit_scale), gradient);
    project.sets[0].factor_of = parts.text;
    project.width = width;
    launch_project(project, stream);
  }
  return cudaGetLastError();
}

}  // namespace

int64_t dual_target_loss_workspace(const DualTargetParams& params) {
  int64_t bytes = 0;
  if (!takes_small_kernel(params)) {
    visit_dtype(params.embedding.dtype,
                [&](auto tag) { bytes = Parts<typename decltype(tag)::type>(params, nullptr).bytes; });
  }
  return bytes;
}

int dual_target_loss(const DualTargetParams& params, void* workspace, int device, void* stream) {
  return on_device(device, params.embedding.dtype, [&](auto tag) {
    return run<typename decltype(tag)::type>(params, workspace, device, static_cast<cudaStream_t>(stream));
  });
}

}  // namespace cuda
}  // namespace segp
