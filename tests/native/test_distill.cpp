// geometry_distill against its definition.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "matrix_ops.h"

namespace {

using namespace segp_test;

template <class T>
void check_distill(const Sample& sample, double tolerance, Spoil<T> spoil = nullptr, double sharpness = 15) {
  using Result = segp::accumulator_t<T>;
  const auto [batch, classes, width, is_scattered, size] = sample;
  Matrix<T> student(batch, width, is_scattered, size), student_text(classes, width, is_scattered, size);
  Matrix<T> teacher(batch, width, is_scattered, size), teacher_text(classes, width, is_scattered, size);
  if (batch > 2 && classes > 2) {
    student.fill_row(1, 0);
    student_text.fill_row(2, 0);
    teacher.fill_row(2, 0);
  }
  if (spoil != nullptr) {
    spoil(student, student_text);
    spoil(teacher_text, teacher);
  }
  Result loss = -1;
  std::vector<Result> grad_student(static_cast<size_t>(batch * width)), grad_text(static_cast<size_t>(classes * width));
  segp::DistillParams params{};
  params.student = student.ref();
  params.student_text = student_text.ref();
  params.teacher = teacher.ref();
  params.teacher_text = teacher_text.ref();
  params.logit_scale = 2 * sharpness;
  params.temperature = 2;
  params.loss = &loss;
  params.grad_student = grad_student.data();
  params.grad_student_text = grad_text.data();
  run(params);

  std::vector<double> norms, text_norms;
  const Rows s = unit_rows(student, &norms), u = unit_rows(student_text, &text_norms);
  const Rows t = unit_rows(teacher), v = unit_rows(teacher_text);
  Rows text_direction(static_cast<size_t>(classes), std::vector<double>(static_cast<size_t>(width)));
  std::vector<double> wanted_student, wanted_text;
  double wanted = 0;
  for (size_t b = 0; b < s.size(); ++b) {
    std::vector<double> p, q;
    for (size_t c = 0; c < u.size(); ++c) {
      p.push_back(sharpness * dot(s[b], u[c]));
      q.push_back(sharpness * dot(t[b], v[c]));
    }
    p = softmax(p);
    q = softmax(q);
    std::vector<double> direction(static_cast<size_t>(width));
    for (size_t c = 0; c < u.size(); ++c) {
      wanted += 4 * q[c] * std::log(q[c] / p[c]) / static_cast<double>(batch);
      const double weight = 4 * sharpness * (p[c] - q[c]) / static_cast<double>(batch);
      for (size_t k = 0; k < direction.size(); ++k) {
        direction[k] += weight * u[c][k];
        text_direction[c][k] += weight * s[b][k];
      }
    }
    const auto gradient = through_norm(direction, s[b], norms[b]);
    wanted_student.insert(wanted_student.end(), gradient.begin(), gradient.end());
  }
  for (size_t c = 0; c < u.size(); ++c) {
    const auto gradient = through_norm(text_direction[c], u[c], text_norms[c]);
    wanted_text.insert(wanted_text.end(), gradient.begin(), gradient.end());
  }
  CHECK(close(std::vector<Result>{loss}, {wanted}, tolerance));
  if (spoil == nullptr) {
    CHECK(close(grad_student, wanted_student, tolerance));
    CHECK(close(grad_text, wanted_text, tolerance));
  } else {
    CHECK(close_rows(grad_student, wanted_student, width, tolerance));
    CHECK(close_rows(grad_text, wanted_text, width, tolerance));
  }

  const Result before = loss;
  params.grad_student = params.grad_student_text = nullptr;
  run(params);
  CHECK(loss == before);

  params.student = teacher.ref();  // nothing is left but the square of a rounding
  params.student_text = teacher_text.ref();
  run(params);
  CHECK(loss >= 0 && loss <= 1e-10);
}

TEST_CASE(distill_is_its_definition) {
  for (Sample sample : samples()) {
    check_distill<segp::Half>(sample, kHalf);
    check_distill<segp::BFloat16>(sample, kBFloat);
    for (double size : sizes()) {
      sample.size = size;
      check_distill<float>(sample, 5e-6);
      check_distill<double>(sample, 1e-13);
    }
  }
}

TEST_CASE(distill_of_rows_far_apart_in_size) {
  check_distill<segp::Half>({8, 20, 64}, kHalf, kSomeTiny);
  check_distill<segp::BFloat16>({8, 20, 64}, kBFloat, kSomeTiny);
  check_distill<float>({8, 20, 64}, 1e-5, kExtreme);
  const auto all_tiny = [](auto& rows, auto&) {
    for (int64_t i = 0; i < rows.rows; ++i) {
      rows.scale_row(i, 1e-21);
    }
  };
  check_distill<float>({8, 20, 64}, 1e-5, all_tiny);
  const auto all_large = [](auto& rows, auto&) {
    for (int64_t i = 0; i < rows.rows; ++i) {
      rows.scale_row(i, 1e19);
    }
  };
  check_distill<float>({8, 20, 64}, 1e-5, all_large);
}

#if SEGP_EMULATED_CUDA
TEST_CASE(distill_in_several_blocks) {  // the tile is 10 KiB here
  check_distill<float>({33, 90, 64}, 5e-6);
  check_distill<segp::BFloat16>({33, 90, 64}, kBFloat);
  check_distill<segp::Half>({33, 90, 64}, kHalf);
}

// What the largest value is compared with must be the number that it is, whatever the compiler does with a * b - c.
TEST_CASE(a_sharp_divergence_is_that_of_its_largest_values) {
  for (const auto& [scale, temperature] :
       {std::pair{1e6, 1e-6}, std::pair{1e4, 1e-6}, std::pair{100.0, 1e-6}, std::pair{1e6, 1.0}}) {
    for (int64_t classes : {int64_t{1}, int64_t{40}}) {
      const Matrix<float> student(3, 8), text(classes, 8), teacher(3, 8), teacher_text(classes, 8);
      std::vector<float> gradient(24), text_gradient(static_cast<size_t>(classes * 8));
      float loss = -1;
      run(segp::DistillParams{student.ref(), text.ref(), teacher.ref(), teacher_text.ref(), scale, temperature, &loss,
                              gradient.data(), text_gradient.data()});
      CHECK(loss >= 0 && std::isfinite(loss));
      for (const auto& values : {gradient, text_gradient}) {
        CHECK(std::all_of(values.begin(), values.end(),
                          [&](float x) { return classes == 1 ? x == 0 : std::isfinite(x); }));
      }
      CHECK(classes > 1 || loss == 0);
    }
  }
}

TEST_CASE(equal_sides_have_no_gradient) {
  for (double scale : {20.0, 100.0}) {
    for (int64_t classes : {int64_t{2}, int64_t{40}}) {
      const Matrix<float> rows(9, 16), text(classes, 16);
      std::vector<float> gradient(144, 1.0f), text_gradient(static_cast<size_t>(classes * 16), 1.0f);
      float loss = -1;
      run(segp::DistillParams{rows.ref(), text.ref(), rows.ref(), text.ref(), scale, 1, &loss, gradient.data(),
                              text_gradient.data()});
      CHECK(loss == 0 && std::count(gradient.begin(), gradient.end(), 0.0f) == 144 &&
            std::count(text_gradient.begin(), text_gradient.end(), 0.0f) == classes * 16);
    }
  }
}

TEST_CASE(many_flat_classes_keep_their_digits_in_half_types) {
  if (is_quick()) {
    return;
  }
  const auto a_tiny_row = [](auto& rows, auto&) { rows.scale_row(1, 1e-3); };
  const auto a_tiny_text = [](auto& rows, auto& others) {
    if (others.rows > rows.rows) {  // of the student; the teacher's come the other way round
      others.scale_row(7, 1e-3);
    }
  };
  check_distill<segp::Half>({2, 20000, 16}, kHalf, a_tiny_row, 1.0);
  check_distill<segp::Half>({2, 20000, 16}, 2 * kHalf, a_tiny_text, 1.0);
}
#else
TEST_CASE(distill_in_several_blocks_of_rows_and_of_classes) {
  check_distill<float>({60, 30000, 6}, 1e-5);
  check_distill<segp::BFloat16>({5, 1500, 512}, 1e-5);
  check_distill<float>({1500, 9, 1500, true}, 1e-5);
}
#endif

TEST_CASE(nothing_to_distill) {
  check_distill<float>({0, 3, 4}, 0);
  check_distill<float>({0, 1100, 4}, 0);
  check_distill<segp::Half>({0, 1100, 4}, 0);
  check_distill<float>({3, 3, 0}, 1e-6);
  check_distill<float>({60, 70, 0}, 1e-6);  // of several blocks

  float loss = -1;
  std::vector<float> gradient(8, 5.0f), rest(1);
  const Matrix<float> rows(2, 4), none(0, 4);
  segp::DistillParams params{rows.ref(), none.ref(), rows.ref(), none.ref(), 1, 1, &loss, gradient.data(), rest.data()};
  run(params);
  CHECK(loss == 0 && std::count(gradient.begin(), gradient.end(), 0.0f) == 8);
  const Matrix<float> many(1100, 4);
  std::vector<float> gradients(4400, 5.0f);
  params = {many.ref(), none.ref(), many.ref(), none.ref(), 1, 1, &loss, gradients.data(), rest.data()};
  run(params);
  CHECK(loss == 0 && std::count(gradients.begin(), gradients.end(), 0.0f) == 4400);
}

}  // namespace
