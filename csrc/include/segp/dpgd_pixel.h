// The arithmetic of one pixel, shared by both twins so that they agree to the last bit, and the preparation of
// the bounds, which happens once per call on the host.
#pragma once

#include <cmath>
#include <limits>

#include "segp/dpgd.h"
#include "segp/half.h"
#include "segp/host_device.h"

namespace segp {

// Of one channel. A device reads it in accesses of 16 bytes.
template <class Acc>
struct alignas(16) Bounds {
  Acc step_size;
  Acc epsilon;
  Acc lower;
  Acc upper;
};

// Acc: float or double. Grad: the type in which grad's sign is read.
template <class Acc, class Grad>
SEGP_HOST_DEVICE Acc dpgd_pixel(Acc x, Grad grad, Acc seed, const Bounds<Acc>& bounds) {
  // Two selects instead of a product with sign(grad): no branch, and a NaN gradient fails both comparisons.
  const Acc down = grad > Grad(0) ? bounds.step_size : Acc(0);
  const Acc up = grad < Grad(0) ? bounds.step_size : Acc(0);
  Acc y = x - down + up;
  const Acc nearest = seed - bounds.epsilon;
  const Acc farthest = seed + bounds.epsilon;
  // Written so that a NaN in y survives: every comparison with it is false.
  y = y < nearest ? nearest : y;
  y = y > farthest ? farthest : y;
  y = y < bounds.lower ? bounds.lower : y;
  y = y > bounds.upper ? bounds.upper : y;
  return seed == seed ? y : seed;
}

// The neighbour of a value in its own storage type.
inline float next_up(float value) { return std::nextafter(value, std::numeric_limits<float>::infinity()); }
inline float next_down(float value) { return std::nextafter(value, -std::numeric_limits<float>::infinity()); }

template <class T>
T next_half(T value, bool up) {
  const bool negative = (value.bits & 0x8000u) != 0;
  if ((value.bits & 0x7fffu) == 0) {
    return T{static_cast<uint16_t>(up ? 0x0001u : 0x8001u)};
  }
  return T{static_cast<uint16_t>(negative == up ? value.bits - 1 : value.bits + 1)};
}
inline Half next_up(Half value) { return next_half(value, true); }
inline Half next_down(Half value) { return next_half(value, false); }
inline BFloat16 next_up(BFloat16 value) { return next_half(value, true); }
inline BFloat16 next_down(BFloat16 value) { return next_half(value, false); }

// The pixel range that T can hold: the smallest value >= lower, the largest <= upper.
template <class T>
struct PixelRange {
  using Acc = accumulator_t<T>;
  Acc lower;
  Acc upper;

  static PixelRange inside(double lower, double upper) {
    T low = Store<T>::from(static_cast<Acc>(lower));
    T high = Store<T>::from(static_cast<Acc>(upper));
    const Acc nearest = load_value(low);
    while (static_cast<double>(load_value(low)) < lower) {
      low = next_up(low);
    }
    while (static_cast<double>(load_value(high)) > upper) {
      high = next_down(high);
    }
    PixelRange range{load_value(low), load_value(high)};
    if (range.lower > range.upper) {
      range = {nearest, nearest};
    }
    return range;
  }
};

template <>
inline PixelRange<double> PixelRange<double>::inside(double lower, double upper) {
  return {lower, upper};
}

// The bounds of a channel for values of type T.
template <class T>
Bounds<accumulator_t<T>> bounds_of(const DpgdParams& params, int64_t channel) {
  using Acc = accumulator_t<T>;
  const auto range = PixelRange<T>::inside(params.lower.at(channel), params.upper.at(channel));
  return {static_cast<Acc>(params.step_size.at(channel)), static_cast<Acc>(params.epsilon.at(channel)), range.lower,
          range.upper};
}

// Whether channels may have different bounds.
inline bool has_bounds_per_channel(const DpgdParams& params) {
  return params.step_size.count > 1 || params.epsilon.count > 1 || params.lower.count > 1 || params.upper.count > 1;
}

}  // namespace segp
