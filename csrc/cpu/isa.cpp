#include "isa.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

namespace segp {
namespace cpu {
namespace {

Isa detect() {
#if SEGP_X86_DISPATCH
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
      __builtin_cpu_supports("f16c")) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
      return Isa::kAvx512;
    }
    return Isa::kAvx2;
  }
#endif
  return Isa::kBaseline;
}

Isa choose() {
  const Isa best = detect();
  const char* asked = std::getenv("SEGP_EXT_CPU_ISA");
  if (asked == nullptr) {
    return best;
  }
  for (Isa candidate : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (std::strcmp(asked, isa_name(candidate)) == 0 && candidate < best) {
      return candidate;
    }
  }
  return best;
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kBaseline:
      break;
  }
  return "baseline";
}

}  // namespace cpu
}  // namespace segp
