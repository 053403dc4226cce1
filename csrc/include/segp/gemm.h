// The seam to a matrix multiplication, chosen when a library is linked.
//
// Exactly one definition is linked in: python/gemm_torch.cpp hands large products to torch,
// csrc/cpu/gemm_standalone.cpp needs nothing but the C++ library.
#pragma once

#include <cstdint>

#include "segp/matrix.h"

namespace segp {

// One of the two strides is 1; the other is at least the number of elements that it steps over.
template <class T>
struct GemmMatrix {
  T* data;
  int64_t rows;
  int64_t cols;
  int64_t row_stride;
  int64_t col_stride;

  GemmMatrix transposed() const { return {data, cols, rows, col_stride, row_stride}; }
  GemmMatrix columns(int64_t begin, int64_t end) const {
    return {data + begin * col_stride, rows, end - begin, row_stride, col_stride};
  }
  GemmMatrix row_range(int64_t begin, int64_t end) const {
    return {data + begin * row_stride, end - begin, cols, row_stride, col_stride};
  }
};

// out = a·b, or out += a·b. `out` has rows that lie apart from each other (col_stride 1) and shares no memory with
// a and b. Sizes may be zero: a product over nothing is zero.
void gemm(const GemmMatrix<const float>& a, const GemmMatrix<const float>& b, const GemmMatrix<float>& out,
          bool accumulate);
void gemm(const GemmMatrix<const double>& a, const GemmMatrix<const double>& b, const GemmMatrix<double>& out,
          bool accumulate);

namespace cuda {

// out = a·b on torch's current stream of the device. a and b are of one dtype; out is float64 if they are, else
// float32, and half types accumulate in it. One stride of each is 1. Defined in python/gemm_torch_cuda.cpp; throws what
// torch throws.
void gemm(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, int device);

// out += a·b, all of one dtype: torch has no such product of half types into float32 that this library can call.
void add_gemm(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, int device);

}  // namespace cuda
}  // namespace segp
