// The loss that pulls each image towards an old class, in text space and in the visual space, and its gradients:
//
//   loss_b = -log softmax_c( s * cos(embedding_b, text_c) )[target_b]
//            + lambda * (1 - cos(feature_b, prototypes_[target_b]))
//
// A zero row has cosine 0 with everything and a zero gradient. A row whose target is not in [0, C) gets NaN as its
// loss and its gradients, and nothing outside the inputs is read.
//
// Half types and float compute in float, and everything in double as soon as one input is double. Rows go through in
// blocks, with a workspace of at most 64 MiB, or what a single row needs, and on the device three numbers per row and
// class on top.
#pragma once

#include "segp/contract.h"
#include "segp/matrix.h"
#include "segp/scalars.h"

namespace segp {

struct DualTargetParams {
  MatrixRef embedding;    // [B, De]
  MatrixRef feature;      // [B, Dr]
  MatrixRef text;         // [C, De]
  MatrixRef prototypes;   // [C, Dr]
  const int64_t* target;  // [B], elements target_stride apart
  int64_t target_stride;
  double logit_scale;    // s, from 0 to kLargestScalar
  double visual_weight;  // lambda, from -kLargestScalar to kLargestScalar

  // Results in result_dtype(); contiguous, sharing memory with nothing. A gradient is that of loss_b with respect to
  // row b.
  void* loss;            // [B]
  void* grad_embedding;  // [B, De]; null if it is not wanted
  void* grad_feature;    // [B, Dr]; null if it is not wanted
};

inline DType result_dtype(const DualTargetParams& params) {
  return compute_dtype({params.embedding.dtype, params.feature.dtype, params.text.dtype, params.prototypes.dtype});
}

// Throws OpError unless shapes and numbers are as said above. `targets` is how many `target` holds; it does not look at
// them.
inline void check(const DualTargetParams& params, int64_t targets) {
  constexpr const char* kOp = "dual_target_loss";
  check_width(kOp, {"text", params.text}, {"embedding", params.embedding});
  check_width(kOp, {"prototypes", params.prototypes}, {"feature", params.feature});
  check_rows(kOp, {"feature", params.feature}, {"embedding", params.embedding});
  check_rows(kOp, {"prototypes", params.prototypes}, {"text", params.text});
  check_target(kOp, targets, params.embedding.rows, "row");
  check_has_class(kOp, {"text", params.text}, params.embedding.rows);
  check_scalar(kOp, "logit_scale", params.logit_scale, 0);
  check_scalar(kOp, "visual_weight", params.visual_weight, -kLargestScalar);
}

namespace cpu {

void dual_target_loss(const DualTargetParams& params);

}  // namespace cpu

namespace cuda {

// The matrices must have one dtype and consecutive columns (col_stride 1). A row whose inverse norm is no normal number
// counts as a zero row. `workspace` has at least dual_target_loss_workspace bytes of the device's memory. Enqueues on
// `stream` (a cudaStream_t, and what the device's gemm uses) of `device`, the calling thread's current one; does not
// synchronise. Returns a cudaError_t, 0 for success.
int64_t dual_target_loss_workspace(const DualTargetParams& params);
int dual_target_loss(const DualTargetParams& params, void* workspace, int device, void* stream);

}  // namespace cuda
}  // namespace segp
