// Host conversions between half-precision bits and float.
//
// They use integer and float operations without branches, so that a loop over them vectorises on any
// instruction set. Float to half rounds to nearest, ties to even; NaN stays NaN, values past the range become
// infinite, subnormal halves are exact (unless the caller has switched subnormals off in the CPU).
#pragma once

#include <cstdint>
#include <cstring>

#include "segp/dtype.h"
#include "segp/host_device.h"

namespace segp {

SEGP_ALWAYS_INLINE float float_from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

SEGP_ALWAYS_INLINE uint32_t bits_from_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

SEGP_ALWAYS_INLINE float load_value(float value) { return value; }
SEGP_ALWAYS_INLINE double load_value(double value) { return value; }

SEGP_ALWAYS_INLINE float load_value(BFloat16 value) { return float_from_bits(static_cast<uint32_t>(value.bits) << 16); }

SEGP_ALWAYS_INLINE float load_value(Half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  // Shifted into float's place the exponent is too small by 127 - 15; multiplying by 2^112 mends it, and
  // turns subnormal halves into normal floats on the way.
  const float scaled = float_from_bits(magnitude << 13) * float_from_bits(0x77800000u);
  const uint32_t special = 0x7f800000u | (magnitude << 13);  // infinities and NaN keep their payload
  const uint32_t bits = magnitude >= 0x7c00u ? special : bits_from_float(scaled);
  return float_from_bits(sign | bits);
}

template <class T>
struct Store;

template <>
struct Store<float> {
  SEGP_ALWAYS_INLINE static float from(float value) { return value; }
};

template <>
struct Store<double> {
  SEGP_ALWAYS_INLINE static double from(double value) { return value; }
};

template <>
struct Store<BFloat16> {
  SEGP_ALWAYS_INLINE static BFloat16 from(float value) {
    const uint32_t bits = bits_from_float(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t quiet_nan = (bits >> 16) | 0x40u;
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return BFloat16{static_cast<uint16_t>(is_nan ? quiet_nan : rounded)};
  }
};

template <>
struct Store<Half> {
  SEGP_ALWAYS_INLINE static Half from(float value) {
    const uint32_t bits = bits_from_float(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    // Normal result: rebias the exponent, then let the carry of the rounding run into it.
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Subnormal result: adding 0.5 puts the half's last place on the float's, and the addition rounds.
    const float shifted = float_from_bits(magnitude) + 0.5f;
    const uint32_t subnormal = bits_from_float(shifted) - 0x3f000000u;
    const uint32_t overflow = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;  // NaN or infinity
    uint32_t result = magnitude < 0x38800000u ? subnormal : normal;         // below 2^-14
    result = magnitude >= 0x47800000u ? overflow : result;                  // 2^16 and beyond
    return Half{static_cast<uint16_t>(sign | result)};
  }
};

}  // namespace segp
