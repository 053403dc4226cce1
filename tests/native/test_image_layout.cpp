#include "check.h"
#include "segp/image_layout.h"

namespace {

using Layout = segp::ImageLayout<2>;
using Four = int64_t[4];

Layout make(const Four& size, const Four& a, const Four& b, bool per_channel) {
  return Layout::make(size, {a, b}, per_channel);
}

TEST_CASE(contiguous_is_flat) {
  const Four size = {2, 3, 4, 5};
  const Four stride = {60, 20, 5, 1};
  const Layout shared = make(size, stride, stride, false);
  CHECK(shared.flat && shared.count == 120 && shared.channels == 1);
  const Layout split = make(size, stride, stride, true);
  CHECK(split.flat && split.channels == 3 && split.channel_stride == 20);
}

TEST_CASE(channels_last_is_flat) {
  const Four size = {2, 3, 4, 5};
  const Four stride = {60, 1, 15, 3};
  const Layout split = make(size, stride, stride, true);
  CHECK(split.flat && split.channels == 3 && split.channel_stride == 1);
}

TEST_CASE(mixed_layouts_are_not_flat_but_merge) {
  const Four size = {2, 3, 4, 5};
  const Layout mixed = make(size, {60, 20, 5, 1}, {60, 1, 15, 3}, true);
  CHECK(!mixed.flat && mixed.dims == 3);
  CHECK(mixed.channel_dim == 1 && mixed.size[2] == 20);
  CHECK(mixed.stride[0][2] == 1 && mixed.stride[1][2] == 3);
}

TEST_CASE(expanded_and_sliced_are_not_flat) {
  const Four size = {2, 3, 4, 5};
  CHECK(!make(size, {60, 20, 5, 1}, {0, 20, 5, 1}, false).flat);
  CHECK(!make(size, {72, 24, 6, 1}, {72, 24, 6, 1}, false).flat);
}

TEST_CASE(axes_of_size_one_do_not_count) {
  CHECK(make({1, 3, 1, 5}, {99, 5, 77, 1}, {15, 5, 5, 1}, true).flat);
  CHECK(make({1, 1, 1, 1}, {9, 9, 9, 9}, {1, 1, 1, 1}, true).flat);
  CHECK(make({4, 1, 2, 2}, {4, 4, 2, 1}, {4, 1, 2, 1}, true).channels == 1);
}

TEST_CASE(empty_has_no_elements) {
  const Layout none = make({2, 0, 4, 5}, {0, 20, 5, 1}, {0, 20, 5, 1}, true);
  CHECK(none.count == 0 && none.flat);
}

}  // namespace
