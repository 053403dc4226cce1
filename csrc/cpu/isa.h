// Run-time choice of the x86-64 instruction set.
//
// A kernel's body is written once as an always-inline function. run_for_isa calls it through thin functions with
// different target attributes, and the compiler vectorises each copy for its own instruction set; on other
// processors there is one copy, built for the compiler's default.
#pragma once

#if (defined(__x86_64__) || defined(_M_X64)) && (defined(__GNUC__) || defined(__clang__))
#define SEGP_X86_DISPATCH 1
#define SEGP_TARGET_AVX2 __attribute__((target("avx2,fma,f16c,bmi,bmi2")))
#define SEGP_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2")))
#else
#define SEGP_X86_DISPATCH 0
#define SEGP_TARGET_AVX2
#define SEGP_TARGET_AVX512
#endif

namespace segp {
namespace cpu {

enum class Isa { kBaseline, kAvx2, kAvx512 };

// The best instruction set of this processor, decided at the first call. The environment variable
// SEGP_EXT_CPU_ISA=baseline|avx2|avx512 asks for less (for tests and for comparing); more than there is, is
// ignored.
Isa isa();

const char* isa_name(Isa isa);

#if SEGP_X86_DISPATCH
template <class Kernel, class... Args>
SEGP_TARGET_AVX2 auto run_avx2(const Args&... args) {
  return Kernel::run(args...);
}

template <class Kernel, class... Args>
SEGP_TARGET_AVX512 auto run_avx512(const Args&... args) {
  return Kernel::run(args...);
}
#endif

// Returns Kernel::run(args...), a static SEGP_ALWAYS_INLINE function, compiled for the processor at hand. It takes a
// struct of arguments by value: no store of its loops can change a copy, so that they vectorise.
template <class Kernel, class... Args>
auto run_for_isa(const Args&... args) {
#if SEGP_X86_DISPATCH
  switch (isa()) {
    case Isa::kAvx512:
      return run_avx512<Kernel>(args...);
    case Isa::kAvx2:
      return run_avx2<Kernel>(args...);
    case Isa::kBaseline:
      break;
  }
#endif
  return Kernel::run(args...);
}

}  // namespace cpu
}  // namespace segp
