// CPU implementations of the schemas in library.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <string>
#include <tuple>
#include <vector>

#include "dpgd_args.h"
#include "matrix_args.h"
#include "segp/buffer.h"
#include "segp/distill.h"
#include "segp/dpgd.h"
#include "segp/drift.h"
#include "segp/dual_target.h"
#include "segp/transfer.h"

namespace {

using torch::stable::Tensor;

// A result of the kernels, uninitialised.
Tensor fresh(const Tensor& like, std::initializer_list<int64_t> sizes, torch::headeronly::ScalarType dtype) {
  Tensor result = torch::stable::new_empty(like, sizes, dtype);
  segp::cpu::ask_for_huge_pages(result.data_ptr(), result.numel() * static_cast<int64_t>(result.element_size()));
  return result;
}

// As segp::fresh_gradient, with huge pages.
Tensor fresh_gradient(bool wanted, const Tensor& like, torch::headeronly::ScalarType dtype) {
  const Tensor gradient = segp::fresh_gradient(wanted, like, dtype);
  segp::cpu::ask_for_huge_pages(gradient.data_ptr(), gradient.numel() * static_cast<int64_t>(gradient.element_size()));
  return gradient;
}

Tensor dpgd_step(const Tensor& x, const Tensor& grad, const Tensor& seed, std::vector<double> step_size,
                 std::vector<double> epsilon, std::vector<double> lower, std::vector<double> upper) {
  Tensor out = torch::stable::empty_like(x);
  segp::cpu::ask_for_huge_pages(out.data_ptr(), out.numel() * static_cast<int64_t>(out.element_size()));
  segp::cpu::dpgd_step(segp::dpgd_params("dpgd_step", out, x, grad, seed, step_size, epsilon, lower, upper));
  return out;
}

void dpgd_step_(Tensor x, const Tensor& grad, const Tensor& seed, std::vector<double> step_size,
                std::vector<double> epsilon, std::vector<double> lower, std::vector<double> upper) {
  segp::cpu::dpgd_step(segp::dpgd_params("dpgd_step_", x, x, grad, seed, step_size, epsilon, lower, upper));
}

std::tuple<Tensor, Tensor, Tensor> dual_target_loss(const Tensor& embedding, const Tensor& feature, const Tensor& text,
                                                    const Tensor& prototypes, const Tensor& target, double logit_scale,
                                                    double visual_weight, bool embedding_gradient,
                                                    bool feature_gradient) {
  auto params = segp::dual_target_params(embedding, feature, text, prototypes, target, logit_scale, visual_weight);
  for (int64_t row = 0; row < params.embedding.rows; ++row) {
    const int64_t c = params.target[row * params.target_stride];
    if (c < 0 || c >= params.text.rows) {
      segp::fail("dual_target_loss", "target",
                 "must be in [0, " + std::to_string(params.text.rows) + "); got " + std::to_string(c));
    }
  }
  const auto dtype = segp::result_type(params.embedding, params.feature, params.text, params.prototypes);
  const Tensor loss = fresh(embedding, {embedding.size(0)}, dtype);
  const Tensor grad_embedding = fresh_gradient(embedding_gradient, embedding, dtype);
  const Tensor grad_feature = fresh_gradient(feature_gradient, feature, dtype);
  params.loss = loss.mutable_data_ptr();
  params.grad_embedding = segp::address(embedding_gradient, grad_embedding);
  params.grad_feature = segp::address(feature_gradient, grad_feature);
  segp::cpu::dual_target_loss(params);
  return {loss, grad_embedding, grad_feature};
}

std::tuple<Tensor, Tensor, Tensor> geometry_distill(const Tensor& student, const Tensor& student_text,
                                                    const Tensor& teacher, const Tensor& teacher_text,
                                                    double logit_scale, double temperature, bool student_gradient,
                                                    bool text_gradient) {
  auto params = segp::distill_params(student, student_text, teacher, teacher_text, logit_scale, temperature);
  const auto dtype = segp::result_type(params.student, params.student_text, params.teacher, params.teacher_text);
  const Tensor loss = fresh(student, {}, dtype);
  const Tensor grad_student = fresh_gradient(student_gradient, student, dtype);
  const Tensor grad_text = fresh_gradient(text_gradient, student_text, dtype);
  params.loss = loss.mutable_data_ptr();
  params.grad_student = segp::address(student_gradient, grad_student);
  params.grad_student_text = segp::address(text_gradient, grad_text);
  segp::cpu::geometry_distill(params);
  return {loss, grad_student, grad_text};
}

std::tuple<Tensor, Tensor> prototype_drift(const Tensor& prototypes, const Tensor& before, const Tensor& after,
                                           double temperature) {
  auto params = segp::drift_params(prototypes, before, after, temperature);
  const auto dtype = segp::result_type(params.prototypes, params.before, params.after);
  const Tensor drift = fresh(prototypes, {prototypes.size(0), prototypes.size(1)}, dtype);
  const Tensor proximity = fresh(prototypes, {prototypes.size(0)}, dtype);
  params.drift = drift.mutable_data_ptr();
  params.proximity = proximity.mutable_data_ptr();
  segp::cpu::prototype_drift(params);
  return {drift, proximity};
}

Tensor prototype_transfer(const Tensor& prototypes, const Tensor& before, const Tensor& after, const Tensor& target) {
  auto params = segp::transfer_params(prototypes, before, after, target);
  const auto* classes = static_cast<const int64_t*>(target.const_data_ptr());
  const int64_t stride = target.stride(0);
  for (int64_t i = 0; i < params.before.rows; ++i) {
    const int64_t c = classes[i * stride];
    if (c < 0 || c >= params.prototypes.rows) {
      segp::fail("prototype_transfer", "target",
                 "must be in [0, " + std::to_string(params.prototypes.rows) + "); got " + std::to_string(c) +
                     " at index " + std::to_string(i));
    }
  }
  const auto dtype = segp::result_type(params.prototypes, params.before, params.after);
  const Tensor result = fresh(prototypes, {prototypes.size(0), prototypes.size(1)}, dtype);
  params.result = result.mutable_data_ptr();
  segp::cpu::prototype_transfer(params, classes, stride);
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segp_ext, CPU, library) {
  library.impl("dpgd_step", TORCH_BOX(&dpgd_step));
  library.impl("dpgd_step_", TORCH_BOX(&dpgd_step_));
  library.impl("dual_target_loss", TORCH_BOX(&dual_target_loss));
  library.impl("geometry_distill", TORCH_BOX(&geometry_distill));
  library.impl("prototype_drift", TORCH_BOX(&prototype_drift));
  library.impl("prototype_transfer", TORCH_BOX(&prototype_transfer));
}
