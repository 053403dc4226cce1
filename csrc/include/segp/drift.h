// How far the space has moved around each prototype, told by anchors:
//
//   w_ca = softmax_a( cos(prototypes_c, before_a) / tau )
//   drift_c = sum_a w_ca (after_a - before_a)
//   proximity_c = sum_a w_ca max(0, cos(prototypes_c, before_a))
//
// Without anchors both are zero. A zero row has cosine 0 with everything.
//
// Half types and float compute in float, and everything in double as soon as one input is double. No C x A matrix
// is kept: anchors go through in chunks with an online softmax, with a workspace of at most 64 MiB
// plus, on the device, six numbers per prototype. Sums have a fixed order, whatever the number of threads.
#pragma once

#include "segp/contract.h"
#include "segp/matrix.h"
#include "segp/scalars.h"

namespace segp {

struct DriftParams {
  MatrixRef prototypes;  // [C, D]
  MatrixRef before;      // [A, D]
  MatrixRef after;       // [A, D]
  double temperature;    // tau, from 1 / kLargestScalar to kLargestScalar

  // Results in result_dtype(); contiguous, sharing memory with nothing.
  void* drift;      // [C, D]
  void* proximity;  // [C]
};

inline DType result_dtype(const DriftParams& params) {
  return compute_dtype({params.prototypes.dtype, params.before.dtype, params.after.dtype});
}

// Throws OpError unless shapes and numbers are as said above.
inline void check(const DriftParams& params) {
  constexpr const char* kOp = "prototype_drift";
  check_anchors(kOp, params);
  check_scalar(kOp, "temperature", params.temperature, 1 / kLargestScalar);
}

namespace cpu {

void prototype_drift(const DriftParams& params);

}  // namespace cpu

namespace cuda {

// The matrices must have one dtype and consecutive columns (col_stride 1). A row whose inverse norm is no normal number
// counts as a zero row. `workspace` has at least prototype_drift_workspace bytes of the device's memory. Enqueues on
// `stream` (a cudaStream_t, and what the device's gemm uses) of `device`, the calling thread's current one; does not
// synchronise. Returns a cudaError_t, 0 for success.
int64_t prototype_drift_workspace(const DriftParams& params);
int prototype_drift(const DriftParams& params, void* workspace, int device, void* stream);

}  // namespace cuda
}  // namespace segp
