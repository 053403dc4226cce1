// What turns a row of a matrix into its unit vector, on the device.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <limits>

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

// Whether all rows of a matrix can be read in packs.
template <int kPack, class T>
bool can_pack(const T* rows, int64_t stride, int64_t width) {
  return width % kPack == 0 && stride % kPack == 0 && is_aligned_for_pack<T, kPack>(rows);
}

template <int kPack, class T>
bool can_pack(const MatrixRef& m) {
  return m.rows == 0 || can_pack<kPack>(static_cast<const T*>(m.data), m.rows > 1 ? m.row_stride : 0, m.cols);
}

}  // namespace cuda
}  // namespace segp
