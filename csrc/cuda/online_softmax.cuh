// The state of a softmax over values that come one by one, or in parts that are merged.
#pragma once

#include <cmath>

#include "reduce.cuh"

namespace segp {
namespace cuda {

// sum over the values v so far of exp(v - most), and of exp(v - most) * weight.
template <class T>
struct OnlineSoftmax {
  T most;
  T sum;
  T weighted;

  __device__ __forceinline__ static OnlineSoftmax empty() { return {-INFINITY, T(0), T(0)}; }

  __device__ __forceinline__ void add(T value, T weight) {
    if (value > most) {
      const T shrink = exp(most - value);
      sum *= shrink;
      weighted *= shrink;
      most = value;
    }
    const T term = exp(value - most);  // NaN for NaN, also as long as nothing finite has come
    sum += term;
    weighted += term * weight;
  }

  __device__ __forceinline__ void merge(const OnlineSoftmax& other) {
    const T high = other.most > most ? other.most : most;
    // An empty side has nothing to shrink, and -inf - -inf is no number.
    const T mine = most == high ? T(1) : exp(most - high);
    const T theirs = other.most == high ? T(1) : exp(other.most - high);
    sum = sum * mine + other.sum * theirs;
    weighted = weighted * mine + other.weighted * theirs;
    most = high;
  }
};

// The states of all threads of a block in one, in every thread. All threads must call it.
template <class T>
__device__ __forceinline__ OnlineSoftmax<T> block_merge(OnlineSoftmax<T> state) {
  __shared__ T most[kMostWarps];
  __shared__ T sum[kMostWarps];
  __shared__ T weighted[kMostWarps];
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    state.merge({__shfl_xor_sync(0xffffffffu, state.most, offset), __shfl_xor_sync(0xffffffffu, state.sum, offset),
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
  OnlineSoftmax<T> whole{most[0], sum[0], weighted[0]};
  for (unsigned w = 1; w < blockDim.x / kWarp; ++w) {
    whole.merge({most[w], sum[w], weighted[w]});
  }
  return whole;
}

}  // namespace cuda
}  // namespace segp
