// What the compilers call things. Formulas shared by both twins are marked SEGP_HOST_DEVICE.
#pragma once

#if defined(__CUDACC__)
#define SEGP_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define SEGP_HOST_DEVICE SEGP_ALWAYS_INLINE
#endif

// Inlining is not a matter of taste on the CPU: a body gets its instruction set from the function that it is
// inlined into (csrc/cpu/isa.h).
#if defined(__GNUC__) || defined(__clang__)
#define SEGP_ALWAYS_INLINE inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define SEGP_ALWAYS_INLINE __forceinline
#else
#define SEGP_ALWAYS_INLINE inline
#endif

// The same for a lambda, between its arguments and its body.
#if defined(__GNUC__) || defined(__clang__)
#define SEGP_INLINE_LAMBDA __attribute__((always_inline))
#else
#define SEGP_INLINE_LAMBDA
#endif

// The iterations of the next loop do not depend on each other, even where pointers are equal (in place).
#if defined(__clang__)
#define SEGP_INDEPENDENT_ITERATIONS _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define SEGP_INDEPENDENT_ITERATIONS _Pragma("GCC ivdep")
#elif defined(_MSC_VER)
#define SEGP_INDEPENDENT_ITERATIONS __pragma(loop(ivdep))
#else
#define SEGP_INDEPENDENT_ITERATIONS
#endif
