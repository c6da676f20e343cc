#include "words.h"

#include <cmath>
#include <string>

#include "fail.h"

namespace riffle {

double Words::Number(const char* field) {
  if (at_ >= count_) Refuse(std::string("program ends before ") + field);
  return words_[at_++];
}

int64_t Words::Whole(const char* field, int64_t low, int64_t high) {
  const double v = Number(field);
  if (!(v >= static_cast<double>(low) && v <= static_cast<double>(high)) || v != std::floor(v))
    Refuse(std::string("program: ") + field + " is " +
           (v == std::floor(v) && std::abs(v) < 1e15 ? std::to_string(static_cast<int64_t>(v)) : "none") + ", expected a whole number from " + std::to_string(low) + " to " +
                                std::to_string(high));
  return static_cast<int64_t>(v);
}

Window Words::Window() {
  riffle::Window w;
  w.in_h = static_cast<int>(Whole("window input height", 1, kLongestSide));
  w.in_w = static_cast<int>(Whole("window input width", 1, kLongestSide));
  w.out_h = static_cast<int>(Whole("window output height", 1, kLongestSide));
  w.out_w = static_cast<int>(Whole("window output width", 1, kLongestSide));
  w.stride = static_cast<int>(Whole("window stride", 1, 2));
  w.pad_top = static_cast<int>(Whole("window padding above", 0, 1));
  w.pad_left = static_cast<int>(Whole("window padding left", 0, 1));
  const auto fits = [&](int in, int out, int pad) {
    if (w.stride == 1) return out == in && pad == 1;
    // The last window begins inside the image and reaches at most one element past it, and no row is left over.
    return 2 * (out - 1) - pad < in && 2 * (out - 1) + 2 - pad <= in && in <= 2 * out + 1 - pad;
  };
  if (!fits(w.in_h, w.out_h, w.pad_top) || !fits(w.in_w, w.out_w, w.pad_left))
    Refuse("program: a window of stride " + std::to_string(w.stride) + " over " +
                                std::to_string(w.in_h) + "x" + std::to_string(w.in_w) + " cannot give " +
                                std::to_string(w.out_h) + "x" + std::to_string(w.out_w));
  return w;
}

void Expect(bool holds, const char* what) {
  if (!holds) Refuse(std::string("program: ") + what);
}

}  // namespace riffle
