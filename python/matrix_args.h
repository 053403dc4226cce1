// From the arguments of the ops on matrices to their params, with the checks that every device needs, and the memory
// of their results.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <tuple>

#include "segp/distill.h"
#include "segp/drift.h"
#include "segp/dual_target.h"
#include "segp/transfer.h"

namespace segp {

// In the order of the schemas in library.cpp.
struct DistillArgs {
  torch::stable::Tensor student, student_text, teacher, teacher_text;
  double logit_scale, temperature;
  bool student_gradient, text_gradient;
};
struct DualTargetArgs {
  torch::stable::Tensor embedding, feature, text, prototypes, target;
  double logit_scale, visual_weight;
  bool embedding_gradient, feature_gradient;
};
struct DriftArgs {
  torch::stable::Tensor prototypes, before, after;
  double temperature;
};
struct TransferArgs {
  torch::stable::Tensor prototypes, before, after, target;
};

// The params point into their arguments, which must outlive them; results are left to new_results. Targets are checked
// too, but for their range.
DistillParams params_of(const DistillArgs& args);
DualTargetParams params_of(const DualTargetArgs& args);
DriftParams params_of(const DriftArgs& args);
TransferParams params_of(const TransferArgs& args);

// How a device makes a tensor, where another one is.
using NewTensor = torch::stable::Tensor (*)(const torch::stable::Tensor& like, std::initializer_list<int64_t> sizes,
                                            torch::headeronly::ScalarType dtype);

// Memory for the results, told to the params. A gradient that is not wanted is an empty tensor, and null in the params.
using Losses = std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor>;
Losses new_results(const DistillArgs& args, DistillParams& params, NewTensor make);
Losses new_results(const DualTargetArgs& args, DualTargetParams& params, NewTensor make);
std::tuple<torch::stable::Tensor, torch::stable::Tensor> new_results(const DriftArgs& args, DriftParams& params,
                                                                     NewTensor make);
torch::stable::Tensor new_results(const TransferArgs& args, TransferParams& params, NewTensor make);

}  // namespace segp
