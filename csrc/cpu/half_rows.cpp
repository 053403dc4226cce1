#include "half_rows.h"

#include "isa.h"
#include "segp/half.h"

#if SEGP_X86_DISPATCH
#include <immintrin.h>
#endif

namespace segp {
namespace cpu {
namespace {

int64_t whole(int64_t count) { return count / 8 * 8; }

#if SEGP_X86_DISPATCH
// The first whole(count) elements.
SEGP_TARGET_AVX2 void to_float_f16c(const Half* const* from, int arrays, int64_t count, float* const* to) {
  for (int64_t i = 0; i < whole(count); i += 8) {
    for (int r = 0; r < arrays; ++r) {
      const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from[r] + i));
      _mm256_storeu_ps(to[r] + i, _mm256_cvtph_ps(halves));
    }
  }
}

SEGP_TARGET_AVX2 void to_half_f16c(const float* from, int64_t count, Half* to) {
  for (int64_t i = 0; i < whole(count); i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
}
#endif

}  // namespace

void to_float(const Half* const* from, int arrays, int64_t count, float* const* to) {
  int64_t done = 0;
#if SEGP_X86_DISPATCH
  if (isa() != Isa::kBaseline) {
    to_float_f16c(from, arrays, count, to);
    done = whole(count);
  }
#endif
  for (int r = 0; r < arrays; ++r) {
    for (int64_t i = done; i < count; ++i) {
      to[r][i] = load_value(from[r][i]);
    }
  }
}

void to_half(const float* from, int64_t count, Half* to) {
  int64_t i = 0;
#if SEGP_X86_DISPATCH
  if (isa() != Isa::kBaseline) {
    to_half_f16c(from, count, to);
    i = whole(count);
  }
#endif
  for (; i < count; ++i) {
    to[i] = Store<Half>::from(from[i]);
  }
}

}  // namespace cpu
}  // namespace segp
