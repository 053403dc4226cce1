// The bound of the numbers that the ops on matrices take.
#pragma once

namespace segp {

// Logit scales, temperatures, their inverses and weights go up to here. With norms from 2^-40 to 2^40, no product of
// theirs overflows float.
constexpr double kLargestScalar = 1e6;

}  // namespace segp
