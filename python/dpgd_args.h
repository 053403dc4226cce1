// From the arguments of torch.ops.segp_ext.dpgd_step[_] to segp::DpgdParams, the same for every device.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "segp/dpgd.h"

namespace segp {

// In the order of the schema.
struct DpgdArgs {
  torch::stable::Tensor x, grad, seed;
  std::vector<double> step_size, epsilon, lower, upper;
};

// Checks the arguments and describes them. `out` is x itself for the in-place op, which also refuses memory that
// is shared in a way that would make the result depend on the order of the writes. The result points into its
// arguments, which must outlive it.
DpgdParams dpgd_params(const char* op, const torch::stable::Tensor& out, const DpgdArgs& args);

}  // namespace segp
