// Sums over a warp and over a block, and maxima over a warp. The order of the additions is fixed: results are the same
// from run to run.
#pragma once

#include <cuda_runtime.h>

namespace segp {
namespace cuda {

constexpr int kWarp = 32;
constexpr int kMostWarps = 32;  // 1024 threads

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  }
  return value;
}

template <class T>
__device__ __forceinline__ T warp_max(T value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const T other = __shfl_xor_sync(0xffffffffu, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

// The same in every thread of the block, which must be a multiple of a warp. All threads must call it.
template <class T>
__device__ __forceinline__ T block_sum(T value) {
  __shared__ T partial[kMostWarps];
  value = warp_sum(value);
  __syncthreads();  // the array may still be read from an earlier call
  if (threadIdx.x % kWarp == 0) {
    partial[threadIdx.x / kWarp] = value;
  }
  __syncthreads();
  T sum = T(0);
  for (unsigned w = 0; w < blockDim.x / kWarp; ++w) {
    sum += partial[w];
  }
  return sum;
}

// Threads for a row of so many elements, at four elements a thread and step. A wide row has many of them, so that there
// are enough accesses to memory on their way although few rows go through at a time.
constexpr int kWideThreads = 512;

inline unsigned threads_for_row(int64_t elements) {
  unsigned threads = kWarp;
  while (threads < kWideThreads && static_cast<int64_t>(threads) * 8 < elements) {
    threads *= 2;
  }
  return threads;
}

}  // namespace cuda
}  // namespace segp
