// CPU implementations of the schemas in library.cpp.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "dpgd_args.h"
#include "segp/dpgd.h"

namespace {

using torch::stable::Tensor;

// Fresh memory of a large output costs more than the kernel, as the system maps it page by page. Huge pages, for
// which most systems want to be asked, cut that to a third. Where they are not to be had, nothing changes.
void ask_for_huge_pages(const Tensor& fresh) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHugePage = 2 << 20;
  const auto begin = reinterpret_cast<uintptr_t>(fresh.data_ptr());
  const uintptr_t bytes = static_cast<uintptr_t>(fresh.numel()) * fresh.element_size();
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + bytes) / kHugePage * kHugePage;
  if (last >= first + 4 * kHugePage) {
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
}

Tensor dpgd_step(const Tensor& x, const Tensor& grad, const Tensor& seed, std::vector<double> step_size,
                 std::vector<double> epsilon, std::vector<double> lower, std::vector<double> upper) {
  Tensor out = torch::stable::empty_like(x);
  ask_for_huge_pages(out);
  segp::cpu::dpgd_step(segp::dpgd_params("dpgd_step", out, x, grad, seed, step_size, epsilon, lower, upper));
  return out;
}

void dpgd_step_(Tensor x, const Tensor& grad, const Tensor& seed, std::vector<double> step_size,
                std::vector<double> epsilon, std::vector<double> lower, std::vector<double> upper) {
  segp::cpu::dpgd_step(segp::dpgd_params("dpgd_step_", x, x, grad, seed, step_size, epsilon, lower, upper));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(segp_ext, CPU, library) {
  library.impl("dpgd_step", TORCH_BOX(&dpgd_step));
  library.impl("dpgd_step_", TORCH_BOX(&dpgd_step_));
}
