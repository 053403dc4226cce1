// The device's gemm for the emulation: exact products, added up in double.
#include "segp/gemm.h"

#include "segp/half.h"

namespace segp {
namespace cuda {

void gemm(const MatrixRef& a, const MatrixRef& b, const MatrixRef& out, int) {
  visit_dtype(a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t i = 0; i < out.rows; ++i) {
      for (int64_t j = 0; j < out.cols; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < a.cols; ++k) {
          sum += static_cast<double>(load_value(static_cast<const T*>(a.data)[i * a.row_stride + k * a.col_stride])) *
                 static_cast<double>(load_value(static_cast<const T*>(b.data)[k * b.row_stride + j * b.col_stride]));
        }
        accumulator_t<T>* to = static_cast<accumulator_t<T>*>(const_cast<void*>(out.data));
        to[i * out.row_stride + j * out.col_stride] = static_cast<accumulator_t<T>>(sum);
      }
    }
  });
}

}  // namespace cuda
}  // namespace segp
