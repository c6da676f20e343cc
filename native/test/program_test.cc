// A program is believed only as far as its numbers fit each other; how large its memory is does not matter here.
#include <stdexcept>

#include "../runtime/program.h"
#include "check.h"

namespace riffle::test {
namespace {

// A stem of one channel over pictures of 8 pixels, then a classifier of 2 classes: one plane of 2x2, at `place`.
// Where it trains, the gradient lies behind the values and the buckets follow.
std::vector<double> Words(double arena, double place, const std::vector<double>& buckets = {}) {
  const double trains = buckets.empty() ? 0 : 1;
  const double weights = 0, bias = -1, gamma = 2, beta = 3, stem = 4, parameters = 31;
  std::vector<double> words = {
      7, trains, 1, 8, 2, parameters, trains * parameters, 1, 1e-5, 0.9, 0, arena,  // format .. arena
      2, 2, 0, 1, place, trains != 0 ? place + 192 : -1, gamma, beta,            // the plane
      1, trains * parameters, 1, 1,                                              // what trains decays, at the rate itself
      2,                                                        // steps
      0, 0, 0, 1, stem, -1, trains,                                 // the stem
      8, 8, 4, 4, 2, 0, 0, 4, 4, 2, 2, 2, 0, 0,                 // its windows
      0, 1, 2, 1, 1, 1, 0, 0, 0,                                // its input
      0, 0, 0,                                                  // its cut
      3, 1, 0, 0, 1, 0, weights, bias, trains,                  // the head
      0, 0, 0,                                                  // its cut
      static_cast<double>(buckets.size() / 2),                  // each its end and its step
  };
  words.insert(words.end(), buckets.begin(), buckets.end());
  return words;
}

bool Refused(const std::vector<double>& words) {
  try {
    DecodeProgram(words.data(), words.size());
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
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
    test.True(Refused(Words(arena, last + 64)), "a plane that ends a line behind the arena is refused");
  }
  test.Case("cuts");
  // The last three words before the number of buckets are the head's, which has nothing to cut.
  const std::vector<double> uncut = Words(192, 0);
  for (size_t back = 2; back <= 4; ++back) {
    std::vector<double> cut = uncut;
    cut[cut.size() - back] = 1;
    test.True(Refused(cut), "a cut of a step that has none is refused");
  }
  test.Case("buckets");
  const std::vector<double> words = Words(384, 0, {2, 1, 31, 0});
  const ProgramInfo program = DecodeProgram(words.data(), words.size());
  test.True(program.buckets.size() == 2, "buckets are read");
  const Bucket& first = program.buckets[0];
  const Bucket& second = program.buckets[1];
  test.True(first.begin == 0 && first.end == 2 && first.after_step == 1, "the first bucket is what the head trains");
  test.True(second.begin == 2 && second.end == 31 && second.after_step == 0, "the second begins where the first ends");
  test.True(Refused(Words(384, 0, {2, 1})), "buckets that end before the parameters are refused");
  test.True(Refused(Words(384, 0, {2, 1, 32, 0})), "a bucket that ends behind them is refused");
  test.True(Refused(Words(384, 0, {31, 1, 31, 0})), "an empty bucket is refused");
  test.True(Refused(Words(384, 0, {2, 0, 31, 1})), "a bucket that is final before its forerunner is refused");
  test.True(Refused(Words(384, 0, {2, 1, 31, 1})), "two buckets after one step are refused");
}

}  // namespace riffle::test
