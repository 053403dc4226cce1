// CPU implementations of the schemas in library.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <tuple>

#include "dpgd_args.h"
#include "matrix_args.h"
#include "register_ops.h"
#include "segp/buffer.h"
#include "segp/contract.h"

namespace {

using torch::stable::Tensor;

void ask_for_huge_pages(const Tensor& tensor) {
  segp::cpu::ask_for_huge_pages(tensor.data_ptr(), tensor.numel() * static_cast<int64_t>(tensor.element_size()));
}

Tensor fresh(const Tensor& like, std::initializer_list<int64_t> sizes, torch::headeronly::ScalarType dtype) {
  const Tensor result = torch::stable::new_empty(like, sizes, dtype);
  ask_for_huge_pages(result);
  return result;
}

struct Cpu {
  static Tensor dpgd_step(const segp::DpgdArgs& args) {
    const Tensor out = torch::stable::empty_like(args.x);
    ask_for_huge_pages(out);
    segp::cpu::dpgd_step(segp::dpgd_params("dpgd_step", out, args));
    return out;
  }

  static void dpgd_step_(const segp::DpgdArgs& args) {
    segp::cpu::dpgd_step(segp::dpgd_params("dpgd_step_", args.x, args));
  }

  static segp::Losses dual_target_loss(const segp::DualTargetArgs& args) {
    auto params = segp::params_of(args);
    segp::check_range("dual_target_loss", params.target, params.embedding.rows, params.target_stride, params.text.rows);
    const auto results = segp::new_results(args, params, &fresh);
    segp::cpu::dual_target_loss(params);
    return results;
  }

  static segp::Losses geometry_distill(const segp::DistillArgs& args) {
    auto params = segp::params_of(args);
    const auto results = segp::new_results(args, params, &fresh);
    segp::cpu::geometry_distill(params);
    return results;
  }

  static std::tuple<Tensor, Tensor> prototype_drift(const segp::DriftArgs& args) {
    auto params = segp::params_of(args);
    const auto results = segp::new_results(args, params, &fresh);
    segp::cpu::prototype_drift(params);
    return results;
  }

  static Tensor prototype_transfer(const segp::TransferArgs& args) {
    auto params = segp::params_of(args);
    const auto* target = static_cast<const int64_t*>(args.target.const_data_ptr());
    const int64_t stride = args.target.stride(0);
    segp::check_range("prototype_transfer", target, params.before.rows, stride, params.prototypes.rows);
    const Tensor result = segp::new_results(args, params, &fresh);
    segp::cpu::prototype_transfer(params, target, stride);
    return result;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segp_ext, CPU, library) { segp::register_ops<Cpu>(library); }
