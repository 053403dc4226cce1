// Products that are rounded before anything else is done to them.
//
// Compilers for the device turn a * b - c into one rounding. That is more exact, and wrong where the same product was compared with or
// rounded into c before: a number less itself is then no zero.
#pragma once

#include <cuda_runtime.h>

namespace segp {
namespace cuda {

__device__ __forceinline__ float rounded_product(float a, float b) {
#if defined(__CUDACC__)
  return __fmul_rn(a, b);
#else
  return __builtin_assoc_barrier(a * b);
#endif
}

__device__ __forceinline__ double rounded_product(double a, double b) {
#if defined(__CUDACC__)
  return __dmul_rn(a, b);
#else
  return __builtin_assoc_barrier(a * b);
#endif
}

}  // namespace cuda
}  // namespace segp
