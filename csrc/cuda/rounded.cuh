// Products that are rounded before anything else is done to them.
//
// Compilers for the device turn a * b - c into one rounding. That is more exact, and wrong where the same product was
// compared with or rounded into c before: a number less itself is then no zero.
#pragma once

#include <cuda_runtime.h>

namespace segp {
namespace cuda {

template <class T>
__device__ __forceinline__ T rounded_product(T a, T b) {
#if !defined(__CUDACC__)
  return __builtin_assoc_barrier(a * b);
#else
  if constexpr (sizeof(T) == sizeof(double)) {
    return __dmul_rn(a, b);
  } else {
    return __fmul_rn(a, b);
  }
#endif
}

}  // namespace cuda
}  // namespace segp
