// CUDA's half-precision intrinsics that the kernels use, by the host's conversions.
#pragma once

#include "segp/half.h"

struct __half {
  unsigned short bits;
};

inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline float __half2float(__half value) { return segp::load_value(segp::Half{value.bits}); }
inline __half __float2half_rn(float value) { return {segp::Store<segp::Half>::from(value).bits}; }
