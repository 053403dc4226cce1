// Conversions of half types: every half value, and every kind of rounding.
#include <cmath>
#include <cstdint>
#include <limits>

#include "check.h"
#include "segp/half.h"

namespace {

using segp::BFloat16;
using segp::Half;
using segp::load_value;
using segp::Store;

// The value of half bits from their definition.
double half_by_definition(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  const double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
  if (exponent == 31) {
    return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  }
  return exponent == 0 ? sign * std::ldexp(fraction, -24) : sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST_CASE(every_half_loads_as_defined_and_survives_the_way_back) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const Half half{static_cast<uint16_t>(bits)};
    const double wanted = half_by_definition(half.bits);
    const float value = load_value(half);
    if (std::isnan(wanted)) {
      CHECK(std::isnan(value));
      CHECK(std::isnan(load_value(Store<Half>::from(value))));
    } else {
      CHECK(value == wanted && std::signbit(value) == std::signbit(wanted));
      CHECK(Store<Half>::from(value).bits == half.bits);
    }
  }
}

TEST_CASE(every_bfloat16_survives_the_way_back) {
  for (uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const BFloat16 stored{static_cast<uint16_t>(bits)};
    const float value = load_value(stored);
    if (std::isnan(value)) {
      CHECK(std::isnan(load_value(Store<BFloat16>::from(value))));
    } else {
      CHECK(Store<BFloat16>::from(value).bits == stored.bits);
    }
  }
}

// Between two neighbours: below the middle goes down, above goes up, the middle goes to the even one.
template <class T>
void check_rounding(uint32_t from, uint32_t to) {
  for (uint32_t bits = from; bits < to; ++bits) {
    const float low = load_value(T{static_cast<uint16_t>(bits)});
    const float high = load_value(T{static_cast<uint16_t>(bits + 1)});
    const float middle = static_cast<float>((static_cast<double>(low) + high) / 2);
    const uint16_t even = static_cast<uint16_t>(bits % 2 == 0 ? bits : bits + 1);
    CHECK(Store<T>::from(middle).bits == even);
    CHECK(Store<T>::from(-middle).bits == (even | 0x8000));
    CHECK(Store<T>::from(std::nextafter(middle, low)).bits == bits);
    CHECK(Store<T>::from(std::nextafter(middle, high)).bits == bits + 1);
  }
}

TEST_CASE(half_rounds_to_nearest_even) { check_rounding<Half>(0, 0x7bff); }
TEST_CASE(bfloat16_rounds_to_nearest_even) { check_rounding<BFloat16>(0x0080, 0x7f7e); }

TEST_CASE(what_is_too_large_becomes_infinite) {
  CHECK(Store<Half>::from(65519.0f).bits == 0x7bff);
  CHECK(Store<Half>::from(65520.0f).bits == 0x7c00);
  CHECK(Store<Half>::from(-1e30f).bits == 0xfc00);
  CHECK(Store<BFloat16>::from(std::numeric_limits<float>::max()).bits == 0x7f80);
}

}  // namespace
