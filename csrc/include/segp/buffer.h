// Working memory of the kernels, and fresh memory in general.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace segp {
namespace cpu {

// Fresh memory of a large array costs more than what is computed into it, as the system maps it page by page.
// Huge pages, for which most systems want to be asked, cut that to a third. Where they are not to be had, nothing
// changes.
inline void ask_for_huge_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t kHugePage = 2 << 20;
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + static_cast<uintptr_t>(bytes)) / kHugePage * kHugePage;
  if (last >= first + 4 * kHugePage) {
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#else
  (void)memory;
  (void)bytes;
#endif
}

// Uninitialised numbers, at the start of a cache line. Throws std::bad_alloc.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count) {
    const int64_t bytes = (count * static_cast<int64_t>(sizeof(T)) + kLine - 1) / kLine * kLine;
    if (bytes > 0) {
      data_ = static_cast<T*>(::operator new(static_cast<size_t>(bytes), std::align_val_t(kLine)));
      ask_for_huge_pages(data_, bytes);
    }
  }
  ~Buffer() { ::operator delete(data_, std::align_val_t(kLine)); }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr int64_t kLine = 64;
  T* data_ = nullptr;
};

}  // namespace cpu
}  // namespace segp
