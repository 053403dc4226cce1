// From the arguments of torch.ops.segp_ext.dpgd_step[_] to segp::DpgdParams, the same for every device.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "segp/dpgd.h"

namespace segp {

// Checks the arguments and describes them. `out` is x itself for the in-place op, which also refuses memory that
// is shared in a way that would make the result depend on the order of the writes. The result points into its
// arguments, which must outlive it.
DpgdParams dpgd_params(const char* op, const torch::stable::Tensor& out, const torch::stable::Tensor& x,
                       const torch::stable::Tensor& grad, const torch::stable::Tensor& seed,
                       const std::vector<double>& step_size, const std::vector<double>& epsilon,
                       const std::vector<double>& lower, const std::vector<double>& upper);

}  // namespace segp
