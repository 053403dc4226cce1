// Gives torch a device's implementations of the schemas in library.cpp.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "dpgd_args.h"
#include "matrix_args.h"

namespace segp {

// torch hands over arguments one by one; an op takes them in one struct.
template <auto kOp, class... Arguments>
auto from_one_by_one(const Arguments&... arguments) {
  return kOp({arguments...});
}

// Device has a static function of each name.
template <class Device>
void register_ops(torch::stable::detail::StableLibrary& library) {
  using torch::stable::Tensor;
  using Values = std::vector<double>;
  library.impl(
      "dpgd_step",
      TORCH_BOX((&from_one_by_one<&Device::dpgd_step, Tensor, Tensor, Tensor, Values, Values, Values, Values>)));
  library.impl(
      "dpgd_step_",
      TORCH_BOX((&from_one_by_one<&Device::dpgd_step_, Tensor, Tensor, Tensor, Values, Values, Values, Values>)));
  library.impl("dual_target_loss", TORCH_BOX((&from_one_by_one<&Device::dual_target_loss, Tensor, Tensor, Tensor,
                                                               Tensor, Tensor, double, double, bool, bool>)));
  library.impl(
      "geometry_distill",
      TORCH_BOX(
          (&from_one_by_one<&Device::geometry_distill, Tensor, Tensor, Tensor, Tensor, double, double, bool, bool>)));
  library.impl("prototype_drift",
               TORCH_BOX((&from_one_by_one<&Device::prototype_drift, Tensor, Tensor, Tensor, double>)));
  library.impl("prototype_transfer",
               TORCH_BOX((&from_one_by_one<&Device::prototype_transfer, Tensor, Tensor, Tensor, Tensor>)));
}

}  // namespace segp
