// dual_target_loss against its definition.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "matrix_ops.h"

namespace {

using namespace segp_test;

template <class T>
void check_dual_target(const Sample& sample, double tolerance, Spoil<T> spoil = nullptr) {
  using Result = segp::accumulator_t<T>;
  const auto [batch, classes, width, is_scattered, size] = sample;
  Matrix<T> embedding(batch, width, is_scattered, size), feature(batch, width + 1, is_scattered, size);
  Matrix<T> text(classes, width, is_scattered, size), prototypes(classes, width + 1, is_scattered, size);
  std::vector<int64_t> target;
  for (int64_t b = 0; b < batch; ++b) {
    target.push_back((7 * b + 3) % classes);
  }
  if (batch > 2 && classes > 2) {
    embedding.fill_row(1, 0);
    feature.fill_row(0, 0);
    prototypes.fill_row(target[2], 0);
  }
  if (spoil != nullptr) {
    spoil(embedding, text);
    spoil(prototypes, feature);
  }
  std::vector<Result> loss(static_cast<size_t>(batch)), grad_embedding(static_cast<size_t>(batch * width));
  std::vector<Result> grad_feature(static_cast<size_t>(batch * (width + 1)));
  segp::DualTargetParams params{};
  params.embedding = embedding.ref();
  params.feature = feature.ref();
  params.text = text.ref();
  params.prototypes = prototypes.ref();
  params.target = target.data();
  params.target_stride = 1;
  params.logit_scale = 20;
  params.visual_weight = 0.7;
  params.loss = loss.data();
  params.grad_embedding = grad_embedding.data();
  params.grad_feature = grad_feature.data();
  run(params);

  std::vector<double> norms, feature_norms, wanted, wanted_embedding, wanted_feature;
  const Rows v = unit_rows(embedding, &norms), z = unit_rows(feature, &feature_norms);
  const Rows u = unit_rows(text), p = unit_rows(prototypes);
  for (size_t b = 0; b < v.size(); ++b) {
    const auto c = static_cast<size_t>(target[b]);
    std::vector<double> probability;
    for (const auto& row : u) {
      probability.push_back(20 * dot(v[b], row));
    }
    probability = softmax(probability);
    wanted.push_back(-std::log(probability[c]) + 0.7 * (1 - dot(z[b], p[c])));
    std::vector<double> direction(static_cast<size_t>(width)), visual;
    for (size_t k = 0; k < direction.size(); ++k) {
      for (size_t i = 0; i < u.size(); ++i) {
        direction[k] += 20 * (probability[i] - (i == c ? 1 : 0)) * u[i][k];
      }
    }
    for (double value : p[c]) {
      visual.push_back(-0.7 * value);
    }
    const auto gradient = through_norm(direction, v[b], norms[b]);
    wanted_embedding.insert(wanted_embedding.end(), gradient.begin(), gradient.end());
    const auto visual_gradient = through_norm(visual, z[b], feature_norms[b]);
    wanted_feature.insert(wanted_feature.end(), visual_gradient.begin(), visual_gradient.end());
  }
  CHECK(close(loss, wanted, tolerance));
  if (spoil == nullptr) {
    CHECK(close(grad_embedding, wanted_embedding, tolerance));
    CHECK(close(grad_feature, wanted_feature, tolerance));
  } else {
    CHECK(close_rows(grad_embedding, wanted_embedding, width, tolerance));
    CHECK(close_rows(grad_feature, wanted_feature, width + 1, tolerance));
  }

  if (batch > 3) {
    target[3] = classes;
    target[0] = -1;
    run(params);
    for (int64_t b : {int64_t{0}, int64_t{3}}) {
      const auto row = static_cast<size_t>(b);
      CHECK(std::isnan(loss[row]) && std::isnan(grad_embedding[row * static_cast<size_t>(width)]) &&
            std::isnan(grad_feature[row * static_cast<size_t>(width + 1)]));
    }
    CHECK(std::isfinite(loss[1]) && std::isfinite(loss[2]));
  }
}

TEST_CASE(dual_target_is_its_definition) {
  for (Sample sample : samples()) {
    check_dual_target<segp::Half>(sample, kHalf);
    check_dual_target<segp::BFloat16>(sample, kBFloat);
    for (double size : sizes()) {
      sample.size = size;
      check_dual_target<float>(sample, 5e-6);
      check_dual_target<double>(sample, 1e-13);
    }
  }
}

TEST_CASE(dual_target_of_rows_far_apart_in_size) {
  check_dual_target<segp::Half>({8, 20, 64}, kHalf, kSomeTiny);
  check_dual_target<segp::BFloat16>({8, 20, 64}, kBFloat, kSomeTiny);
  check_dual_target<float>({8, 20, 64}, 1e-5, kExtreme);
}

#if SEGP_EMULATED_CUDA
TEST_CASE(dual_target_in_several_blocks) {  // the tile is 10 KiB here
  check_dual_target<segp::Half>({33, 90, 64}, kHalf);
}

// What the largest value is compared with must be the number that it is, whatever the compiler does with a * b - c.
TEST_CASE(a_sharp_loss_is_that_of_its_largest_value) {
  for (double scale : {1e6, 1e4, 100.0}) {
    const Matrix<float> image(1, 8), others(40, 8), prototypes(41, 8);
    Matrix<float> texts(41, 8);
    for (int64_t i = 0; i < 41 * 8; ++i) {
      texts.data[static_cast<size_t>(i)] =
          i < 8 ? image.data[static_cast<size_t>(i)] : others.data[static_cast<size_t>(i - 8)];
    }
    const int64_t target = 0;
    std::vector<float> loss(1), gradient(8), rest(8);
    run(segp::DualTargetParams{image.ref(), image.ref(), texts.ref(), prototypes.ref(), &target, 1, scale, 0,
                               loss.data(), gradient.data(), rest.data()});
    CHECK(loss[0] >= 0 && loss[0] <= 1e-4);  // the nearest text is the image itself
    CHECK(std::all_of(gradient.begin(), gradient.end(), [](float x) { return std::fabs(x) <= 1e-2f; }));
  }
}

TEST_CASE(a_small_loss_is_never_negative) {
  for (double scale : {20.0, 39.9, 40.1}) {
    Matrix<float> image(4, 3), text(20, 3);
    for (int64_t c = 0; c < 20; ++c) {
      text.set(c, 0, c == 2 ? 0.31 : -0.7);
      text.set(c, 1, std::sqrt(1 - (c == 2 ? 0.31 * 0.31 : 0.49)));
      text.set(c, 2, 0);
    }
    for (int64_t b = 0; b < 4; ++b) {
      image.set(b, 0, 1 + 0.01 * static_cast<double>(b));
      image.set(b, 1, 0);
      image.set(b, 2, 0);
    }
    const std::vector<int64_t> target(4, 2);
    std::vector<float> loss(4), gradient(12), rest(12);
    run(segp::DualTargetParams{image.ref(), image.ref(), text.ref(), text.ref(), target.data(), 1, scale, 0,
                               loss.data(), gradient.data(), rest.data()});
    CHECK(std::all_of(loss.begin(), loss.end(), [](float x) { return x >= 0 && x <= 1e-6f; }) || scale == 20.0);
    CHECK(std::all_of(loss.begin(), loss.end(), [](float x) { return x >= 0 && x <= 1e-5f; }));
  }
}
#else
TEST_CASE(dual_target_in_several_blocks) {
  check_dual_target<float>({100, 40000, 6}, 1e-5);
  check_dual_target<segp::BFloat16>({5, 1500, 512}, 1e-5);
  check_dual_target<float>({1500, 9, 1500, true}, 1e-5);
}
#endif

TEST_CASE(images_without_columns_are_like_all_texts) {
  const Matrix<float> images(60, 0), texts(70, 0), features(60, 3), prototypes(70, 3);
  const std::vector<int64_t> target(60);
  std::vector<float> losses(60), feature_gradient(180);
  run(segp::DualTargetParams{images.ref(), features.ref(), texts.ref(), prototypes.ref(), target.data(), 1, 20, 0,
                             losses.data(), nullptr, feature_gradient.data()});
  CHECK(close(losses, std::vector<double>(60, std::log(70.0)), 1e-6));
}

}  // namespace
