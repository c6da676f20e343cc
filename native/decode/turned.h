// The rows of a source as they are seen once its picture is turned by one of EXIF's eight orientations.
//
// The source is read once, from the top down, and its pixels are kept turned: a row of the result may need every row of
// the source. So the pixels are those of turning first and cutting then, whatever is cut out of them.
//
// Source of the orientations: CIPA DC-008 (EXIF 2.32), 4.6.4, tag 0112; src/data/pictures/orientation.ts has their table.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "resize.h"

namespace decode {

class TurnedRows : public RowSource {
 public:
  // Rows that `source` has to keep.
  static constexpr size_t kKept = 16;

  // Requires: orientation is 1 to 8.
  TurnedRows(RowSource& source, int orientation) {
    const bool transposed = orientation >= 5;
    const bool mirror_x = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    const bool mirror_y = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    const size_t w = source.width(), h = source.height();
    width_ = transposed ? h : w;
    height_ = transposed ? w : h;
    pixels_.resize(height_ * 3 * width_ + kRowPadding);
    for (size_t first = 0; first < h; first += kKept) {
      const size_t count = std::min(kKept, h - first);
      const uint8_t* rows[kKept];
      for (size_t i = 0; i < count; ++i) rows[i] = source.Row(first + i);
      // A stretch of a turned row at a time, so that a tall picture's pixels do not each fall on a line of their own.
      for (size_t x = 0; x < w; ++x) {
        for (size_t i = 0; i < count; ++i) {
          const size_t y = first + i;
          const size_t to_x = transposed ? y : x, to_y = transposed ? x : y;
          const size_t column = mirror_x ? width_ - 1 - to_x : to_x, row = mirror_y ? height_ - 1 - to_y : to_y;
          std::memcpy(pixels_.data() + 3 * (row * width_ + column), rows[i] + 3 * x, 3);
        }
      }
    }
  }
  size_t width() const override { return width_; }
  size_t height() const override { return height_; }

  // What follows a row is the next one, or the padding.
  const uint8_t* Row(size_t y) override { return pixels_.data() + 3 * y * width_; }

 private:
  size_t width_, height_;
  std::vector<uint8_t> pixels_;
};

}  // namespace decode
