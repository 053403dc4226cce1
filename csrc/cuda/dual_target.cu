#include "segp/dual_target.h"

#include <algorithm>

#include "matrix_rows.cuh"
#include "online_softmax.cuh"
#include "unit_rows.cuh"

namespace segp {
namespace cuda {
namespace {

template <class T>
struct TextArgs {
  using Acc = accumulator_t<T>;
  Acc* x;                // [rows, stride] products
  T* weights;            // [rows, stride], null if no gradient is wanted; may be x
  int64_t stride;        // a multiple of 8
  int64_t classes;
  Cosines<T> cosines;    // of the rows and the text
  const Acc* factor;     // what the weights are multiplied by
  const int64_t* target;
  int64_t target_stride;
  Acc logit_scale;
  Acc* loss;             // [rows]
};

// The text half, a block per row.
template <class T>
__global__ void __launch_bounds__(kRowThreads) dual_text_kernel(const TextArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x;
  Acc* x = args.x + row * args.stride;
  args.cosines.repair(x, row, args.classes);
  const int64_t target = args.target[row * args.target_stride];
  const bool is_inside = target >= 0 && target < args.classes;
  // Read before another thread writes a weight in its place.
  const Acc at_target = is_inside ? args.logit_scale * args.cosines.at(x[target], row, target) : Acc(NAN);
  OnlineSoftmax<Acc> softmax = OnlineSoftmax<Acc>::empty();
  for (int64_t first = threadIdx.x * 4; first < args.classes; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t c = first + k;
      if (c < args.classes) {
        softmax.add(args.logit_scale * args.cosines.at(xs.values[k], row, c), Acc(0));
      }
    }
  }
  softmax = block_merge(softmax);
  if (threadIdx.x == 0) {
    args.loss[row] = (softmax.most - at_target) + log(softmax.sum);
  }
  if (args.weights == nullptr) {
    return;
  }
  T* weights = args.weights + row * args.stride;
  const Acc factor = factor_at<T>(args.factor, 0);
  const Acc share = factor / softmax.sum;
  for (int64_t first = threadIdx.x * 4; first < args.classes; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    Pack<T, 4> out;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t c = first + k;
      Acc weight = 0;
      if (c < args.classes) {
        const Acc p = exp(args.logit_scale * args.cosines.at(xs.values[k], row, c) - softmax.most) * share;
        weight = (p - (c == target ? factor : Acc(0))) * args.cosines.other_norms.inverse[c];
      }
      device_store(out.values[k], weight);
    }
    *reinterpret_cast<Pack<T, 4>*>(weights + first) = out;
  }
}

template <class T>
struct VisualArgs {
  using Acc = accumulator_t<T>;
  const T* feature;
  int64_t feature_stride;
  const T* prototypes;
  int64_t prototypes_stride;
  int64_t width;
  int64_t classes;
  const int64_t* target;
  int64_t target_stride;
  Acc weight;
  Acc* loss;            // [rows], added to
  Acc* grad_embedding;  // [rows, embedding_width]; NaN is written for a target out of range
  int64_t embedding_width;
  Acc* grad_feature;    // [rows, width]
};

// The visual half and the mark of targets out of range, a block per row.
template <class T>
__global__ void __launch_bounds__(kRowThreads) dual_visual_kernel(const VisualArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x;
  const int64_t target = args.target[row * args.target_stride];
  if (target < 0 || target >= args.classes) {
    if (threadIdx.x == 0) {
      args.loss[row] = Acc(NAN);
    }
    for (int64_t k = threadIdx.x; args.grad_embedding != nullptr && k < args.embedding_width; k += blockDim.x) {
      args.grad_embedding[row * args.embedding_width + k] = Acc(NAN);
    }
    for (int64_t k = threadIdx.x; args.grad_feature != nullptr && k < args.width; k += blockDim.x) {
      args.grad_feature[row * args.width + k] = Acc(NAN);
    }
    return;
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
  if (threadIdx.x == 0) {
    args.loss[row] += args.weight * (Acc(1) - cosine);
  }
  if (args.grad_feature == nullptr) {
    return;
  }
  const Acc outer = -args.weight * (feature_scale.inverse * feature_scale.power);
  for (int64_t k = threadIdx.x; k < args.width; k += blockDim.x) {
    const Acc f = device_load(feature[k]) * feature_scale.power * feature_scale.inverse;
    const Acc p = device_load(prototype[k]) * prototype_scale.power * prototype_scale.inverse;
    args.grad_feature[row * args.width + k] = outer * (p - f * cosine);
  }
}

// The parts of the workspace; with a null base, their size.
template <class T>
struct Parts {
  using Acc = accumulator_t<T>;
  int64_t stride, block;
  int* unusual;
  Norms<Acc> embedding, text;
  Acc *factor, *x;
  T* weights;
  int64_t bytes;

  Parts(const DualTargetParams& params, void* base) {
    const int64_t rows = params.embedding.rows;
    const int64_t classes = params.text.rows;
    stride = padded(classes);
    const int64_t row_bytes = stride * static_cast<int64_t>(sizeof(Acc) + (sizeof(T) != sizeof(Acc) ? sizeof(T) : 0));
    block = std::max<int64_t>(1, std::min(rows, kTileBytes / std::max<int64_t>(1, row_bytes)));
    Workspace workspace(base);
    unusual = workspace.take<int>(1);
    embedding = take_norms<Acc>(workspace, rows, unusual);
    text = take_norms<Acc>(workspace, classes, unusual);
    factor = workspace.take<Acc>(1);
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
  const int64_t rows = params.embedding.rows;
  const int64_t classes = params.text.rows;
  const int64_t width = params.embedding.cols;
  if (rows == 0) {
    return cudaSuccess;
  }
  Acc* loss = static_cast<Acc*>(params.loss);
  Acc* gradient = static_cast<Acc*>(params.grad_embedding);
  if (classes > 0) {
    const Parts<T> parts(params, base);
    cudaMemsetAsync(parts.unusual, 0, sizeof(int), stream);
    launch_norms<T>(params.embedding, parts.embedding, stream);
    launch_norms<T>(params.text, parts.text, stream);
    launch_choose_factor<T>(parts.text.inverse, classes, parts.factor, stream);
    for (int64_t begin = 0; begin < rows; begin += parts.block) {
      const int64_t end = std::min(rows, begin + parts.block);
      const int64_t count = end - begin;
      const MatrixRef embedding = row_range<T>(params.embedding, begin, end);
      gemm(embedding, transposed(params.text), dense(parts.x, count, classes, parts.stride), device);
      TextArgs<T> args;
      args.x = parts.x;
      args.weights = gradient != nullptr ? parts.weights : nullptr;
      args.stride = parts.stride;
      args.classes = classes;
      args.cosines = cosines<T>(embedding, parts.embedding.from(begin), params.text, parts.text);
      args.factor = parts.factor;
      args.target = params.target + begin * params.target_stride;
      args.target_stride = params.target_stride;
      args.logit_scale = static_cast<Acc>(params.logit_scale);
      args.loss = loss + begin;
      launch(dual_text_kernel<T>, static_cast<unsigned>(count), threads_for_row(classes), stream, args);
      if (gradient != nullptr) {
        gemm(dense(parts.weights, count, classes, parts.stride), params.text,
             dense(gradient + begin * width, count, width, width), device);
      }
    }
    if (gradient != nullptr) {
      launch_project<T>(params.embedding, parts.embedding, parts.factor, 0, static_cast<Acc>(params.logit_scale),
                        gradient, stream);
    }
  }
  VisualArgs<T> args;
  args.feature = static_cast<const T*>(params.feature.data);
  args.feature_stride = params.feature.row_stride;
  args.prototypes = static_cast<const T*>(params.prototypes.data);
  args.prototypes_stride = params.prototypes.row_stride;
  args.width = params.feature.cols;
  args.classes = classes;
  args.target = params.target;
  args.target_stride = params.target_stride;
  args.weight = static_cast<Acc>(params.visual_weight);
  args.loss = loss;
  args.grad_embedding = gradient;
  args.embedding_width = width;
  args.grad_feature = static_cast<Acc*>(params.grad_feature);
  launch(dual_visual_kernel<T>, static_cast<unsigned>(rows), threads_for_row(args.width), stream, args);
  return cudaGetLastError();
}

}  // namespace

int64_t dual_target_loss_workspace(const DualTargetParams& params) {
  int64_t bytes = 0;
  visit_dtype(params.embedding.dtype,
              [&](auto tag) { bytes = Parts<typename decltype(tag)::type>(params, nullptr).bytes; });
  return bytes;
}

int dual_target_loss(const DualTargetParams& params, void* workspace, int device, void* stream) {
  cudaError_t status = cudaSetDevice(device);  // for the runtime that is linked to this library
  if (status == cudaSuccess) {
    visit_dtype(params.embedding.dtype, [&](auto tag) {
      status = run<typename decltype(tag)::type>(params, workspace, device, static_cast<cudaStream_t>(stream));
    });
  }
  return status;
}

}  // namespace cuda
}  // namespace segp
