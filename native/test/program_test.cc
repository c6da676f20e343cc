// A program is believed only as far as its numbers fit each other; how large its memory is does not matter here.
#include <stdexcept>

#include "../runtime/program.h"
#include "check.h"

namespace riffle::test {
namespace {

// A stem of one channel over pictures of 8 pixels, then a classifier of 2 classes: one plane of 2x2, at `place`.
std::vector<double> Words(double arena, double place) {
  const double weights = 0, bias = -1, gamma = 2, beta = 3, stem = 4, parameters = 31;
  return {
      3, 0, 1, 8, 2, parameters, 0, 1, 1e-5, 0.9, arena,       // format .. arena
      2, 2, 0, 1, place, -1, gamma, beta,                       // the plane
      0,                                                        // segments: nothing trains
      2,                                                        // steps
      0, 0, 0, 1, stem, -1, 0,                                  // the stem
      8, 8, 4, 4, 2, 0, 0, 4, 4, 2, 2, 2, 0, 0,                 // its windows
      0, 1, 2, 1, 1, 1, 0, 0, 0,                                // its input
      3, 1, 0, 0, 1, 0, weights, bias, 0,                       // the head
  };
}

}  // namespace

void TestProgram() {
  Test test("program", "decode");
  constexpr double kGiB = 1 << 30;
  for (const double arena : {192.0, 9 * kGiB, 40 * kGiB}) {
    const double last = arena - 192;  // 16 bytes of values: a pair of lines and one more
    test.Case("an arena of %g bytes", arena);
    const std::vector<double> words = Words(arena, last);
    const ProgramInfo program = DecodeProgram(words.data(), words.size());
    test.True(program.arena == static_cast<long>(arena) && program.planes[0].value == static_cast<long>(last),
              "places are taken as they are");
    const std::vector<double> beyond = Words(arena, last + 64);
    bool refused = false;
    try {
      DecodeProgram(beyond.data(), beyond.size());
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    test.True(refused, "a plane that ends a line behind the arena is refused");
  }
}

}  // namespace riffle::test
