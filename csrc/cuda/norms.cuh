// The norms of a matrix's rows, and the factors that keep the digits of weights which carry them in half precision.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "launch.cuh"
#include "matrix_rows.cuh"
#include "unit_rows.cuh"

namespace segp {
namespace cuda {

// What is kept of every row of a matrix.
template <class Acc>
struct Norms {
  Acc* inverse;  // 1 / |row|; 0 for a zero row and by or_zero, NaN for a row that is not finite
  Acc* power;    // that of its UnitScale: 1 for usual norms
  Acc* scale;    // what its products are multiplied by for cosines: the inverse norm, or 1 if they have been repaired
  int* unusual;  // whether any power is not 1, of this matrix or of one that it is multiplied with; 0 at first
  int* largest;  // the bits of the largest inverse norm as float, for weights in half precision; 0 at first; or null

  Norms from(int64_t row) const { return {inverse + row, power + row, scale + row, unusual, largest}; }
};

template <class Acc>
Norms<Acc> take_norms(Workspace& workspace, int64_t rows, int* unusual, int* largest) {
  return {workspace.take<Acc>(rows), workspace.take<Acc>(rows), workspace.take<Acc>(rows), unusual, largest};
}

// A matrix whose norms are wanted and, if `moved` is not null, the differences of another one from it.
template <class T>
struct NormsOf {
  const T* rows;
  int64_t stride;
  int64_t count;
  Norms<accumulator_t<T>> norms;
  const T* after;  // [count], rows after_stride apart
  int64_t after_stride;
  accumulator_t<T>* moved;  // [count, width], contiguous
};

template <class T>
NormsOf<T> norms_of(const MatrixRef& m, const Norms<accumulator_t<T>>& norms) {
  return {static_cast<const T*>(m.data), m.row_stride, m.rows, norms, nullptr, 0, nullptr};
}

// Weights w / |row| with |w| <= 1 that are stored in half precision are multiplied by a power of two, so that they fill
// its range. No other type needs that.
template <class T>
constexpr bool kHasFactors = std::is_same<T, Half>::value;

constexpr int kFactorRange = 16384;  // with room for a sum of two

// The power of two for weights of at most `most`.
template <class T>
__device__ __forceinline__ accumulator_t<T> factor_for(accumulator_t<T> most) {
  using Acc = accumulator_t<T>;
  if constexpr (kHasFactors<T>) {
    return most > Acc(0) ? exp2(floor(log2(Acc(kFactorRange) / most))) : Acc(1);
  } else {
    return Acc(1);
  }
}

// That for weights which carry the inverse norms of a matrix.
template <class T>
__device__ __forceinline__ accumulator_t<T> factor_of(const Norms<accumulator_t<T>>& norms) {
  if constexpr (kHasFactors<T>) {
    return factor_for<T>(__int_as_float(*norms.largest));
  } else {
    return accumulator_t<T>(1);
  }
}

constexpr int kMostSets = 4;

template <class T>
struct NormsArgs {
  NormsOf<T> sets[kMostSets];
  int64_t width;
};

// What other threads may be writing to.
__device__ __forceinline__ int read_relaxed(const int* place) {
#if defined(__CUDACC__)
  return *static_cast<const volatile int*>(place);
#else
  return __atomic_load_n(place, __ATOMIC_RELAXED);
#endif
}

// A warp per row of all sets, one after the other.
template <class T, int kPack>
__global__ void __launch_bounds__(kRowThreads) norms_kernel(const __grid_constant__ NormsArgs<T> args) {
  using Acc = accumulator_t<T>;
  int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  int set = 0;
  while (set < kMostSets && row >= args.sets[set].count) {
    row -= args.sets[set].count;
    ++set;
  }
  if (set == kMostSets) {
    return;
  }
  const NormsOf<T>& of = args.sets[set];
  const T* x = of.rows + row * of.stride;
  if (of.moved != nullptr) {
    const T* y = of.after + row * of.after_stride;
    for (int64_t k = threadIdx.x % kWarp * kPack; k < args.width; k += kWarp * kPack) {
      const Pack<T, kPack> xs = *reinterpret_cast<const Pack<T, kPack>*>(x + k);
      const Pack<T, kPack> ys = *reinterpret_cast<const Pack<T, kPack>*>(y + k);
      Pack<Acc, kPack> moved;
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        moved.values[i] = device_load(ys.values[i]) - device_load(xs.values[i]);
      }
      *reinterpret_cast<Pack<Acc, kPack>*>(of.moved + row * args.width + k) = moved;
    }
  }
  const UnitScale<Acc> unit = or_zero(unit_scale<kPack>(x, args.width));
  if (threadIdx.x % kWarp == 0) {
    const Acc inverse = unit.inverse * unit.power;
    of.norms.inverse[row] = inverse;
    of.norms.power[row] = unit.power;
    of.norms.scale[row] = unit.power == Acc(1) ? inverse : Acc(1);
    if (unit.power != Acc(1)) {
      atomicOr(of.norms.unusual, 1);
    }
    if constexpr (kHasFactors<T>) {
      // Numbers that are not negative have the order of their bits. Most rows see that they are not the largest.
      if (of.norms.largest != nullptr && inverse == inverse &&
          __float_as_int(inverse) > read_relaxed(of.norms.largest)) {
        atomicMax(of.norms.largest, __float_as_int(inverse));
      }
    }
  }
}

template <class T>
void launch_norms(const NormsArgs<T>& args, cudaStream_t stream) {
  constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));
  int64_t rows = 0;
  bool packs = true;
  for (const NormsOf<T>& of : args.sets) {
    rows += of.count;
    packs = packs && (of.count == 0 || can_pack<kPack>(of.rows, of.stride, args.width)) &&
            (of.moved == nullptr || can_pack<kPack>(of.after, of.after_stride, args.width));
  }
  if (rows > 0) {
    launch(packs ? norms_kernel<T, kPack> : norms_kernel<T, 1>, blocks_for(rows, kRowsPerBlock), kRowThreads, stream,
           args);
  }
}

}  // namespace cuda
}  // namespace segp
