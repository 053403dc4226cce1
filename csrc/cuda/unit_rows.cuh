// Rows as unit vectors on the device: their norms, cosines from products, and the way of a gradient through a normalisation.
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

// What turns a row into its unit vector: x -> x * power * inverse. The power of two brings a norm whose square would vanish or
// overflow into range. inverse is 0 for a zero row, and NaN for a row that is not finite.
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

  Norms from(int64_t row) const { return {inverse + row, power + row, scale + row, unusual}; }
};

template <class Acc>
Norms<Acc> take_norms(Workspace& workspace, int64_t rows, int* unusual) {
  return {workspace.take<Acc>(rows), workspace.take<Acc>(rows), workspace.take<Acc>(rows), unusual};
}

// A warp per row.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    norms_kernel(const T* rows, int64_t row_stride, int64_t count, int64_t width, const Norms<accumulator_t<T>> norms) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= count) {
    return;
  }
  const UnitScale<Acc> unit = or_zero(unit_scale<1>(rows + row * row_stride, width));
  if (threadIdx.x % kWarp == 0) {
    const Acc inverse = unit.inverse * unit.power;
    norms.inverse[row] = inverse;
    norms.power[row] = unit.power;
    norms.scale[row] = unit.power == Acc(1) ? inverse : Acc(1);
    if (unit.power != Acc(1)) {
      atomicOr(norms.unusual, 1);
    }
  }
}

template <class T>
void launch_norms(const MatrixRef& m, const Norms<accumulator_t<T>>& norms, cudaStream_t stream) {
  if (m.rows > 0) {
    launch(norms_kernel<T>, blocks_for(m.rows, kRowsPerBlock), kRowThreads, stream, static_cast<const T*>(m.data),
           m.row_stride, m.rows, m.cols, norms);
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

  // Makes those products of one row with `count` others again whose norms are so extreme that digits may have been lost. All
  // threads of a block must call it, before one reads a product.
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

  // The cosine, from the product.
  __device__ __forceinline__ Acc at(Acc product, int64_t row, int64_t other) const {
    return product * (row_norms.scale[row] * other_norms.scale[other]);
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

// Weights w / |row| with |w| <= 1 that are stored in half precision are multiplied by a power of two, so that they fill its
// range. No other type needs that.
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

template <class T>
__device__ __forceinline__ accumulator_t<T> factor_at(const accumulator_t<T>* factors, int64_t i) {
  if constexpr (kHasFactors<T>) {
    return factors[i];
  } else {
    return accumulator_t<T>(1);
  }
}

// *factor = factor_for the inverse norms of a matrix. One block.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    choose_factor_kernel(const accumulator_t<T>* inverse, int64_t count, accumulator_t<T>* factor) {
  using Acc = accumulator_t<T>;
  Acc most = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) {
    most = inverse[i] > most ? inverse[i] : most;
  }
  most = block_max(most);
  if (threadIdx.x == 0) {
    *factor = factor_for<T>(most);
  }
}

template <class T>
void launch_choose_factor(const accumulator_t<T>* inverse, int64_t count, accumulator_t<T>* factor,
                          cudaStream_t stream) {
  if constexpr (kHasFactors<T>) {
    launch(choose_factor_kernel<T>, 1, kRowThreads, stream, inverse, count, factor);
  }
}

// sum[i] -> (sum[i] - unit_i (unit_i . sum[i])) / |row i| * gradient / factor[i * factor_stride]: from sums of the other
// side's unit vectors, scaled by the factor, to the gradient with respect to row i. `sum` is contiguous. A warp per row.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    project_kernel(const T* rows, int64_t row_stride, int64_t count, int64_t width, const Norms<accumulator_t<T>> norms,
                   const accumulator_t<T>* factor, int64_t factor_stride, accumulator_t<T> gradient,
                   accumulator_t<T>* sum) {
  using Acc = accumulator_t<T>;
  const int64_t row = blockIdx.x * kRowsPerBlock + threadIdx.x / kWarp;
  if (row >= count) {
    return;
  }
  const T* x = rows + row * row_stride;
  Acc* s = sum + row * width;
  const Acc power = norms.power[row];
  const Acc inverse = power == Acc(0) ? Acc(0) : norms.inverse[row] / power;
  Acc along = 0;
  for (int64_t k = threadIdx.x % kWarp; k < width; k += kWarp) {
    along += device_load(x[k]) * power * inverse * s[k];
  }
  along = warp_sum(along) * inverse;
  const Acc share = gradient / factor_at<T>(factor, row * factor_stride);
  for (int64_t k = threadIdx.x % kWarp; k < width; k += kWarp) {
    s[k] = (s[k] - device_load(x[k]) * power * along) * share * norms.inverse[row];
  }
}

template <class T>
void launch_project(const MatrixRef& m, const Norms<accumulator_t<T>>& norms, const accumulator_t<T>* factor,
                    int64_t factor_stride, accumulator_t<T> gradient, accumulator_t<T>* sum, cudaStream_t stream) {
  if (m.rows > 0) {
    launch(project_kernel<T>, blocks_for(m.rows, kRowsPerBlock), kRowThreads, stream, static_cast<const T*>(m.data),
           m.row_stride, m.rows, m.cols, norms, factor, factor_stride, gradient, sum);
  }
}

}  // namespace cuda
}  // namespace segp
