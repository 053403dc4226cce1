// Every schema of torch.ops.segp_ext, and what the build has to say about itself.
//
// The library is no Python module: torch.ops.load_library opens it. It uses nothing of Python's C API, so it
// needs no Python headers to build and runs under any Python.
#include <torch/csrc/stable/library.h>

#include "segp_build_info.h"  // written by setup.py: SEGP_EXT_BUILD_INFO, a JSON object in one string literal

// segp_ext/ops/_native.py reads this text from the file before it loads the library, so that a library built from
// other sources is refused without having registered anything. The marker in front and the final zero delimit it.
extern "C" __attribute__((visibility("default"), used)) const char segp_ext_build_info[] =
    "segp_ext-build-info:" SEGP_EXT_BUILD_INFO;

// The four bounds have one value, or one per channel. They live on the host, so that a CUDA kernel gets them as
// arguments and no call waits for the device.
STABLE_TORCH_LIBRARY(segp_ext, library) {
  library.def(
      "dpgd_step(Tensor x, Tensor grad, Tensor seed, float[] step_size, float[] epsilon, float[] lower, "
      "float[] upper) -> Tensor");
  library.def(
      "dpgd_step_(Tensor(a!) x, Tensor grad, Tensor seed, float[] step_size, float[] epsilon, float[] lower, "
      "float[] upper) -> ()");
  // The gradients come out of the same pass as the loss: *_gradient say which are wanted, an unwanted one is an
  // empty tensor. segp_ext/ops makes them the loss's derivatives.
  library.def(
      "dual_target_loss(Tensor embedding, Tensor feature, Tensor text, Tensor prototypes, Tensor target, "
      "float logit_scale, float visual_weight, bool embedding_gradient, bool feature_gradient) "
      "-> (Tensor loss, Tensor grad_embedding, Tensor grad_feature)");
  library.def(
      "geometry_distill(Tensor student, Tensor student_text, Tensor teacher, Tensor teacher_text, "
      "float logit_scale, float temperature, bool student_gradient, bool text_gradient) "
      "-> (Tensor loss, Tensor grad_student, Tensor grad_text)");
  library.def(
      "prototype_drift(Tensor prototypes, Tensor before, Tensor after, float temperature) "
      "-> (Tensor drift, Tensor proximity)");
  library.def("prototype_transfer(Tensor prototypes, Tensor before, Tensor after, Tensor target) -> Tensor");
}
