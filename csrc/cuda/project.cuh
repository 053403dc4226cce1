// The way of gradients through the normalisation of rows, and with it the mean of a loss.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "launch.cuh"
#include "matrix_rows.cuh"
#include "norms.cuh"
#include "unit_rows.cuh"

namespace segp {
namespace cuda {

// Sums of the other side's unit vectors, scaled by the factor, on their way to gradients with respect to the rows of a
// matrix: sum[i] -> (sum[i] - unit_i (unit_i . sum[i])) / |row i| * gradient / factor.
template <class T>
struct Projection {
  using Acc = accumulator_t<T>;
  const T* rows;
  int64_t stride;
  int64_t count;
  Norms<Acc> norms;
  const Acc* row_factor;  // [count] the factors; or, if null,
  Norms<Acc> factor_of;   // the one of this matrix's norms
  Acc gradient;
  Acc* sum;  // [count, width], contiguous
};

template <class T>
Projection<T> projection_of(const MatrixRef& m, const Norms<accumulator_t<T>>& norms, accumulator_t<T> gradient,
                            accumulator_t<T>* sum) {
  return {static_cast<const T*>(m.data), m.row_stride, m.rows, norms, nullptr, {}, gradient, sum};
}

// loss = weight * the sum of `rows`; nothing if `loss` is null.
template <class Acc>
struct MeanLoss {
  Acc* rows;  // [count]
  int64_t count;
  Acc weight;
  Acc* loss;
};

template <class T>
struct ProjectArgs {
  Projection<T> sets[2];
  MeanLoss<accumulator_t<T>> mean;
  int64_t width;
};

template <class Acc>
__device__ __forceinline__ void block_mean(const MeanLoss<Acc>& mean) {
  Acc sum = 0;
  for (int64_t i = threadIdx.x; i < mean.count; i += blockDim.x) {
    sum += mean.rows[i];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) {
    *mean.loss = sum * mean.weight;
  }
}

// A warp per row of both sets, and before them a block for the loss, if it is wanted: alone it would take longest.
template <class T, int kPack>
__global__ void __launch_bounds__(kRowThreads) project_kernel(const __grid_constant__ ProjectArgs<T> args) {
  using Acc = accumulator_t<T>;
  const int64_t rows = args.sets[0].count + args.sets[1].count;
  const bool has_mean = args.mean.loss != nullptr;
  if (has_mean && blockIdx.x == 0) {
    block_mean(args.mean);
    return;
  }
  int64_t row = static_cast<int64_t>(blockIdx.x - (has_mean ? 1 : 0)) * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= rows) {
    return;
  }
  const int set = row >= args.sets[0].count ? 1 : 0;
  row -= set == 1 ? args.sets[0].count : 0;
  const Projection<T>& of = args.sets[set];
  const T* x = of.rows + row * of.stride;
  Acc* sum = of.sum + row * args.width;
  const Acc power = of.norms.power[row];
  const Acc inverse = power == Acc(0) ? Acc(0) : of.norms.inverse[row] / power;
  Acc along = 0;
  for (int64_t k = threadIdx.x % kWarp * kPack; k < args.width; k += kWarp * kPack) {
    const Pack<T, kPack> xs = *reinterpret_cast<const Pack<T, kPack>*>(x + k);
    const Pack<Acc, kPack> sums = *reinterpret_cast<const Pack<Acc, kPack>*>(sum + k);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      along += device_load(xs.values[i]) * power * inverse * sums.values[i];
    }
  }
  along = warp_sum(along) * inverse;
  const Acc factor = !kHasFactors<T>            ? Acc(1)
                     : of.row_factor != nullptr ? of.row_factor[row]
                                                : factor_of<T>(of.factor_of);
  const Acc share = of.gradient / factor;
  for (int64_t k = threadIdx.x % kWarp * kPack; k < args.width; k += kWarp * kPack) {
    const Pack<T, kPack> xs = *reinterpret_cast<const Pack<T, kPack>*>(x + k);
    Pack<Acc, kPack> sums = *reinterpret_cast<const Pack<Acc, kPack>*>(sum + k);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      sums.values[i] = (sums.values[i] - device_load(xs.values[i]) * power * along) * share * of.norms.inverse[row];
    }
    *reinterpret_cast<Pack<Acc, kPack>*>(sum + k) = sums;
  }
}

template <class T>
void launch_project(const ProjectArgs<T>& args, cudaStream_t stream) {
  constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));
  bool packs = true;
  for (const Projection<T>& of : args.sets) {
    packs = packs && (of.count == 0 || (can_pack<kPack>(of.rows, of.stride, args.width) &&
                                        can_pack<kPack>(of.sum, args.width, args.width)));
  }
  const unsigned blocks =
      blocks_for(args.sets[0].count + args.sets[1].count, kRowsPerBlock) + (args.mean.loss != nullptr ? 1 : 0);
  if (blocks > 0) {
    launch(packs ? project_kernel<T, kPack> : project_kernel<T, 1>, blocks, kRowThreads, stream, args);
  }
}

}  // namespace cuda
}  // namespace segp
