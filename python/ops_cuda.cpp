// CUDA implementations of the schemas in library.cpp. Compiled only where the kernels are.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <array>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>

#include "checks.h"
#include "dpgd_args.h"
#include "matrix_args.h"
#include "register_ops.h"
#include "torch_cuda.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

#if SEGP_EMULATED_CUDA

// On the emulation (tests/native/emulated_cuda) the processor's tensors are the device's.
struct Place {
  int32_t device = 0;
  void* stream = nullptr;

  Place(const char*, const Tensor&) {}
};

#else

void* current_stream(const char* op, int32_t device) {
  static const auto getter = reinterpret_cast<segp::CurrentStream>(segp::torch_cuda_function(segp::kCurrentStream));
  void* stream = nullptr;
  if (getter == nullptr || getter(device, &stream) != TORCH_SUCCESS) {
    segp::fail(op, "x", "is on a CUDA device, but this torch does not tell its current CUDA stream");
  }
  return stream;
}

// A tensor's device, the current one as long as this lives, and torch's stream there.
struct Place {
  int32_t device;
  torch::stable::accelerator::DeviceGuard guard;
  void* stream;

  Place(const char* op, const Tensor& tensor)
      : device(tensor.get_device_index()), guard(device), stream(current_stream(op, device)) {}
};

#endif

// Calls launch(device, stream) with the tensor's device as the current one; its status becomes an exception.
template <class Launch>
void run_on_device_of(const char* op, const Tensor& tensor, const Launch& launch) {
  const Place place(op, tensor);
  const int status = launch(place.device, place.stream);
  if (status != 0) {
    segp::fail(op, "kernel", std::string("did not start: ") + segp::cuda::status_text(status));
  }
}

// One dtype for all matrices: theirs if they agree, else the one in which the op computes. Refuses what is no floating
// tensor before anything is converted.
ScalarType common_type(const char* op, std::initializer_list<Tensor*> matrices) {
  const ScalarType first = (*matrices.begin())->scalar_type();
  bool same = true;
  bool any_double = false;
  for (const Tensor* matrix : matrices) {
    segp::dtype_of(op, "every matrix", *matrix);
    same = same && matrix->scalar_type() == first;
    any_double = any_double || matrix->scalar_type() == ScalarType::Double;
  }
  return same ? first : any_double ? ScalarType::Double : ScalarType::Float;
}

// The matrices as the kernels want them: of one dtype, the numbers of a row one after the other. Copies only if need
// be.
void prepare(const char* op, std::initializer_list<Tensor*> matrices) {
  const ScalarType dtype = common_type(op, matrices);
  for (Tensor* matrix : matrices) {
    if (matrix->scalar_type() != dtype) {
      *matrix = torch::stable::to(*matrix, dtype);
    }
    const bool plain = matrix->dim() != 2 || ((matrix->stride(1) == 1 || matrix->size(1) <= 1) &&
                                              (matrix->stride(0) >= matrix->size(1) || matrix->size(0) <= 1));
    if (!plain) {
      *matrix = torch::stable::contiguous(*matrix);
    }
  }
}

Tensor fresh(const Tensor& like, std::initializer_list<int64_t> sizes, ScalarType dtype) {
  return torch::stable::new_empty(like, sizes, dtype);
}

Tensor workspace_of(const Tensor& like, int64_t bytes) { return fresh(like, {bytes}, ScalarType::Byte); }

// target, sorted stably, and the order that sorts it.
std::tuple<Tensor, Tensor> sorted(const Tensor& target) {
  std::array<StableIValue, 4> stack{torch::stable::detail::from(torch::stable::contiguous(target)),
                                    torch::stable::detail::from(std::optional<bool>(true)),
                                    torch::stable::detail::from(int64_t{0}), torch::stable::detail::from(false)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  return {torch::stable::detail::to<Tensor>(stack[0]), torch::stable::detail::to<Tensor>(stack[1])};
}

struct Cuda {
  static Tensor dpgd_step(const segp::DpgdArgs& args) {
    const Tensor out = torch::stable::empty_like(args.x);
    step("dpgd_step", out, args);
    return out;
  }

  static void dpgd_step_(const segp::DpgdArgs& args) { step("dpgd_step_", args.x, args); }

  static segp::Losses dual_target_loss(segp::DualTargetArgs args) {
    constexpr const char* kOp = "dual_target_loss";
    prepare(kOp, {&args.embedding, &args.feature, &args.text, &args.prototypes});
    auto params = segp::params_of(args);
    const auto results = segp::new_results(args, params, &fresh);
    const Tensor workspace = workspace_of(args.embedding, segp::cuda::dual_target_loss_workspace(params));
    run_on_device_of(kOp, args.embedding, [&](int device, void* stream) {
      return segp::cuda::dual_target_loss(params, workspace.mutable_data_ptr(), device, stream);
    });
    return results;
  }

  static segp::Losses geometry_distill(segp::DistillArgs args) {
    constexpr const char* kOp = "geometry_distill";
    prepare(kOp, {&args.student, &args.student_text, &args.teacher, &args.teacher_text});
    auto params = segp::params_of(args);
    const auto results = segp::new_results(args, params, &fresh);
    const Tensor workspace = workspace_of(args.student, segp::cuda::geometry_distill_workspace(params));
    run_on_device_of(kOp, args.student, [&](int device, void* stream) {
      return segp::cuda::geometry_distill(params, workspace.mutable_data_ptr(), device, stream);
    });
    return results;
  }

  static std::tuple<Tensor, Tensor> prototype_drift(segp::DriftArgs args) {
    constexpr const char* kOp = "prototype_drift";
    prepare(kOp, {&args.prototypes, &args.before, &args.after});
    auto params = segp::params_of(args);
    const auto results = segp::new_results(args, params, &fresh);
    const Tensor workspace = workspace_of(args.prototypes, segp::cuda::prototype_drift_workspace(params));
    run_on_device_of(kOp, args.prototypes, [&](int device, void* stream) {
      return segp::cuda::prototype_drift(params, workspace.mutable_data_ptr(), device, stream);
    });
    return results;
  }

  static Tensor prototype_transfer(segp::TransferArgs args) {
    constexpr const char* kOp = "prototype_transfer";
    prepare(kOp, {&args.prototypes, &args.before, &args.after});
    auto params = segp::params_of(args);
    const Tensor result = segp::new_results(args, params, &fresh);
    const auto [classes, order] = sorted(args.target);
    const auto* sorted_classes = static_cast<const int64_t*>(classes.const_data_ptr());
    const auto* sorted_order = static_cast<const int64_t*>(order.const_data_ptr());
    const Tensor workspace = workspace_of(args.prototypes, segp::cuda::prototype_transfer_workspace(params));
    run_on_device_of(kOp, args.prototypes, [&](int device, void* stream) {
      return segp::cuda::prototype_transfer(params, sorted_classes, sorted_order, workspace.mutable_data_ptr(), device,
                                            stream);
    });
    return result;
  }

 private:
  static void step(const char* op, const Tensor& out, const segp::DpgdArgs& args) {
    const segp::DpgdParams params = segp::dpgd_params(op, out, args);
    run_on_device_of(op, args.x,
                     [&](int device, void* stream) { return segp::cuda::dpgd_step(params, device, stream); });
  }
};

}  // namespace

#if SEGP_EMULATED_CUDA
STABLE_TORCH_LIBRARY_IMPL(segp_ext, CPU, library) { segp::register_ops<Cuda>(library); }
#else
STABLE_TORCH_LIBRARY_IMPL(segp_ext, CUDA, library) { segp::register_ops<Cuda>(library); }
#endif
