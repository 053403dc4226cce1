// A matrix product of our own: the only one where there is no torch, and the one for the tiles that the ops work in,
// which are small enough for the way through torch to show.
#pragma once

#include "segp/gemm.h"

namespace segp {
namespace cpu {

// As gemm (segp/gemm.h). Each sum runs over k in order, in blocks of fixed size: the result does not depend on the
// number of threads.
template <class T>
void gemm_blocked(const GemmMatrix<const T>& a, const GemmMatrix<const T>& b, const GemmMatrix<T>& out,
                  bool accumulate);

// From so many multiplications on, a tuned library is the better choice on this processor. Large products take
// milliseconds, and what such a library knows about the machine counts for more than the way to it.
int64_t gemm_blocked_limit();

}  // namespace cpu
}  // namespace segp
