// A matrix product in plain loops: right everywhere, fast only where it is small.
#pragma once

#include "segp/gemm.h"

namespace segp {
namespace cpu {

// As gemm (segp/gemm.h); strides may be anything.
template <class T>
void gemm_plain(const GemmMatrix<const T>& a, const GemmMatrix<const T>& b, const GemmMatrix<T>& out,
                bool accumulate);

}  // namespace cpu
}  // namespace segp
