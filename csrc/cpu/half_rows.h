// Consecutive halves to floats and back, by the processor's own instructions where it has them: the conversions of
// segp/half.h, which run anywhere, take longer than everything else in a loop.
#pragma once

#include <cstdint>

#include "segp/dtype.h"

namespace segp {
namespace cpu {

// to[r][i] = from[r][i]. Several arrays at once, for their way from memory to take place at the same time.
void to_float(const Half* const* from, int arrays, int64_t count, float* const* to);
void to_half(const float* from, int64_t count, Half* to);

}  // namespace cpu
}  // namespace segp
