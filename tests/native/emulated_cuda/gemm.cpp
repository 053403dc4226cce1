// The device's products for the emulation: exact ones, added up in double.
#include "segp/gemm.h"

#include <cstdlib>

#include "segp/half.h"

namespace segp {
namespace cuda {
namespace {

void multiply(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, bool is_added) {
  visit_dtype(a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = accumulator_t<T>;
    for (int64_t i = 0; i < out.rows; ++i) {
      for (int64_t j = 0; j < out.cols; ++j) {
        Acc* to = static_cast<Acc*>(const_cast<void*>(out.data)) + i * out.row_stride + j * out.col_stride;
        double sum = is_added ? static_cast<double>(*to) : 0;
        for (int64_t k = 0; k < a.cols; ++k) {
          sum += static_cast<double>(load_value(static_cast<const T*>(a.data)[i * a.row_stride + k * a.col_stride])) *
                 static_cast<double>(load_value(static_cast<const T*>(b.data)[k * b.row_stride + j * b.col_stride]));
        }
        *to = static_cast<Acc>(sum);
      }
    }
  });
}

}  // namespace

void gemm(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, int) { multiply(a, b, out, false); }

void add_gemm(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, int) {
  if (a.dtype != out.dtype) {
    std::abort();  // as torch refuses it
  }
  multiply(a, b, out, true);
}

}  // namespace cuda
}  // namespace segp
