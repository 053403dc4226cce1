// Wide loads and stores, and the conversions between stored and computed values, on the device.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "segp/dtype.h"

namespace segp {
namespace cuda {

constexpr int kVectorBytes = 16;  // the widest access of one thread

__device__ __forceinline__ float device_load(float value) { return value; }
__device__ __forceinline__ double device_load(double value) { return value; }
__device__ __forceinline__ float device_load(Half value) { return __half2float(__ushort_as_half(value.bits)); }
__device__ __forceinline__ float device_load(BFloat16 value) {
  return __bfloat162float(__ushort_as_bfloat16(value.bits));
}

__device__ __forceinline__ void device_store(float& place, float value) { place = value; }
__device__ __forceinline__ void device_store(double& place, double value) { place = value; }
__device__ __forceinline__ void device_store(Half& place, float value) {
  place.bits = __half_as_ushort(__float2half_rn(value));
}
__device__ __forceinline__ void device_store(BFloat16& place, float value) {
  place.bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

// The alignment that lets a Pack<T, N> move in accesses as wide as the hardware has them.
template <class T, int N>
constexpr int pack_alignment() {
  return static_cast<int>(sizeof(T)) * N < kVectorBytes ? static_cast<int>(sizeof(T)) * N : kVectorBytes;
}

// N consecutive values; N a power of two. Reading or writing one is a single access up to 16 bytes, several
// 16-byte accesses beyond.
template <class T, int N>
struct alignas(pack_alignment<T, N>()) Pack {
  T values[N];
};

template <class T, int N>
bool is_aligned_for_pack(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % pack_alignment<T, N>() == 0;
}

}  // namespace cuda
}  // namespace segp
