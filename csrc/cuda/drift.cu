#include "segp/drift.h"

#include <algorithm>

#include "cosines.cuh"
#include "matrix_rows.cuh"
#include "norms.cuh"
#include "small_rows.cuh"
#include "softmax.cuh"
#include "unit_rows.cuh"

namespace segp {
namespace cuda {
namespace {

template <class T>
struct ChunkArgs {
  using Acc = accumulator_t<T>;
  Acc* x;          // [rows, stride] products; then weights
  int64_t stride;  // a multiple of 8
  int64_t anchors;
  Cosines<T> cosines;  // of the prototypes and the anchors
  Acc sharpness;       // of powers of two
  void* sums;          // [rows] Softmax<Acc, kBounded> up to the chunk before; brought up to date
  Acc* proximity;      // [rows] brought up to date
  Acc* drift;          // [rows, width] up to the chunk before; multiplied by the share of these chunks in all so far
  int64_t width;
  bool is_first;
};

// A block per prototype: the weights of one chunk of anchors, as shares of all anchors so far.
template <class T, bool kBounded>
__global__ void __launch_bounds__(kWideThreads) drift_chunk_kernel(const __grid_constant__ ChunkArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x;
  Acc* x = args.x + row * args.stride;
  Softmax<Acc, kBounded>* sums = static_cast<Softmax<Acc, kBounded>*>(args.sums) + row;
  args.cosines.repair(x, row, args.anchors);
  Softmax<Acc, kBounded> chunk = Softmax<Acc, kBounded>::empty(args.sharpness);
  const Softmax<Acc, kBounded> before = args.is_first ? chunk : *sums;  // read before it is written
  const Acc scale = args.cosines.row_norms.scale[row];
  for (int64_t first = threadIdx.x * 4; first < args.anchors; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    const Pack<Acc, 4> anchors = args.cosines.scales(first);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (first + k < args.anchors) {
        const Acc cosine = rounded_product(scale, xs.values[k] * anchors.values[k]);
        chunk.add(args.sharpness, cosine, cosine < Acc(0) ? Acc(0) : cosine);
      }
    }
  }
  Softmax<Acc, kBounded> whole = block_merge(chunk);
  if (!args.is_first) {
    whole.merge(before);
    const Acc kept = before.sum * (kBounded ? Acc(1) : exp2(before.most - whole.most)) / whole.sum;
    for (int64_t k = threadIdx.x; k < args.width; k += blockDim.x) {
      args.drift[row * args.width + k] *= kept;
    }
  }
  if (threadIdx.x == 0) {
    *sums = whole;
    args.proximity[row] = whole.weighted / whole.sum;
  }
  const Acc share = Acc(1) / whole.sum;
  for (int64_t first = threadIdx.x * 4; first < args.anchors; first += blockDim.x * 4) {
    const Pack<Acc, 4> xs = *reinterpret_cast<const Pack<Acc, 4>*>(x + first);
    const Pack<Acc, 4> anchors = args.cosines.scales(first);
    Pack<Acc, 4> weights;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const Acc cosine = rounded_product(scale, xs.values[k] * anchors.values[k]);
      weights.values[k] = first + k < args.anchors ? whole.term(whole.below(args.sharpness, cosine)) * share : Acc(0);
    }
    *reinterpret_cast<Pack<Acc, 4>*>(x + first) = weights;
  }
}

template <class T>
struct SmallArgs {
  using Acc = accumulator_t<T>;
  Rows<T> prototypes, before, after;
  int64_t width;
  Acc sharpness;   // of powers of two
  Acc* drift;      // [C, D]
  Acc* proximity;  // [C]
};

// A block per prototype, for everything.
template <class T, int kPack>
__global__ void __launch_bounds__(kRowThreads) drift_small_kernel(const __grid_constant__ SmallArgs<T> args) {
  using Acc = accumulator_t<T>;
  __shared__ OfOthers<Acc> x;
  const int64_t row = blockIdx.x;
  block_cosines<kPack>(args.prototypes[row], args.before, args.width, x, nullptr);
  Softmax<Acc, false> softmax = Softmax<Acc, false>::empty(0);
  for (int64_t a = threadIdx.x; a < args.before.count; a += blockDim.x) {
    softmax.add(args.sharpness, x[a], x[a] < Acc(0) ? Acc(0) : x[a]);
  }
  softmax = block_merge(softmax);
  for (int64_t a = threadIdx.x; a < args.before.count; a += blockDim.x) {
    x[a] = softmax.term(softmax.below(args.sharpness, x[a])) / softmax.sum;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    args.proximity[row] = softmax.weighted / softmax.sum;
  }
  for (int64_t k = threadIdx.x; k < args.width; k += blockDim.x) {
    Acc sum = 0;
#pragma unroll 4
    for (int64_t a = 0; a < args.before.count; ++a) {
      sum += x[a] * (device_load(args.after[a][k]) - device_load(args.before[a][k]));
    }
    args.drift[row * args.width + k] = sum;
  }
}

inline bool takes_small_kernel(const DriftParams& params) {
  return is_small(params.prototypes.rows, params.before.rows, params.prototypes.cols);
}

// The parts of the workspace; with a null base, their size.
template <class T>
struct Parts {
  using Acc = accumulator_t<T>;
  int64_t chunk, block, stride;
  int* flags;  // [1]
  Norms<Acc> prototypes, anchors;
  Acc *x, *moved;
  Softmax<Acc, false>* sums;
  int64_t bytes;

  // All prototypes with as many anchors as fit, so that the second product is over as many rows as there are. Its inner
  // size, the chunk, need not be large.
  Parts(const DriftParams& params, void* base) {
    const int64_t classes = params.prototypes.rows;
    const int64_t count = params.before.rows;
    const int64_t width = std::max<int64_t>(1, params.prototypes.cols);
    constexpr int64_t kLeastChunk = 128;
    constexpr int64_t kNorms = 3;
    constexpr int64_t kBudget = kWorkspaceBytes / static_cast<int64_t>(sizeof(Acc));  // in numbers
    const int64_t of_anchor = width + kNorms;                                         // numbers, beside its weights
    if (classes * padded(count) + count * of_anchor <= kBudget) {
      block = classes;
      chunk = count;
    } else {
      block = std::min(classes, kBudget / 2 / kLeastChunk);
      chunk = balanced(count, kBudget / (block + of_anchor));
    }
    stride = padded(chunk);
    Workspace workspace(base);
    flags = workspace.take<int>(1);
    prototypes = take_norms<Acc>(workspace, classes, flags, nullptr);
    anchors = take_norms<Acc>(workspace, chunk, flags, nullptr);
    sums = workspace.take<Softmax<Acc, false>>(classes);
    x = workspace.take<Acc>(block * stride);
    moved = workspace.take<Acc>(chunk * width);
    bytes = workspace.bytes();
  }
};

template <class T, bool kBounded>
cudaError_t run_chunks(const DriftParams& params, const Parts<T>& parts, int device, cudaStream_t stream) {
  using Acc = accumulator_t<T>;
  const int64_t classes = params.prototypes.rows;
  const int64_t anchors = params.before.rows;
  const int64_t width = params.prototypes.cols;
  Acc* drift = static_cast<Acc*>(params.drift);
  auto* sums = reinterpret_cast<Softmax<Acc, kBounded>*>(parts.sums);
  cudaMemsetAsync(parts.flags, 0, sizeof(int), stream);
  for (int64_t a = 0; a < anchors; a += parts.chunk) {
    const int64_t count = std::min(anchors, a + parts.chunk) - a;
    const MatrixRef before = row_range<T>(params.before, a, a + count);
    NormsArgs<T> norms{};
    norms.width = width;
    norms.sets[0] = norms_of<T>(before, parts.anchors);
    norms.sets[0].after = static_cast<const T*>(row_range<T>(params.after, a, a + count).data);
    norms.sets[0].after_stride = params.after.row_stride;
    norms.sets[0].moved = parts.moved;
    if (a == 0) {
      norms.sets[1] = norms_of<T>(params.prototypes, parts.prototypes);
    }
    launch_norms(norms, stream);
    for (int64_t c = 0; c < classes; c += parts.block) {
      const int64_t rows = std::min(classes, c + parts.block) - c;
      const MatrixRef prototypes = row_range<T>(params.prototypes, c, c + rows);
      gemm(prototypes, transposed(before), dense(parts.x, rows, count, parts.stride), device);
      ChunkArgs<T> args;
      args.x = parts.x;
      args.stride = parts.stride;
      args.anchors = count;
      args.cosines = cosines<T>(prototypes, parts.prototypes.from(c), before, parts.anchors);
      args.sharpness = static_cast<Acc>(kLog2E / params.temperature);
      args.sums = sums + c;
      args.proximity = static_cast<Acc*>(params.proximity) + c;
      args.drift = drift + c * width;
      args.width = width;
      args.is_first = a == 0;
      launch(drift_chunk_kernel<T, kBounded>, static_cast<unsigned>(rows), threads_for_row(count), stream, args);
      const MatrixRef weights = dense(parts.x, rows, count, parts.stride);
      const MatrixRef moved = dense(parts.moved, count, width, width);
      (args.is_first ? gemm : add_gemm)(weights, moved, dense(args.drift, rows, width, width), device);
    }
  }
  return cudaGetLastError();
}

template <class T>
cudaError_t run(const DriftParams& params, void* base, int device, cudaStream_t stream) {
  using Acc = accumulator_t<T>;
  constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));
  const int64_t classes = params.prototypes.rows;
  const int64_t anchors = params.before.rows;
  const int64_t width = params.prototypes.cols;
  if (classes == 0) {
    return cudaSuccess;
  }
  if (anchors == 0) {
    cudaMemsetAsync(params.drift, 0, static_cast<size_t>(classes * width) * sizeof(Acc), stream);
    cudaMemsetAsync(params.proximity, 0, static_cast<size_t>(classes) * sizeof(Acc), stream);
    return cudaGetLastError();
  }
  if (takes_small_kernel(params)) {
    const SmallArgs<T> args{Rows<T>(params.prototypes),
                            Rows<T>(params.before),
                            Rows<T>(params.after),
                            width,
                            static_cast<Acc>(kLog2E / params.temperature),
                            static_cast<Acc*>(params.drift),
                            static_cast<Acc*>(params.proximity)};
    const bool packs = can_pack<kPack, T>(params.prototypes) && can_pack<kPack, T>(params.before);
    launch(packs ? drift_small_kernel<T, kPack> : drift_small_kernel<T, 1>, static_cast<unsigned>(classes), kRowThreads,
           stream, args);
    return cudaGetLastError();
  }
  const Parts<T> parts(params, base);
  return is_bounded(1 / params.temperature, anchors) ? run_chunks<T, true>(params, parts, device, stream)
                                                     : run_chunks<T, false>(params, parts, device, stream);
}

}  // namespace

int64_t prototype_drift_workspace(const DriftParams& params) {
  int64_t bytes = 0;
  if (!takes_small_kernel(params)) {
    visit_dtype(params.prototypes.dtype,
                [&](auto tag) { bytes = Parts<typename decltype(tag)::type>(params, nullptr).bytes; });
  }
  return bytes;
}

int prototype_drift(const DriftParams& params, void* workspace, int device, void* stream) {
  return on_device(device, params.prototypes.dtype, [&](auto tag) {
    return run<typename decltype(tag)::type>(params, workspace, device, static_cast<cudaStream_t>(stream));
  });
}

}  // namespace cuda
}  // namespace segp
