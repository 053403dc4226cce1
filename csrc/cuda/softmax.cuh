// The state of a softmax over values that come one by one, or in parts that are merged.
#pragma once

#include <cmath>

#include "reduce.cuh"
#include "rounded.cuh"

namespace segp {
namespace cuda {

// Values are sharpness * cosine, and powers of two take the place of those of e: a value is multiplied by log2(e)
// beforehand.
constexpr double kLog2E = 1.4426950408889634;
constexpr double kLn2 = 0.6931471805599453;

// Up to this sharpness no value lies so far below the largest possible one, the sharpness itself, that its power
// vanishes: e^-80 is a normal number. So the bound takes the place of the largest value, and nothing is ever rescaled.
// Not for a single value, whose softmax is exactly 1 only relative to itself.
inline bool is_bounded(double sharpness, int64_t values) { return sharpness <= 40 && values > 1; }

// 2^x for x within the bound: no check for what would vanish.
__device__ __forceinline__ double power_within(double x) { return exp2(x); }
__device__ __forceinline__ float power_within(float x) {
#if defined(__CUDACC__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#else
  return exp2(x);
#endif
}

// The sum over the values v so far of 2^(v - most), and of 2^(v - most) * weight. `most` is the largest v or, if
// kBounded, a number that no v exceeds. Values are products scale * x.
template <class T, bool kBounded>
struct Softmax {
  T most;
  T sum;
  T weighted;

  __device__ __forceinline__ static Softmax empty(T bound) { return {kBounded ? bound : T(-INFINITY), T(0), T(0)}; }

  // v - most. Of the largest value it is exactly 0, unless there is a bound.
  __device__ __forceinline__ T below(T scale, T x) const {
    return kBounded ? scale * x - most : rounded_product(scale, x) - most;
  }

  // 2^(v - most).
  __device__ __forceinline__ T term(T below) const { return kBounded ? power_within(below) : exp2(below); }

  // Takes a value, and returns its term.
  __device__ __forceinline__ T add(T scale, T x) {
    if constexpr (!kBounded) {
      const T value = rounded_product(scale, x);
      if (value > most) {
        const T shrink = exp2(most - value);
        sum *= shrink;
        weighted *= shrink;
        most = value;
      }
    }
    const T added = term(below(scale, x));  // NaN for NaN, also as long as nothing finite has come
    sum += added;
    return added;
  }

  __device__ __forceinline__ void add(T scale, T x, T weight) { weighted += add(scale, x) * weight; }

  __device__ __forceinline__ void merge(const Softmax& other) {
    if constexpr (kBounded) {
      sum += other.sum;
      weighted += other.weighted;
    } else {
      const T high = other.most > most ? other.most : most;
      // An empty side has nothing to shrink, and -inf - -inf is no number.
      const T mine = most == high ? T(1) : exp2(most - high);
      const T theirs = other.most == high ? T(1) : exp2(other.most - high);
      sum = sum * mine + other.sum * theirs;
      weighted = weighted * mine + other.weighted * theirs;
      most = high;
    }
  }
};

// The states of all threads of a block in one, in every thread. All threads must call it.
template <class T, bool kBounded>
__device__ __forceinline__ Softmax<T, kBounded> block_merge(Softmax<T, kBounded> state) {
  __shared__ T most[kMostWarps];
  __shared__ T sum[kMostWarps];
  __shared__ T weighted[kMostWarps];
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const T other_most = kBounded ? state.most : __shfl_xor_sync(0xffffffffu, state.most, offset);
    state.merge({other_most, __shfl_xor_sync(0xffffffffu, state.sum, offset),
                 __shfl_xor_sync(0xffffffffu, state.weighted, offset)});
  }
  __syncthreads();  // the arrays may still be read from an earlier call
  if (threadIdx.x % kWarp == 0) {
    const unsigned warp = threadIdx.x / kWarp;
    most[warp] = state.most;
    sum[warp] = state.sum;
    weighted[warp] = state.weighted;
  }
  __syncthreads();
  Softmax<T, kBounded> whole{most[0], sum[0], weighted[0]};
  for (unsigned w = 1; w < blockDim.x / kWarp; ++w) {
    whole.merge({most[w], sum[w], weighted[w]});
  }
  return whole;
}

}  // namespace cuda
}  // namespace segp
