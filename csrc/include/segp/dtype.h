// Storage types shared by the CPU and CUDA kernels, and what is computed with them.
#pragma once

#include <cstdint>
#include <limits>

namespace segp {

enum class DType : int32_t { kFloat32, kFloat64, kFloat16, kBFloat16 };

// Half-precision values travel as their bits: the kernels convert them on load and on store.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// Half types compute in float, float and double in themselves.
template <class T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};
template <class T>
using accumulator_t = typename Accumulator<T>::type;

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType kValue = DType::kFloat32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType kValue = DType::kFloat64;
};
template <>
struct DTypeOf<Half> {
  static constexpr DType kValue = DType::kFloat16;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType kValue = DType::kBFloat16;
};
template <class T>
constexpr DType kDTypeOf = DTypeOf<T>::kValue;

inline int64_t size_of(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

// A type as a value, so that a dispatch can hand it to a generic lambda.
template <class T>
struct TypeTag {
  using type = T;
};

template <class Visitor>
void visit_dtype(DType dtype, Visitor&& visitor) {
  switch (dtype) {
    case DType::kFloat32:
      return visitor(TypeTag<float>{});
    case DType::kFloat64:
      return visitor(TypeTag<double>{});
    case DType::kFloat16:
      return visitor(TypeTag<Half>{});
    case DType::kBFloat16:
      return visitor(TypeTag<BFloat16>{});
  }
}

}  // namespace segp
