#include <cuda_runtime.h>

#include <algorithm>

#include "launch.cuh"
#include "segp/dpgd.h"
#include "segp/dpgd_pixel.h"
#include "segp/image_layout.h"
#include "vec_io.cuh"

namespace segp {
namespace cuda {
namespace {

using Layout = ImageLayout<4>;  // arrays: out, x, grad, seed

constexpr int kThreads = 256;
// Bounds travel as kernel arguments, so that a call needs neither a copy to the device nor memory. 64 channels of
// doubles take 2 KiB of the 4 KiB that arguments may have; images with more run in groups of channels.
constexpr int kMaxChannels = 64;

// Where arrays differ in their layout, a thread walks up to so many channels of its pixel. Whatever the layouts,
// neighbours in memory are then read by one thread or by neighbouring ones.
constexpr int kMostWalked = 8;

template <class T, class G>
struct KernelArgs {
  T* out;
  const T* x;
  const G* grad;
  const T* seed;
  Layout layout;
  Bounds<accumulator_t<T>> bounds[kMaxChannels];  // [layout.channels]
};

template <class T, class G>
__device__ __forceinline__ void step_element(T& out, T x, G grad, T seed, const Bounds<accumulator_t<T>>& bounds) {
  device_store(out, dpgd_pixel<accumulator_t<T>>(device_load(x), device_load(grad), device_load(seed), bounds));
}

// Where neighbouring threads are at different channels, bounds come from shared memory: arguments are read for one
// address at a time. All threads of the block must make it.
template <class T, class G>
class BoundsOf {
 public:
  using Acc = accumulator_t<T>;

  __device__ __forceinline__ explicit BoundsOf(const KernelArgs<T, G>& args) : args_(args), shared_(table()) {
    if (args.layout.channels > 1) {
      if (threadIdx.x < args.layout.channels) {
        shared_[threadIdx.x] = args.bounds[threadIdx.x];
      }
      __syncthreads();
    }
  }

  __device__ __forceinline__ Bounds<Acc> operator[](int channel) const {
    return args_.layout.channels > 1 ? shared_[channel] : args_.bounds[0];
  }

 private:
  __device__ __forceinline__ static Bounds<Acc>* table() {
    __shared__ Bounds<Acc> bounds[kMaxChannels];
    return bounds;
  }

  const KernelArgs<T, G>& args_;
  Bounds<Acc>* shared_;
};

// Walks the channel of consecutive elements of a flat layout: one division at the start, none after.
struct ChannelWalk {
  int64_t inside;  // elements since the channel began
  int channel;

  __device__ __forceinline__ ChannelWalk(const Layout& layout, int64_t element) : inside(0), channel(0) {
    if (layout.channels == 1) {
      return;
    }
    int64_t row;
    if (layout.count <= UINT32_MAX) {  // 32-bit division is several times cheaper
      row = static_cast<uint32_t>(element) / static_cast<uint32_t>(layout.channel_stride);
      channel = static_cast<int>(static_cast<uint32_t>(row) % static_cast<uint32_t>(layout.channels));
    } else {
      row = element / layout.channel_stride;
      channel = static_cast<int>(row % layout.channels);
    }
    inside = element - row * layout.channel_stride;
  }

  __device__ __forceinline__ void advance(const Layout& layout) {
    if (layout.channels > 1 && ++inside == layout.channel_stride) {
      inside = 0;
      channel = channel + 1 == layout.channels ? 0 : channel + 1;
    }
  }
};

// Flat layout. One thread owns kWidth consecutive elements, 16 bytes of x; the threads after the last whole pack
// own one element of the rest each. kWidth = 1 is the scalar twin, for pointers that are not aligned.
template <class T, class G, int kWidth>
__global__ void __launch_bounds__(kThreads) dpgd_flat_kernel(const __grid_constant__ KernelArgs<T, G> args) {
  const BoundsOf<T, G> bounds(args);
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t packs = args.layout.count / kWidth;
  if (thread < packs) {
    const int64_t first = thread * kWidth;
    const Pack<T, kWidth> x = *reinterpret_cast<const Pack<T, kWidth>*>(args.x + first);
    const Pack<G, kWidth> grad = *reinterpret_cast<const Pack<G, kWidth>*>(args.grad + first);
    const Pack<T, kWidth> seed = *reinterpret_cast<const Pack<T, kWidth>*>(args.seed + first);
    Pack<T, kWidth> out;
    ChannelWalk walk(args.layout, first);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      step_element(out.values[k], x.values[k], grad.values[k], seed.values[k], bounds[walk.channel]);
      walk.advance(args.layout);
    }
    *reinterpret_cast<Pack<T, kWidth>*>(args.out + first) = out;
  } else {
    const int64_t i = packs * kWidth + (thread - packs);
    if (i < args.layout.count) {
      const ChannelWalk walk(args.layout, i);
      step_element(args.out[i], args.x[i], args.grad[i], args.seed[i], bounds[walk.channel]);
    }
  }
}

// How many channels of a layout with strides a thread of its kernel walks.
SEGP_HOST_DEVICE int walked(const Layout& layout) {
  return layout.channel_dim >= 0 && layout.channels <= kMostWalked ? static_cast<int>(layout.channels) : 1;
}

// Any strides. One thread owns one pixel with all its channels or, where they are many, one element; its place is found
// by dividing its index by the sizes of the inner dimensions.
template <class T, class G>
__global__ void __launch_bounds__(kThreads) dpgd_strided_kernel(const __grid_constant__ KernelArgs<T, G> args) {
  const Layout& layout = args.layout;
  const int walk = walked(layout);
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const bool is_inside = thread < layout.count / walk;
  int64_t rest = is_inside ? thread : 0;
  int64_t offset[4] = {0, 0, 0, 0};
  int channel = 0;
#pragma unroll
  for (int d = Layout::kDims - 1; d >= 0; --d) {
    if (d < layout.dims && !(walk > 1 && d == layout.channel_dim)) {
      int64_t index;
      if (layout.count <= UINT32_MAX) {  // 32-bit division is several times cheaper
        const uint32_t quotient = static_cast<uint32_t>(rest) / static_cast<uint32_t>(layout.size[d]);
        index = static_cast<uint32_t>(rest) - quotient * static_cast<uint32_t>(layout.size[d]);
        rest = quotient;
      } else {
        index = rest % layout.size[d];
        rest /= layout.size[d];
      }
      if (d == layout.channel_dim) {
        channel = static_cast<int>(index);
      }
#pragma unroll
      for (int a = 0; a < 4; ++a) {
        offset[a] += index * layout.stride[a][d];
      }
    }
  }
  if (walk == 1) {
    const BoundsOf<T, G> bounds(args);
    if (is_inside) {
      step_element(args.out[offset[0]], args.x[offset[1]], args.grad[offset[2]], args.seed[offset[3]], bounds[channel]);
    }
  } else if (is_inside) {
    for (int c = 0; c < walk; ++c) {
      step_element(args.out[offset[0]], args.x[offset[1]], args.grad[offset[2]], args.seed[offset[3]], args.bounds[c]);
#pragma unroll
      for (int a = 0; a < 4; ++a) {
        offset[a] += layout.stride[a][layout.channel_dim];
      }
    }
  }
}

template <class T, class G, int kWidth>
bool is_aligned(const KernelArgs<T, G>& args) {
  return is_aligned_for_pack<T, kWidth>(args.out) && is_aligned_for_pack<T, kWidth>(args.x) &&
         is_aligned_for_pack<G, kWidth>(args.grad) && is_aligned_for_pack<T, kWidth>(args.seed);
}

unsigned blocks_for(int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

template <class T, class G>
cudaError_t launch_group(const KernelArgs<T, G>& args, cudaStream_t stream) {
  constexpr int kWidth = kVectorBytes / static_cast<int>(sizeof(T));
  const int64_t count = args.layout.count;
  if (!args.layout.flat) {
    launch(dpgd_strided_kernel<T, G>, blocks_for(count / walked(args.layout)), kThreads, stream, args);
  } else if (is_aligned<T, G, kWidth>(args)) {
    const int64_t threads = count / kWidth + count % kWidth;
    launch(dpgd_flat_kernel<T, G, kWidth>, blocks_for(threads), kThreads, stream, args);
  } else {
    launch(dpgd_flat_kernel<T, G, 1>, blocks_for(count), kThreads, stream, args);
  }
  return cudaGetLastError();
}

// Channels [first, first + channels) of the images; `channels` is 1 in `layout` when they share their bounds.
template <class T, class G>
cudaError_t launch_channels(const DpgdParams& params, const Layout& layout, int64_t first, cudaStream_t stream) {
  KernelArgs<T, G> args;
  args.out = static_cast<T*>(params.out) + first * params.out_stride[1];
  args.x = static_cast<const T*>(params.x) + first * params.x_stride[1];
  args.grad = static_cast<const G*>(params.grad) + first * params.grad_stride[1];
  args.seed = static_cast<const T*>(params.seed) + first * params.seed_stride[1];
  args.layout = layout;
  for (int64_t c = 0; c < layout.channels; ++c) {
    args.bounds[c] = bounds_of<T>(params, first + c);
  }
  return launch_group(args, stream);
}

template <class T, class G>
cudaError_t launch_all(const DpgdParams& params, cudaStream_t stream) {
  const bool per_channel = has_bounds_per_channel(params);
  const int64_t channels = params.size[1];
  const int64_t group = per_channel ? std::min<int64_t>(channels, kMaxChannels) : channels;
  for (int64_t first = 0; first < channels; first += group) {
    const int64_t taken = std::min(group, channels - first);
    const int64_t size[kImageDims] = {params.size[0], taken, params.size[2], params.size[3]};
    const int64_t* const strides[] = {params.out_stride, params.x_stride, params.grad_stride, params.seed_stride};
    Layout layout = Layout::make(size, strides, per_channel);
    if (!layout.flat && !per_channel && taken <= kMostWalked) {
      layout = Layout::make(size, strides, true);
    }
    if (layout.count == 0) {
      return cudaSuccess;
    }
    const cudaError_t status = launch_channels<T, G>(params, layout, first, stream);
    if (status != cudaSuccess) {
      return status;
    }
  }
  return cudaSuccess;
}

}  // namespace

int dpgd_step(const DpgdParams& params, int device, void* stream) {
  // This library has a CUDA runtime of its own (linked statically), which learns here about the device that the
  // caller's runtime has made current.
  cudaError_t status = cudaSetDevice(device);
  if (status != cudaSuccess) {
    return status;
  }
  visit_dtype(params.dtype, [&](auto value_tag) {
    visit_dtype(params.grad_dtype, [&](auto grad_tag) {
      status = launch_all<typename decltype(value_tag)::type, typename decltype(grad_tag)::type>(
          params, static_cast<cudaStream_t>(stream));
    });
  });
  return status;
}

const char* status_text(int status) { return cudaGetErrorString(static_cast<cudaError_t>(status)); }

}  // namespace cuda
}  // namespace segp
