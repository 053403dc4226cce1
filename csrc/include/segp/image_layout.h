// How several arrays of one shape [B, C, H, W] lie in memory, reduced to the fewest loops.
//
// Flat: all arrays have the same dense layout (contiguous, channels_last, or any other order of the axes), so an
// element-wise kernel walks them as one run of `count` elements; the channel of element i is
// (i / channel_stride) % channels. Otherwise: up to four dimensions, outermost first, merged where all arrays
// allow it. The channel axis is kept apart only when the caller's values differ by channel.
#pragma once

#include <cstdint>

namespace segp {

template <int kArrays>
struct ImageLayout {
  static constexpr int kDims = 4;

  int64_t count = 0;  // elements
  bool flat = false;
  int64_t channel_stride = 1;  // flat: elements between two channels
  int64_t channels = 1;        // 1 when values do not differ by channel

  int dims = 0;              // not flat: dimensions in use, at least 1
  int channel_dim = -1;      // not flat: which of them is the channel, -1 if values do not differ by channel
  int64_t size[kDims] = {};  // [dims]
  int64_t stride[kArrays][kDims] = {};

  // strides: one [B, C, H, W] set per array; the first array's order of the axes decides the loops' order.
  static ImageLayout make(const int64_t (&sizes)[kDims], const int64_t* const (&strides)[kArrays], bool per_channel) {
    ImageLayout layout;
    layout.count = 1;
    for (int64_t size : sizes) {
      layout.count *= size;
    }
    if (layout.count == 0) {
      layout.flat = true;
      return layout;
    }
    layout.collect(sizes, strides, per_channel && sizes[1] > 1);
    layout.sort();
    layout.merge();
    layout.detect_flat();
    return layout;
  }

 private:
  void collect(const int64_t (&sizes)[kDims], const int64_t* const (&strides)[kArrays], bool per_channel) {
    for (int d = 0; d < kDims; ++d) {
      if (sizes[d] == 1) {
        continue;
      }
      if (d == 1 && per_channel) {
        channel_dim = dims;
        channels = sizes[d];
      }
      size[dims] = sizes[d];
      for (int a = 0; a < kArrays; ++a) {
        stride[a][dims] = strides[a][d];
      }
      ++dims;
    }
    if (dims == 0) {  // a single pixel
      size[0] = 1;
      for (int a = 0; a < kArrays; ++a) {
        stride[a][0] = 1;
      }
      dims = 1;
    }
  }

  void swap_dims(int i, int j) {
    auto exchange = [](int64_t& a, int64_t& b) {
      const int64_t kept = a;
      a = b;
      b = kept;
    };
    exchange(size[i], size[j]);
    for (int a = 0; a < kArrays; ++a) {
      exchange(stride[a][i], stride[a][j]);
    }
    if (channel_dim == i) {
      channel_dim = j;
    } else if (channel_dim == j) {
      channel_dim = i;
    }
  }

  // Insertion sort by the first array's strides, largest first.
  void sort() {
    for (int i = 1; i < dims; ++i) {
      for (int j = i; j > 0 && stride[0][j - 1] < stride[0][j]; --j) {
        swap_dims(j - 1, j);
      }
    }
  }

  bool can_merge(int outer, int inner) const {
    if (outer == channel_dim || inner == channel_dim) {
      return false;
    }
    for (int a = 0; a < kArrays; ++a) {
      if (stride[a][outer] != size[inner] * stride[a][inner]) {
        return false;
      }
    }
    return true;
  }

  void merge() {
    int last = 0;
    for (int d = 1; d < dims; ++d) {
      if (can_merge(last, d)) {
        size[last] *= size[d];
        for (int a = 0; a < kArrays; ++a) {
          stride[a][last] = stride[a][d];
        }
      } else {
        ++last;
        size[last] = size[d];
        for (int a = 0; a < kArrays; ++a) {
          stride[a][last] = stride[a][d];
        }
        if (channel_dim == d) {
          channel_dim = last;
        }
      }
    }
    dims = last + 1;
  }

  void detect_flat() {
    int64_t expected = 1;
    flat = true;
    for (int d = dims - 1; d >= 0; --d) {
      for (int a = 0; a < kArrays; ++a) {
        flat = flat && stride[a][d] == expected;
      }
      expected *= size[d];
    }
    if (flat && channel_dim >= 0) {
      channel_stride = stride[0][channel_dim];
    }
  }
};

}  // namespace segp
