// From the arguments of the ops on matrices to segp::MatrixRef, with the checks that every device needs.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "checks.h"
#include "segp/distill.h"
#include "segp/drift.h"
#include "segp/dual_target.h"
#include "segp/transfer.h"

namespace segp {

// The params point into their arguments, which must outlive them; results are left for the caller to set.
DistillParams distill_params(const torch::stable::Tensor& student, const torch::stable::Tensor& student_text,
                             const torch::stable::Tensor& teacher, const torch::stable::Tensor& teacher_text,
                             double logit_scale, double temperature);
DualTargetParams dual_target_params(const torch::stable::Tensor& embedding, const torch::stable::Tensor& feature,
                                    const torch::stable::Tensor& text, const torch::stable::Tensor& prototypes,
                                    const torch::stable::Tensor& target, double logit_scale, double visual_weight);
DriftParams drift_params(const torch::stable::Tensor& prototypes, const torch::stable::Tensor& before,
                         const torch::stable::Tensor& after, double temperature);
// `target` is checked too, but for its range.
TransferParams transfer_params(const torch::stable::Tensor& prototypes, const torch::stable::Tensor& before,
                               const torch::stable::Tensor& after, const torch::stable::Tensor& target);

// The dtype in which an op on these matrices computes and returns, for torch.
template <class... Matrices>
torch::headeronly::ScalarType result_type(const Matrices&... matrices) {
  return scalar_type(compute_dtype({matrices.dtype...}));
}

// A gradient's memory, or an empty tensor in its place; and its address, or null.
torch::stable::Tensor fresh_gradient(bool wanted, const torch::stable::Tensor& like,
                                     torch::headeronly::ScalarType dtype);
void* address(bool wanted, const torch::stable::Tensor& gradient);

}  // namespace segp
