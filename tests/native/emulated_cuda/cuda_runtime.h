// Just enough of CUDA to run this project's kernels on the processor: a context of its own for every thread of a block,
// all on one thread of the processor, one block after the other. It shows that the kernels compute what they should,
// reductions and barriers included, and with sanitizers that their accesses are in bounds, aligned, and within a block
// ordered by barriers. It aborts where threads wait at different barriers, or shuffle with lanes that have returned. It
// cannot show anything about speed, or races between blocks.
#pragma once

#include <math.h>  // and not <cmath>, which alone would compute exp2 and the like of floats in double

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <set>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError();
inline const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaSuccess ? "no error" : "an error made for a test";
}
cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t stream);

namespace emulated_cuda {

constexpr unsigned kWarp = 32;

struct Index {
  unsigned x = 0;
};

// Where a barrier stands in the source.
struct Site {
  const char* file = nullptr;
  int line = 0;
};

// Runs the body for every thread. `kernel` is remembered: at its end the process writes the addresses of all that were
// launched, a line each, to the file that the environment variable EMULATED_CUDA_LAUNCHED names. With
// EMULATED_CUDA_ORDER=backward the last block comes first: nothing may depend on the order.
void launch(const void* kernel, unsigned blocks, unsigned threads, cudaStream_t stream,
            const std::function<void()>& body);

// For tests: the streams of all launches and memsets since the last call, each once, and the status of the next
// cudaGetLastError. That of the first can be given in EMULATED_CUDA_STATUS.
std::set<cudaStream_t> streams_used();
void fail_next(cudaError_t status);

// What counts as small (csrc/cuda/small_rows.cuh): the environment variable EMULATED_CUDA_SMALL_WORK, or what the
// device takes.
int64_t small_work();

// A part of a workspace: with the address sanitizer, nothing may touch what lies between its end and the next one.
void take_part(void* begin, void* end, void* next);

// All threads of the block, or of the calling thread's warp, that have not returned yet.
void meet_block(Site site);
void meet_warp(Site site);
unsigned char* slot(unsigned lane);  // 16 bytes of each lane of the thread's warp, until it meets again

}  // namespace emulated_cuda

inline emulated_cuda::Index threadIdx, blockIdx, blockDim, gridDim;  // of the thread that runs at the moment

#define __syncthreads() emulated_cuda::meet_block({__FILE__, __LINE__})
#define __shfl_xor_sync(lanes, value, mask) emulated_cuda::shuffle({__FILE__, __LINE__}, value, mask)

inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
inline int atomicMax(int* place, int value) {
  int before = __atomic_load_n(place, __ATOMIC_RELAXED);
  while (before < value &&
         !__atomic_compare_exchange_n(place, &before, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return before;
}
inline int atomicOr(int* place, int bits) { return __atomic_fetch_or(place, bits, __ATOMIC_RELAXED); }

namespace emulated_cuda {

template <class T>
T shuffle(Site site, T value, int mask) {
  static_assert(sizeof(T) <= 16, "a slot holds 16 bytes");
  const unsigned lane = threadIdx.x % emulated_cuda::kWarp;
  const unsigned char* others = emulated_cuda::slot(lane ^ static_cast<unsigned>(mask));
  std::memcpy(emulated_cuda::slot(lane), &value, sizeof(T));
  emulated_cuda::meet_warp(site);
  T other;
  std::memcpy(&other, others, sizeof(T));
  return other;
}

}  // namespace emulated_cuda
