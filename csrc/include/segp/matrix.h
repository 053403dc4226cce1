// A matrix in memory, as the ops of this library take their inputs.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "segp/dtype.h"

namespace segp {

// Strides count elements and may be anything, zero included.
struct MatrixRef {
  const void* data;
  DType dtype;
  int64_t rows;
  int64_t cols;
  int64_t row_stride;
  int64_t col_stride;
};

// float64 if any of the matrices is, else float32: the type in which an op computes, and that of its results.
inline DType compute_dtype(std::initializer_list<DType> inputs) {
  for (DType dtype : inputs) {
    if (dtype == DType::kFloat64) {
      return DType::kFloat64;
    }
  }
  return DType::kFloat32;
}

}  // namespace segp
