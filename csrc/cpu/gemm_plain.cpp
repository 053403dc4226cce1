// gemm on the C++ library alone, for builds without torch and for products too small to be worth torch's way.
#include "segp/gemm_plain.h"

#include <algorithm>

#include "isa.h"
#include "segp/parallel.h"
#include "vector_math.h"

namespace segp {
namespace cpu {
namespace {

// Multiplications that a thread should have to do, at least.
constexpr int64_t kGrain = 64 * 1024;

struct ProductKernel {
  // Rows [begin, end) of the product.
  template <class T>
  SEGP_ALWAYS_INLINE static void run(const GemmMatrix<const T>& a, const GemmMatrix<const T>& b,
                                     const GemmMatrix<T>& out, bool accumulate, int64_t begin, int64_t end) {
    const bool dots = b.row_stride == 1 && a.col_stride == 1;
    for (int64_t i = begin; i < end; ++i) {
      T* to = out.data + i * out.row_stride;
      const T* row = a.data + i * a.row_stride;
      if (!accumulate) {
        for (int64_t j = 0; j < out.cols; ++j) {
          to[j] = T(0);
        }
      }
      if (dots) {
        for (int64_t j = 0; j < out.cols; ++j) {
          to[j] += dot(row, b.data + j * b.col_stride, a.cols);
        }
      } else {
        for (int64_t k = 0; k < a.cols; ++k) {
          const T factor = row[k * a.col_stride];
          const T* from = b.data + k * b.row_stride;
          const int64_t stride = b.col_stride;
          if (stride == 1) {
            for (int64_t j = 0; j < out.cols; ++j) {
              to[j] += factor * from[j];
            }
          } else {
            for (int64_t j = 0; j < out.cols; ++j) {
              to[j] += factor * from[j * stride];
            }
          }
        }
      }
    }
  }
};

}  // namespace

template <class T>
void gemm_plain(const GemmMatrix<const T>& a, const GemmMatrix<const T>& b, const GemmMatrix<T>& out,
                bool accumulate) {
  const int64_t row_work = std::max<int64_t>(1, out.cols * a.cols);
  parallel_for(out.rows, std::max<int64_t>(1, kGrain / row_work), [&](int64_t begin, int64_t end) {
    run_for_isa<ProductKernel>(a, b, out, accumulate, begin, end);
  });
}

template void gemm_plain(const GemmMatrix<const float>&, const GemmMatrix<const float>&, const GemmMatrix<float>&, bool);
template void gemm_plain(const GemmMatrix<const double>&, const GemmMatrix<const double>&, const GemmMatrix<double>&,
                         bool);

}  // namespace cpu
}  // namespace segp
