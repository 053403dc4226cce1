#include "half_rows.h"

#include "isa.h"
#include "segp/half.h"

#if SEGP_X86_DISPATCH
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // inside of GCC 12's own header, wrongly
#endif
#include <immintrin.h>
#endif

namespace segp {
namespace cpu {
namespace {

#if SEGP_X86_DISPATCH
constexpr int kRounding = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

// Whole vectors only; these return how many elements that were. A vector holds as much as those of the loops that use
// the floats: a load that spans two stores which are still on their way to the cache waits for them.
SEGP_TARGET_AVX512 int64_t to_float_avx512(const Half* const* from, int arrays, int64_t count, float* const* to) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int r = 0; r < arrays; ++r) {
      const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from[r] + i));
      _mm512_storeu_ps(to[r] + i, _mm512_cvtph_ps(halves));
    }
  }
  return i;
}

SEGP_TARGET_AVX512 int64_t to_half_avx512(const float* from, int64_t count, Half* to) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), _mm512_cvtps_ph(_mm512_loadu_ps(from + i), kRounding));
  }
  return i;
}

SEGP_TARGET_AVX2 int64_t to_float_avx2(const Half* const* from, int arrays, int64_t count, float* const* to) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int r = 0; r < arrays; ++r) {
      const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from[r] + i));
      _mm256_storeu_ps(to[r] + i, _mm256_cvtph_ps(halves));
    }
  }
  return i;
}

SEGP_TARGET_AVX2 int64_t to_half_avx2(const float* from, int64_t count, Half* to) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), kRounding));
  }
  return i;
}
#endif

}  // namespace

void to_float(const Half* const* from, int arrays, int64_t count, float* const* to) {
  int64_t done = 0;
#if SEGP_X86_DISPATCH
  if (isa() == Isa::kAvx512) {
    done = to_float_avx512(from, arrays, count, to);
  } else if (isa() == Isa::kAvx2) {
    done = to_float_avx2(from, arrays, count, to);
  }
#endif
  for (int r = 0; r < arrays; ++r) {
    for (int64_t i = done; i < count; ++i) {
      to[r][i] = load_value(from[r][i]);
    }
  }
}

void to_half(const float* from, int64_t count, Half* to) {
  int64_t done = 0;
#if SEGP_X86_DISPATCH
  if (isa() == Isa::kAvx512) {
    done = to_half_avx512(from, count, to);
  } else if (isa() == Isa::kAvx2) {
    done = to_half_avx2(from, count, to);
  }
#endif
  for (int64_t i = done; i < count; ++i) {
    to[i] = Store<Half>::from(from[i]);
  }
}

}  // namespace cpu
}  // namespace segp
