// What one class adds to KL(q || p) = sum_c q_c (log q_c - log p_c).
#pragma once

#include "segp/host_device.h"

namespace segp {

// q log(q / p) + p - q, with gap = log q - log p. The differences p - q sum to 0 over the classes; with them no term is
// negative, a term vanishes with the square of its gap, and so does what a rounded normalisation of p and q adds.
template <class T>
SEGP_HOST_DEVICE T divergence_term(T p, T q, T gap) {
  // Near 0 the sum cancels: there q * (exp(-gap) - 1 + gap) by its series, cut where the rest is below half a unit in
  // the last place.
  constexpr T kNear = sizeof(T) == 8 ? T(1) / 32 : T(1) / 2;
  const T series =
      T(1) / 2 -
      gap * (T(1) / 6 -
             gap * (T(1) / 24 - gap * (T(1) / 120 - gap * (T(1) / 720 - gap * (T(1) / 5040 - gap * (T(1) / 40320))))));
  const T near_zero = q * (gap * gap * series);
  const T elsewhere = q * gap + (p - q);
  return gap > -kNear && gap < kNear ? near_zero : elsewhere;
}

}  // namespace segp
