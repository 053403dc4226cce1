// Sums, maxima and exponentials in loops that every compiler turns into vector code.
//
// A reduction runs in kLanes independent lanes which are combined at the end, always in the same order: the result
// depends neither on the instruction set nor on the number of threads.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "segp/half.h"
#include "segp/host_device.h"

namespace segp {
namespace cpu {

constexpr int kLanes = 16;

// exp(x) within 2 units in the last place for -87 < x < 88; 0 below, so that there are no subnormal results;
// NaN for NaN. Not for larger x.
SEGP_ALWAYS_INLINE float vector_exp(float x) {
  // x = n ln 2 + r. Adding 1.5 * 2^23 rounds to the nearest integer, which then stands in the low bits.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts: the first product is exact
  // exp(r) = 1 + r + r^2 q(r), q by least squares at Chebyshev points of |r| <= ln 2 / 2: relative error 1.1e-8.
  const float q = 0.5f + r * (0x1.5554dcp-3f + r * (0x1.5554e8p-5f + r * (0x1.120be8p-7f + r * 0x1.6d43b2p-10f)));
  const float power = float_from_bits((bits_from_float(shifted) << 23) + 0x3f800000u);
  const float result = (1.0f + (r + r * r * q)) * power;
  return x < -87.0f ? 0.0f : result;
}

SEGP_ALWAYS_INLINE double vector_exp(double x) { return std::exp(x); }

template <class Acc>
SEGP_ALWAYS_INLINE Acc combine_sum(Acc (&lane)[kLanes]) {
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int k = 0; k < width; ++k) {
      lane[k] += lane[k + width];
    }
  }
  return lane[0];
}

template <class Acc>
SEGP_ALWAYS_INLINE Acc combine_max(const Acc (&lane)[kLanes]) {
  Acc most = lane[0];
  for (int k = 1; k < kLanes; ++k) {
    most = lane[k] > most ? lane[k] : most;
  }
  return most;
}

// Calls body(i, lane) for i in [0, count); whole groups of kLanes first, so that their loop vectorises. `body` must
// be marked SEGP_INLINE_LAMBDA.
template <class Body>
SEGP_ALWAYS_INLINE void for_lanes(int64_t count, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) {
      body(i + k, k);
    }
  }
  for (int k = 0; i + k < count; ++k) {
    body(i + k, k);
  }
}

template <class T>
SEGP_ALWAYS_INLINE T dot(const T* a, const T* b, int64_t count) {
  T sum[kLanes] = {};
  for_lanes(count, [&](int64_t i, int k) SEGP_INLINE_LAMBDA { sum[k] += a[i] * b[i]; });
  return combine_sum(sum);
}

template <class T>
SEGP_ALWAYS_INLINE T largest_magnitude(const T* a, int64_t count) {  // NaN if there is one
  T most = T(0);
  for (int64_t i = 0; i < count; ++i) {
    const T size = std::fabs(a[i]);
    most = size > most || size != size ? size : most;
    if (most != most) {
      break;
    }
  }
  return most;
}

}  // namespace cpu
}  // namespace segp
