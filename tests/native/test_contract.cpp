// What the ops refuse, and in which words.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "segp/distill.h"
#include "segp/dpgd.h"
#include "segp/drift.h"
#include "segp/dual_target.h"
#include "segp/transfer.h"

namespace {

segp::MatrixRef matrix(int64_t rows, int64_t cols) { return {nullptr, segp::DType::kFloat32, rows, cols, cols, 1}; }

template <class Call>
std::string complaint(const Call& call) {
  try {
    call();
  } catch (const segp::OpError& error) {
    return error.what();
  }
  return "";
}

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST_CASE(distill_names_what_does_not_fit) {
  segp::DistillParams sound{};
  sound.student = sound.teacher = matrix(7, 13);
  sound.student_text = sound.teacher_text = matrix(5, 13);
  sound.logit_scale = 0;
  sound.temperature = 1e-6;
  CHECK(complaint([&] { check(sound); }).empty());
  const auto said = [&](auto&& breaks) {
    segp::DistillParams broken = sound;
    breaks(broken);
    return complaint([&] { check(broken); });
  };
  CHECK(said([](auto& p) { p.teacher = matrix(6, 13); }) ==
        "geometry_distill: teacher must be [B, De] like student; got [6, 13] and [7, 13]");
  CHECK(said([](auto& p) { p.teacher_text = matrix(5, 12); }) ==
        "geometry_distill: teacher_text must be [C, De] like student_text; got [5, 12] and [5, 13]");
  CHECK(said([](auto& p) { p.student_text = p.teacher_text = matrix(5, 12); }) ==
        "geometry_distill: student_text must have the width of student, 13; got [5, 12]");
  CHECK(said([](auto& p) { p.logit_scale = -1; }) == "geometry_distill: logit_scale must be from 0 to 1e+06; got -1");
  CHECK(said([](auto& p) { p.logit_scale = kNan; }) ==
        "geometry_distill: logit_scale must be from 0 to 1e+06; got nan");
  CHECK(said([](auto& p) { p.temperature = 0; }) == "geometry_distill: temperature must be from 1e-06 to 1e+06; got 0");
}

TEST_CASE(dual_target_names_what_does_not_fit) {
  segp::DualTargetParams sound{};
  sound.embedding = matrix(7, 13);
  sound.feature = matrix(7, 11);
  sound.text = matrix(5, 13);
  sound.prototypes = matrix(5, 11);
  sound.visual_weight = -1e6;
  CHECK(complaint([&] { check(sound, 7); }).empty());
  const auto said = [&](auto&& breaks, int64_t targets = 7) {
    segp::DualTargetParams broken = sound;
    breaks(broken);
    return complaint([&] { check(broken, targets); });
  };
  CHECK(said([](auto& p) { p.text = matrix(5, 12); }) ==
        "dual_target_loss: text must have the width of embedding, 13; got [5, 12]");
  CHECK(said([](auto& p) { p.prototypes = matrix(5, 12); }) ==
        "dual_target_loss: prototypes must have the width of feature, 11; got [5, 12]");
  CHECK(said([](auto& p) { p.feature = matrix(6, 11); }) ==
        "dual_target_loss: feature must have a row per row of embedding, 7; got [6, 11]");
  CHECK(said([](auto& p) { p.prototypes = matrix(4, 11); }) ==
        "dual_target_loss: prototypes must have a row per row of text, 5; got [4, 11]");
  CHECK(said([](auto&) {}, 6) == "dual_target_loss: target must be [7], one class per row; got [6]");
  const auto no_class = [](auto& p) {
    p.text = matrix(0, 13);
    p.prototypes = matrix(0, 11);
  };
  CHECK(said(no_class) == "dual_target_loss: text must have at least one class; got [0, 13]");
  CHECK(said(
            [&](auto& p) {
              no_class(p);
              p.embedding = matrix(0, 13);
              p.feature = matrix(0, 11);
            },
            0)
            .empty());
  CHECK(said([](auto& p) { p.logit_scale = 2e6; }) ==
        "dual_target_loss: logit_scale must be from 0 to 1e+06; got 2e+06");
  CHECK(said([](auto& p) { p.visual_weight = kNan; }) ==
        "dual_target_loss: visual_weight must be from -1e+06 to 1e+06; got nan");
}

TEST_CASE(drift_names_what_does_not_fit) {
  segp::DriftParams sound{};
  sound.prototypes = matrix(5, 13);
  sound.before = sound.after = matrix(7, 13);
  sound.temperature = 1e6;
  CHECK(complaint([&] { check(sound); }).empty());
  const auto said = [&](auto&& breaks) {
    segp::DriftParams broken = sound;
    breaks(broken);
    return complaint([&] { check(broken); });
  };
  CHECK(said([](auto& p) { p.before = p.after = matrix(7, 12); }) ==
        "prototype_drift: before must have the width of prototypes, 13; got [7, 12]");
  CHECK(said([](auto& p) { p.after = matrix(6, 13); }) ==
        "prototype_drift: after must be [A, Dr] like before; got [6, 13] and [7, 13]");
  CHECK(said([](auto& p) { p.temperature = -0.1; }) ==
        "prototype_drift: temperature must be from 1e-06 to 1e+06; got -0.1");
}

TEST_CASE(transfer_names_what_does_not_fit) {
  segp::TransferParams params{matrix(5, 13), matrix(7, 13), matrix(7, 13), nullptr};
  CHECK(complaint([&] { check(params, 7); }).empty());
  CHECK(complaint([&] { check(params, 6); }) ==
        "prototype_transfer: target must be [7], one class per anchor; got [6]");
  params.after = matrix(7, 12);
  CHECK(complaint([&] { check(params, 7); }) ==
        "prototype_transfer: after must be [A, Dr] like before; got [7, 12] and [7, 13]");
  params = {matrix(0, 13), matrix(7, 13), matrix(7, 13), nullptr};
  CHECK(complaint([&] { check(params, 7); }) ==
        "prototype_transfer: prototypes must have at least one class; got [0, 13]");
}

TEST_CASE(a_class_out_of_range_is_named) {
  const std::vector<int64_t> target{0, 9, 4, 9, 5, 9, -1};
  const auto said = [&](int64_t count, int64_t stride, int64_t classes) {
    return complaint([&] { segp::check_range("op", target.data(), count, stride, classes); });
  };
  CHECK(said(2, 2, 5).empty());
  CHECK(said(0, 1, 0).empty());
  CHECK(said(4, 2, 5) == "op: target must be in [0, 5); got 5 at index 2");
  CHECK(said(4, 2, 6) == "op: target must be in [0, 6); got -1 at index 3");
}

TEST_CASE(dpgd_names_what_does_not_fit) {
  segp::DpgdParams params{};
  const int64_t sizes[] = {2, 3, 4, 5};
  CHECK(complaint([&] { set_size(params, "op", {sizes, 3}); }) == "op: x must be [B, C, H, W]; got [2, 3, 4]");
  set_size(params, "op", {sizes, 4});
  CHECK(complaint([&] { check_size(params, "op", "grad", {sizes, 4}); }).empty());
  const int64_t other[] = {2, 3, 4, 6};
  CHECK(complaint([&] { check_size(params, "op", "grad", {other, 4}); }) ==
        "op: grad must be [2, 3, 4, 5] like x; got [2, 3, 4, 6]");
  CHECK(complaint([&] { check_size(params, "op", "seed", {sizes, 3}); }) ==
        "op: seed must be [2, 3, 4, 5] like x; got [2, 3, 4]");

  const auto said = [&](std::vector<double> step_size, std::vector<double> epsilon, std::vector<double> lower,
                        std::vector<double> upper) {
    params.step_size = {step_size.data(), static_cast<int64_t>(step_size.size())};
    params.epsilon = {epsilon.data(), static_cast<int64_t>(epsilon.size())};
    params.lower = {lower.data(), static_cast<int64_t>(lower.size())};
    params.upper = {upper.data(), static_cast<int64_t>(upper.size())};
    return complaint([&] { check(params, "op"); });
  };
  CHECK(said({0.1}, {0, 0.1, 0.2}, {-1}, {1, 2, 3}).empty());
  CHECK(said({0.1, 0.2}, {0.1}, {0}, {1}) == "op: step_size must have 1 or 3 values, one per channel; got 2");
  CHECK(said({-0.5}, {0.1}, {0}, {1}) == "op: step_size must be finite and >= 0; got -0.500000");
  CHECK(said({0.1}, {0.1, kNan, 0.1}, {0}, {1}) == "op: epsilon must be finite and >= 0; got nan");
  CHECK(said({0.1}, {0.1}, {-INFINITY}, {1}) == "op: lower must be finite; got -inf");
  CHECK(said({0.1}, {0.1}, {0}, {INFINITY}) == "op: upper must be finite; got inf");
  CHECK(said({0.1}, {0.1}, {0.5}, {1, 0.25, 1}) == "op: lower must be <= upper; got 0.500000 and 0.250000");
}

}  // namespace
