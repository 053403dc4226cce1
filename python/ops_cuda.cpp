// CUDA implementations of the schemas in library.cpp. Compiled only where the kernels are.
#include <dlfcn.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "checks.h"
#include "dpgd_args.h"
#include "matrix_args.h"
#include "segp/dpgd.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

#if SEGP_EMULATED_CUDA

// On the emulation (tests/native/emulated_cuda) the processor's tensors are the device's.
template <class Launch>
void run_on_device_of(const char* op, const Tensor&, const Launch& launch) {
  if (launch(0, nullptr) != 0) {
    segp::fail(op, "kernel", "did not start");
  }
}

#else

// torch's current stream. The function that tells it lives in libtorch_cuda, to which this library is not
// linked, because it must load where torch has no CUDA at all. Where tensors on a CUDA device exist,
// libtorch_cuda is in the process, and is asked for the symbol at the first call.
void* current_stream(const char* op, int32_t device) {
  using Getter = AOTITorchError (*)(int32_t, void**);
  static const Getter getter = [] {
    constexpr const char* kSymbol = "aoti_torch_get_current_cuda_stream";
    void* symbol = dlsym(RTLD_DEFAULT, kSymbol);
    if (symbol == nullptr) {
      // torch's libraries are usually loaded privately. NOLOAD finds the one that is there and loads none.
      if (void* torch_cuda = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD)) {
        symbol = dlsym(torch_cuda, kSymbol);
      }
    }
    return reinterpret_cast<Getter>(symbol);
  }();
  void* stream = nullptr;
  if (getter == nullptr || getter(device, &stream) != TORCH_SUCCESS) {
    segp::fail(op, "x", "is on a CUDA device, but this torch does not tell its current CUDA stream");
  }
  return stream;
}

// Calls launch(device, stream) with the tensor's device as the current one; its status becomes an exception.
template <class Launch>
void run_on_device_of(const char* op, const Tensor& tensor, const Launch& launch) {
  const int32_t device = tensor.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  const int status = launch(device, current_stream(op, device));
  if (status != 0) {
    segp::fail(op, "kernel", std::string("did not start: ") + segp::cuda::status_text(status));
  }
}

#endif

void run(const char* op, const segp::DpgdParams& params, const Tensor& x) {
  run_on_device_of(op, x, [&](int device, void* stream) { return segp::cuda::dpgd_step(params, device, stream); });
}

Tensor dpgd_step(const Tensor& x, const Tensor& grad, const Tensor& seed, std::vector<double> step_size,
                 std::vector<double> epsilon, std::vector<double> lower, std::vector<double> upper) {
  Tensor out = torch::stable::empty_like(x);
  run("dpgd_step", segp::dpgd_params("dpgd_step", out, x, grad, seed, step_size, epsilon, lower, upper), x);
  return out;
}

void dpgd_step_(Tensor x, const Tensor& grad, const Tensor& seed, std::vector<double> step_size,
                std::vector<double> epsilon, std::vector<double> lower, std::vector<double> upper) {
  run("dpgd_step_", segp::dpgd_params("dpgd_step_", x, x, grad, seed, step_size, epsilon, lower, upper), x);
}

// One dtype for all matrices: theirs if they agree, else the one in which the op computes. Refuses what is no floating
// tensor before anything is converted.
ScalarType common_type(const char* op, std::initializer_list<Tensor> matrices) {
  const ScalarType first = matrices.begin()->scalar_type();
  bool same = true;
  bool any_double = false;
  for (const Tensor& matrix : matrices) {
    segp::dtype_of(op, "every matrix", matrix);
    same = same && matrix.scalar_type() == first;
    any_double = any_double || matrix.scalar_type() == ScalarType::Double;
  }
  return same ? first : any_double ? ScalarType::Double : ScalarType::Float;
}

// The matrix as the kernels want it: of this dtype, the numbers of a row one after the other. A copy only if need be.
Tensor prepared(const Tensor& matrix, ScalarType dtype) {
  Tensor result = matrix.scalar_type() == dtype ? matrix : torch::stable::to(matrix, dtype);
  const bool plain = result.dim() != 2 || ((result.stride(1) == 1 || result.size(1) <= 1) &&
                                           (result.stride(0) >= result.size(1) || result.size(0) <= 1));
  return plain ? result : torch::stable::contiguous(result);
}

Tensor workspace_of(const Tensor& like, int64_t bytes) {
  return torch::stable::new_empty(like, {bytes}, ScalarType::Byte);
}

std::tuple<Tensor, Tensor, Tensor> dual_target_loss(const Tensor& embedding, const Tensor& feature, const Tensor& text,
                                                    const Tensor& prototypes, const Tensor& target, double logit_scale,
                                                    double visual_weight, bool embedding_gradient,
                                                    bool feature_gradient) {
  const ScalarType dtype = common_type("dual_target_loss", {embedding, feature, text, prototypes});
  const Tensor v = prepared(embedding, dtype);
  const Tensor z = prepared(feature, dtype);
  const Tensor u = prepared(text, dtype);
  const Tensor p = prepared(prototypes, dtype);
  auto params = segp::dual_target_params(v, z, u, p, target, logit_scale, visual_weight);
  const auto result = segp::result_type(params.embedding);
  const Tensor loss = torch::stable::new_empty(v, {v.size(0)}, result);
  const Tensor grad_embedding = segp::fresh_gradient(embedding_gradient, v, result);
  const Tensor grad_feature = segp::fresh_gradient(feature_gradient, z, result);
  params.loss = loss.mutable_data_ptr();
  params.grad_embedding = segp::address(embedding_gradient, grad_embedding);
  params.grad_feature = segp::address(feature_gradient, grad_feature);
  const Tensor workspace = workspace_of(v, segp::cuda::dual_target_loss_workspace(params));
  run_on_device_of("dual_target_loss", v, [&](int device, void* stream) {
    return segp::cuda::dual_target_loss(params, workspace.mutable_data_ptr(), device, stream);
  });
  return {loss, grad_embedding, grad_feature};
}

std::tuple<Tensor, Tensor, Tensor> geometry_distill(const Tensor& student, const Tensor& student_text,
                                                    const Tensor& teacher, const Tensor& teacher_text,
                                                    double logit_scale, double temperature, bool student_gradient,
                                                    bool text_gradient) {
  const ScalarType dtype = common_type("geometry_distill", {student, student_text, teacher, teacher_text});
  const Tensor s = prepared(student, dtype);
  const Tensor u = prepared(student_text, dtype);
  const Tensor t = prepared(teacher, dtype);
  const Tensor v = prepared(teacher_text, dtype);
  auto params = segp::distill_params(s, u, t, v, logit_scale, temperature);
  const auto result = segp::result_type(params.student);
  const Tensor loss = torch::stable::new_empty(s, {}, result);
  const Tensor grad_student = segp::fresh_gradient(student_gradient, s, result);
  const Tensor grad_text = segp::fresh_gradient(text_gradient, u, result);
  params.loss = loss.mutable_data_ptr();
  params.grad_student = segp::address(student_gradient, grad_student);
  params.grad_student_text = segp::address(text_gradient, grad_text);
  const Tensor workspace = workspace_of(s, segp::cuda::geometry_distill_workspace(params));
  run_on_device_of("geometry_distill", s, [&](int device, void* stream) {
    return segp::cuda::geometry_distill(params, workspace.mutable_data_ptr(), device, stream);
  });
  return {loss, grad_student, grad_text};
}

std::tuple<Tensor, Tensor> prototype_drift(const Tensor& prototypes, const Tensor& before, const Tensor& after,
                                           double temperature) {
  const ScalarType dtype = common_type("prototype_drift", {prototypes, before, after});
  const Tensor p = prepared(prototypes, dtype);
  const Tensor z = prepared(before, dtype);
  const Tensor y = prepared(after, dtype);
  auto params = segp::drift_params(p, z, y, temperature);
  const auto result = segp::result_type(params.prototypes);
  const Tensor drift = torch::stable::new_empty(p, {p.size(0), p.size(1)}, result);
  const Tensor proximity = torch::stable::new_empty(p, {p.size(0)}, result);
  params.drift = drift.mutable_data_ptr();
  params.proximity = proximity.mutable_data_ptr();
  const Tensor workspace = workspace_of(p, segp::cuda::prototype_drift_workspace(params));
  run_on_device_of("prototype_drift", p, [&](int device, void* stream) {
    return segp::cuda::prototype_drift(params, workspace.mutable_data_ptr(), device, stream);
  });
  return {drift, proximity};
}

// target, sorted stably, and the order that sorts it.
std::tuple<Tensor, Tensor> sorted(const Tensor& target) {
  std::array<StableIValue, 4> stack{torch::stable::detail::from(torch::stable::contiguous(target)),
                                    torch::stable::detail::from(std::optional<bool>(true)),
                                    torch::stable::detail::from(int64_t{0}), torch::stable::detail::from(false)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

Tensor prototype_transfer(const Tensor& prototypes, const Tensor& before, const Tensor& after, const Tensor& target) {
  const ScalarType dtype = common_type("prototype_transfer", {prototypes, before, after});
  const Tensor p = prepared(prototypes, dtype);
  const Tensor z = prepared(before, dtype);
  const Tensor y = prepared(after, dtype);
  auto params = segp::transfer_params(p, z, y, target);
  const Tensor result = torch::stable::new_empty(p, {p.size(0), p.size(1)}, segp::result_type(params.prototypes));
  params.result = result.mutable_data_ptr();
  const auto [classes, order] = sorted(target);
  const auto* sorted_classes = static_cast<const int64_t*>(classes.const_data_ptr());
  const auto* sorted_order = static_cast<const int64_t*>(order.const_data_ptr());
  const Tensor workspace = workspace_of(p, segp::cuda::prototype_transfer_workspace(params));
  run_on_device_of("prototype_transfer", p, [&](int device, void* stream) {
    return segp::cuda::prototype_transfer(params, sorted_classes, sorted_order, workspace.mutable_data_ptr(), device,
                                          stream);
  });
  return result;
}

}  // namespace

#if SEGP_EMULATED_CUDA
STABLE_TORCH_LIBRARY_IMPL(segp_ext, CPU, library) {
#else
STABLE_TORCH_LIBRARY_IMPL(segp_ext, CUDA, library) {
#endif
  library.impl("dpgd_step", TORCH_BOX(&dpgd_step));
  library.impl("dpgd_step_", TORCH_BOX(&dpgd_step_));
  library.impl("dual_target_loss", TORCH_BOX(&dual_target_loss));
  library.impl("geometry_distill", TORCH_BOX(&geometry_distill));
  library.impl("prototype_drift", TORCH_BOX(&prototype_drift));
  library.impl("prototype_transfer", TORCH_BOX(&prototype_transfer));
}
