// A small generator of its own, so that the numbers are the same with every standard library.
#pragma once

#include <cstdint>

namespace segp_test {

class Random {
 public:
  // In [0, 1).
  double uniform() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<double>(state_ >> 11) / 9007199254740992.0;
  }

 private:
  uint64_t state_ = 0x2545f4914f6cdd1dull;
};

// Begun anew for every test case: none sees what others draw.
inline Random& generator() {
  static Random only;
  return only;
}

inline double uniform() { return generator().uniform(); }

}  // namespace segp_test
