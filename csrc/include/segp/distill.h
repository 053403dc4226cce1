// Anchor-guided cross-modal geometry distillation (ACGD) and its gradients, in one call:
//
//   loss = tau^2 * mean_b KL( softmax_c(q_bc) || softmax_c(p_bc) ),
//   p_bc = s/tau * cos(student_b, student_text_c),  q_bc = s/tau * cos(teacher_b, teacher_text_c)
//
// The mean is over the B rows; without rows or without classes the loss is 0. A zero row has cosine 0 with everything
// and a zero gradient. A NaN or an infinity in a row makes the loss NaN. The loss is never negative, and small ones
// keep their leading digits: they are sums of terms of one sign (divergence.h), not differences.
//
// Half types and float compute in float, and everything in double as soon as one input is double. No B x C matrix
// is kept: rows go through in blocks, with a workspace of at most 64 MiB, or what a single row needs, and on the device
// up to eight numbers per row and class on top. Sums over classes and rows have a fixed order, whatever the number of
// threads.
#pragma once

#include "segp/contract.h"
#include "segp/matrix.h"
#include "segp/scalars.h"

namespace segp {

struct DistillParams {
  MatrixRef student;       // [B, D]
  MatrixRef student_text;  // [C, D]
  MatrixRef teacher;       // [B, D]
  MatrixRef teacher_text;  // [C, D]
  double logit_scale;      // s, from 0 to kLargestScalar
  double temperature;      // tau, from 1 / kLargestScalar to kLargestScalar

  // Results in result_dtype(); contiguous, sharing memory with nothing.
  void* loss;               // []
  void* grad_student;       // [B, D]; null if it is not wanted
  void* grad_student_text;  // [C, D]; null if it is not wanted
};

inline DType result_dtype(const DistillParams& params) {
  return compute_dtype(
      {params.student.dtype, params.student_text.dtype, params.teacher.dtype, params.teacher_text.dtype});
}

// Throws OpError unless shapes and numbers are as said above.
inline void check(const DistillParams& params) {
  constexpr const char* kOp = "geometry_distill";
  check_same_shape(kOp, {"teacher", params.teacher}, {"student", params.student}, "[B, De]");
  check_same_shape(kOp, {"teacher_text", params.teacher_text}, {"student_text", params.student_text}, "[C, De]");
  check_width(kOp, {"student_text", params.student_text}, {"student", params.student});
  check_scalar(kOp, "logit_scale", params.logit_scale, 0);
  check_scalar(kOp, "temperature", params.temperature, 1 / kLargestScalar);
}

namespace cpu {

void geometry_distill(const DistillParams& params);

}  // namespace cpu

namespace cuda {

// The matrices must have one dtype and consecutive columns (col_stride 1). A row whose inverse norm is no normal number
// counts as a zero row. `workspace` has at least geometry_distill_workspace bytes of the device's memory. Enqueues on
// `stream` (a cudaStream_t, and what the device's gemm uses) of `device`, the calling thread's current one; does not
// synchronise. Returns a cudaError_t, 0 for success.
int64_t geometry_distill_workspace(const DistillParams& params);
int geometry_distill(const DistillParams& params, void* workspace, int device, void* stream);

}  // namespace cuda
}  // namespace segp
