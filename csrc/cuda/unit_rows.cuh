// Rows as unit vectors on the device: their norms, cosines from products, and the way of a gradient through a
// normalisation.
//
// The products are those of the rows as they are; their norms come in afterwards.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "launch.cuh"
#include "matrix_rows.cuh"
#include "reduce.cuh"
#include "segp/matrix.h"
#include "vec_io.cuh"

namespace segp {
namespace cuda {

// What turns a row into its unit vector: x -> x * power * inverse. The power of two brings a norm whose square would
// vanish or overflow into range. inverse is 0 for a zero row, and NaN for a row that is not finite.
template <class Acc>
struct UnitScale {
  Acc power;
  Acc inverse;
};

// Within this range squares neither overflow nor lose digits to subnormal numbers. Not for NaN.
template <class Acc>
__device__ __forceinline__ bool is_usual_square(Acc square) {
  return square >= Acc(0x1p-80) && square <= Acc(0x1p80);
}

template <class Acc>
__device__ __forceinline__ Acc inverse_root(Acc square) {
  return static_cast<Acc>(Acc(1) / sqrt(square));
}

// That of a row, all threads of a warp calling.
template <int kPack, class S>
__device__ __forceinline__ UnitScale<accumulator_t<S>> unit_scale(const S* row, int64_t width) {
  using Acc = accumulator_t<S>;
  Acc power = 1;
  for (int attempt = 0;; ++attempt) {
    Acc square = 0;
    Acc most = 0;
    for (int64_t k = threadIdx.x % kWarp * kPack; k < width; k += kWarp * kPack) {
      const Pack<S, kPack> xs = *reinterpret_cast<const Pack<S, kPack>*>(row + k);
#pragma unroll
      for (int i = 0; i < kPack; ++i) {
        const Acc x = device_load(xs.values[i]) * power;
        square += x * x;
        most = fabs(x) > most ? fabs(x) : most;
      }
    }
    square = warp_sum(square);
    if (is_usual_square(square) || attempt == 1) {
      return {power, inverse_root(square)};
    }
    most = warp_max(most);
    if (square != square || most - most != Acc(0)) {  // infinity less itself is NaN
      return {Acc(1), Acc(NAN)};
    }
    if (most == Acc(0)) {
      return {Acc(1), Acc(0)};
    }
    int exponent = 0;
    frexp(most, &exponent);
    constexpr int kMostExponent = std::numeric_limits<Acc>::max_exponent - 2;  // so that the power is a normal number
    exponent = exponent < -kMostExponent ? -kMostExponent : exponent > kMostExponent ? kMostExponent : exponent;
    power = static_cast<Acc>(ldexp(Acc(1), -exponent));
  }
}

// As it is, or {0, 0}, as for a zero row: where the inverse norm is no normal number.
template <class Acc>
__device__ __forceinline__ UnitScale<Acc> or_zero(const UnitScale<Acc>& scale) {
  constexpr Acc kLeast = static_cast<Acc>(sizeof(Acc) == sizeof(double) ? 0x1p-1022 : 0x1p-126);
  const Acc inverse = scale.inverse * scale.power;
  const bool is_outside = inverse != Acc(0) && (inverse < kLeast || inverse > 1 / kLeast);  // not so for NaN
  return is_outside ? UnitScale<Acc>{Acc(0), Acc(0)} : scale;
}

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

// Whether all rows of a matrix can be read in packs.
template <int kPack, class T>
bool can_pack(const T* rows, int64_t stride, int64_t width) {
  return width % kPack == 0 && stride % kPack == 0 && is_aligned_for_pack<T, kPack>(rows);
}

template <int kPack, class T>
bool can_pack(const MatrixRef& m) {
  return m.rows == 0 || can_pack<kPack>(static_cast<const T*>(m.data), m.rows > 1 ? m.row_stride : 0, m.cols);
}

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

// What turns products of rows of two matrices into cosines.
template <class T>
struct Cosines {
  using Acc = accumulator_t<T>;
  const T* rows;  // of the one matrix
  int64_t rows_stride;
  Norms<Acc> row_norms;
  const T* others;
  int64_t others_stride;
  Norms<Acc> other_norms;
  int64_t width;

  // Makes those products of one row with `count` others again whose norms are so extreme that digits may have been
  // lost. All threads of a block must call it, before one reads a product.
  __device__ __forceinline__ void repair(Acc* products, int64_t row, int64_t count) const {
    if (*row_norms.unusual == 0) {
      return;
    }
    for (int64_t other = threadIdx.x; other < count; other += blockDim.x) {
      if (row_norms.power[row] != Acc(1) || other_norms.power[other] != Acc(1)) {
        const Acc cosine = again(row, other);
        products[other] = cosine == Acc(0) ? Acc(0) : cosine / (row_norms.scale[row] * other_norms.scale[other]);
      }
    }
    __syncthreads();
  }

  // Four scales of `other_norms` at once, from a multiple of four on; behind the last there is room. A product times
  // its scale and row_norms.scale is the cosine.
  __device__ __forceinline__ Pack<Acc, 4> scales(int64_t first) const {
    return *reinterpret_cast<const Pack<Acc, 4>*>(other_norms.scale + first);
  }
  __device__ __forceinline__ Pack<Acc, 4> inverses(int64_t first) const {
    return *reinterpret_cast<const Pack<Acc, 4>*>(other_norms.inverse + first);
  }

 private:
  // The cosine of rows brought into range; a thread does that alone, and slowly.
  SEGP_COLD __device__ Acc again(int64_t row, int64_t other) const {
    const Acc row_inverse = row_norms.inverse[row];
    const Acc other_inverse = other_norms.inverse[other];
    if (row_inverse == Acc(0) || other_inverse == Acc(0)) {
      return row_inverse * other_inverse;  // NaN if the other row is not finite
    }
    const Acc row_power = row_norms.power[row];
    const Acc other_power = other_norms.power[other];
    const T* a = rows + row * rows_stride;
    const T* b = others + other * others_stride;
    Acc sum = 0;
    for (int64_t k = 0; k < width; ++k) {
      sum += device_load(a[k]) * row_power * (device_load(b[k]) * other_power);
    }
    return sum * (row_inverse / row_power) * (other_inverse / other_power);
  }
};

template <class T>
Cosines<T> cosines(const MatrixRef& rows, const Norms<accumulator_t<T>>& row_norms, const MatrixRef& others,
                   const Norms<accumulator_t<T>>& other_norms) {
  Cosines<T> result;
  result.rows = static_cast<const T*>(rows.data);
  result.rows_stride = rows.row_stride;
  result.row_norms = row_norms;
  result.others = static_cast<const T*>(others.data);
  result.others_stride = others.row_stride;
  result.other_norms = other_norms;
  result.width = rows.cols;
  return result;
}

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
