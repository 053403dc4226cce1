// CUDA's bfloat16 intrinsics that the kernels use, by the host's conversions.
#pragma once

#include "segp/half.h"

struct __nv_bfloat16 {
  unsigned short bits;
};

inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline float __bfloat162float(__nv_bfloat16 value) { return segp::load_value(segp::BFloat16{value.bits}); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {segp::Store<segp::BFloat16>::from(value).bits}; }
