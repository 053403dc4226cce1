#include <cstdio>

#include "../../csrc/cpu/isa.h"
#include "check.h"
#include "random.h"

int main() {
  std::printf("instruction set: %s\n", segp::cpu::isa_name(segp::cpu::isa()));
  for (const segp_test::Case& test : segp_test::cases()) {
    const int before = segp_test::failures();
    segp_test::generator() = {};
    test.body();
    std::printf("%s %s\n", segp_test::failures() == before ? "ok    " : "FAILED", test.name.c_str());
  }
  return segp_test::failures() == 0 && !segp_test::cases().empty() ? 0 : 1;
}
