// gemm for builds without torch (the NumPy module and the native tests).
#include "segp/gemm_blocked.h"

namespace segp {

void gemm(const GemmMatrix<const float>& a, const GemmMatrix<const float>& b, const GemmMatrix<float>& out,
          bool accumulate) {
  cpu::gemm_blocked(a, b, out, accumulate);
}

void gemm(const GemmMatrix<const double>& a, const GemmMatrix<const double>& b, const GemmMatrix<double>& out,
          bool accumulate) {
  cpu::gemm_blocked(a, b, out, accumulate);
}

}  // namespace segp
