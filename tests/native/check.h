// The least that a native test needs: named cases, and checks that say where they failed.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace segp_test {

struct Case {
  std::string name;
  std::function<void()> body;
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

// SEGP_TESTS=quick leaves out what only repeats a way through the code with other numbers: under sanitizers, a thread
// of the emulated CUDA costs as much as a block.
inline bool is_quick() {
  static const char* const given = std::getenv("SEGP_TESTS");
  return given != nullptr && std::strcmp(given, "quick") == 0;
}

// The values that a quick run takes: the first.
inline std::vector<double> quickly(std::vector<double> values) {
  if (is_quick()) {
    values.resize(1);
  }
  return values;
}

struct Register {
  Register(std::string name, std::function<void()> body) { cases().push_back({std::move(name), std::move(body)}); }
};

inline void check(bool holds, const char* what, const char* file, int line) {
  if (!holds && ++failures() <= 20) {
    std::fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
  }
}

}  // namespace segp_test

#define CHECK(condition) segp_test::check((condition), #condition, __FILE__, __LINE__)
#define TEST_CASE(name)                                          \
  static void name();                                            \
  static const segp_test::Register register_##name{#name, name}; \
  static void name()
