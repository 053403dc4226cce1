#include "segp/drift.h"

#include <algorithm>

#include "matrix_rows.cuh"
#include "online_softmax.cuh"
#include "unit_rows.cuh"

namespace segp {
namespace cuda {
namespace {

// moved = after - before, contiguous.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    moved_kernel(const T* before, int64_t before_stride, const T* after, int64_t after_stride, int64_t count,
                 int64_t width, accumulator_t<T>* moved) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i < count * width) {
    const int64_t row = i / width;
    const int64_t column = i - row * width;
    moved[i] = device_load(after[row * after_stride + column]) - device_load(before[row * before_stride + column]);
  }
}

template <class T>
struct ChunkArgs {
  using Acc = accumulator_t<T>;
  Acc* x;          // [rows, stride] products; then weights
  int64_t stride;  // a multiple of 8
  int64_t anchors;
  Cosines<T> cosines;  // of the prototypes and the anchors
  Acc sharpness;
  OnlineSoftmax<Acc>* sums;  // [rows] up to the chunk before; brought up to date
  Acc* shrink;               // [rows] what the drift so far is to be multiplied by
  bool is_first;
};

// A block per prototype: the weights of one chunk of anchors, relative to the largest so far.
template <class T>
__global__ void __launch_bounds__(kRowThreads) drift_chunk_kernel(const ChunkArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x;
  Acc* x = args.x + row * args.stride;
  args.cosines.repair(x, row, args.anchors);
  const OnlineSoftmax<Acc> before = args.is_first ? OnlineSoftmax<Acc>::empty() : args.sums[row];
  OnlineSoftmax<Acc> softmax = OnlineSoftmax<Acc>::empty();
  for (int64_t first = threadIdx.x * 4; first < args.anchors; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t a = first + k;
      if (a < args.anchors) {
        const Acc cosine = args.cosines.at(xs.values[k], row, a);
        softmax.add(cosine * args.sharpness, cosine < Acc(0) ? Acc(0) : cosine);
      }
    }
  }
  softmax = block_merge(softmax);
  softmax.merge(before);
  if (threadIdx.x == 0) {
    args.sums[row] = softmax;
    args.shrink[row] = args.is_first ? Acc(0) : exp(before.most - softmax.most);
  }
  for (int64_t first = threadIdx.x * 4; first < args.anchors; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    Pack<Acc, 4> weights;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t a = first + k;
      weights.values[k] =
          a < args.anchors ? exp(args.cosines.at(xs.values[k], row, a) * args.sharpness - softmax.most) : Acc(0);
    }
    *reinterpret_cast<Pack<Acc, 4>*>(x + first) = weights;
  }
}

// drift = drift * shrink[row] + added, contiguous.
template <class Acc>
__global__ void __launch_bounds__(kRowThreads)
    accumulate_kernel(Acc* drift, const Acc* added, const Acc* shrink, int64_t rows, int64_t width) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i < rows * width) {
    drift[i] = drift[i] * shrink[i / width] + added[i];
  }
}

template <class Acc>
__global__ void __launch_bounds__(kRowThreads)
    finish_kernel(Acc* drift, const OnlineSoftmax<Acc>* sums, int64_t rows, int64_t width, Acc* proximity) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i < rows * width) {
    drift[i] /= sums[i / width].sum;
  }
  if (i < rows) {
    proximity[i] = sums[i].weighted / sums[i].sum;
  }
}

// The parts of the workspace; with a null base, their size.
template <class T>
struct Parts {
  using Acc = accumulator_t<T>;
  int64_t chunk, block, stride;
  int* unusual;
  Norms<Acc> prototypes, anchors;
  Acc *shrink, *x, *added, *moved;
  OnlineSoftmax<Acc>* sums;
  int64_t bytes;

  Parts(const DriftParams& params, void* base) {
    const int64_t classes = params.prototypes.rows;
    const int64_t count = params.before.rows;
    const int64_t width = std::max<int64_t>(1, params.prototypes.cols);
    chunk = std::max<int64_t>(1, std::min(count, std::max<int64_t>(
                16, kRowsBytes / (width * static_cast<int64_t>(sizeof(Acc))))));
    stride = padded(chunk);
    const int64_t row_bytes = (stride + width) * static_cast<int64_t>(sizeof(Acc));
    block = std::max<int64_t>(1, std::min(classes, kTileBytes / row_bytes));
    Workspace workspace(base);
    unusual = workspace.take<int>(1);
    prototypes = take_norms<Acc>(workspace, classes, unusual);
    anchors = take_norms<Acc>(workspace, count, unusual);
    shrink = workspace.take<Acc>(classes);
    sums = workspace.take<OnlineSoftmax<Acc>>(classes);
    x = workspace.take<Acc>(block * stride);
    added = workspace.take<Acc>(block * width);
    moved = workspace.take<Acc>(chunk * width);
    bytes = workspace.bytes();
  }
};

template <class T>
cudaError_t run(const DriftParams& params, void* base, int device, cudaStream_t stream) {
  using Acc = accumulator_t<T>;
  const int64_t classes = params.prototypes.rows;
  const int64_t anchors = params.before.rows;
  const int64_t width = params.prototypes.cols;
  Acc* drift = static_cast<Acc*>(params.drift);
  Acc* proximity = static_cast<Acc*>(params.proximity);
  if (classes == 0) {
    return cudaSuccess;
  }
  if (anchors == 0) {
    cudaMemsetAsync(drift, 0, static_cast<size_t>(classes * width) * sizeof(Acc), stream);
    cudaMemsetAsync(proximity, 0, static_cast<size_t>(classes) * sizeof(Acc), stream);
    return cudaGetLastError();
  }
  const Parts<T> parts(params, base);
  cudaMemsetAsync(parts.unusual, 0, sizeof(int), stream);
  launch_norms<T>(params.prototypes, parts.prototypes, stream);
  launch_norms<T>(params.before, parts.anchors, stream);
  for (int64_t a = 0; a < anchors; a += parts.chunk) {
    const int64_t count = std::min(anchors, a + parts.chunk) - a;
    const MatrixRef before = row_range<T>(params.before, a, a + count);
    const MatrixRef after = row_range<T>(params.after, a, a + count);
    if (width > 0) {
      launch(moved_kernel<T>, blocks_for(count * width, kRowThreads), kRowThreads, stream,
             static_cast<const T*>(before.data), before.row_stride, static_cast<const T*>(after.data),
             after.row_stride, count, width, parts.moved);
    }
    for (int64_t c = 0; c < classes; c += parts.block) {
      const int64_t rows = std::min(classes, c + parts.block) - c;
      const MatrixRef prototypes = row_range<T>(params.prototypes, c, c + rows);
      gemm(prototypes, transposed(before), dense(parts.x, rows, count, parts.stride), device);
      ChunkArgs<T> args;
      args.x = parts.x;
      args.stride = parts.stride;
      args.anchors = count;
      args.cosines = cosines<T>(prototypes, parts.prototypes.from(c), before, parts.anchors.from(a));
      args.sharpness = static_cast<Acc>(1.0 / params.temperature);
      args.sums = parts.sums + c;
      args.shrink = parts.shrink + c;
      args.is_first = a == 0;
      launch(drift_chunk_kernel<T>, static_cast<unsigned>(rows), threads_for_row(count), stream, args);
      const MatrixRef weights = dense(parts.x, rows, count, parts.stride);
      const MatrixRef moved = dense(parts.moved, count, width, width);
      if (a == 0) {
        gemm(weights, moved, dense(drift + c * width, rows, width, width), device);
      } else if (width > 0) {
        gemm(weights, moved, dense(parts.added, rows, width, width), device);
        launch(accumulate_kernel<Acc>, blocks_for(rows * width, kRowThreads), kRowThreads, stream, drift + c * width,
               parts.added, args.shrink, rows, width);
      }
    }
  }
  launch(finish_kernel<Acc>, blocks_for(classes * std::max<int64_t>(1, width), kRowThreads), kRowThreads, stream, drift,
         parts.sums, classes, width, proximity);
  return cudaGetLastError();
}

}  // namespace

int64_t prototype_drift_workspace(const DriftParams& params) {
  int64_t bytes = 0;
  visit_dtype(params.prototypes.dtype,
              [&](auto tag) { bytes = Parts<typename decltype(tag)::type>(params, nullptr).bytes; });
  return bytes;
}

int prototype_drift(const DriftParams& params, void* workspace, int device, void* stream) {
  cudaError_t status = cudaSetDevice(device);  // for the runtime that is linked to this library
  if (status == cudaSuccess) {
    visit_dtype(params.prototypes.dtype, [&](auto tag) {
      status = run<typename decltype(tag)::type>(params, workspace, device, static_cast<cudaStream_t>(stream));
    });
  }
  return status;
}

}  // namespace cuda
}  // namespace segp
