// Decoded pixels as a source of rows: RGB or grayscale, 8 bits, rows without padding.
#pragma once

#include <cstring>
#include <vector>

#include "resize.h"

namespace decode {

class PixelRows : public RowSource {
 public:
  // Requires: width * height * channels readable bytes; channels is 1 or 3.
  PixelRows(const uint8_t* data, size_t width, size_t height, size_t channels, size_t kept)
      : data_(data), width_(width), height_(height), channels_(channels), kept_(kept) {
    rows_.resize(kept * stride());
  }
  size_t width() const override { return width_; }
  size_t height() const override { return height_; }

  // A copy, since a row of the caller's has no readable bytes after its last one.
  const uint8_t* Row(size_t y) override {
    uint8_t* row = rows_.data() + (y % kept_) * stride();
    const uint8_t* from = data_ + y * width_ * channels_;
    if (channels_ == 3) {
      std::memcpy(row, from, 3 * width_);
    } else {
      for (size_t x = 0; x < width_; ++x) row[3 * x] = row[3 * x + 1] = row[3 * x + 2] = from[x];
    }
    return row;
  }

 private:
  size_t stride() const { return 3 * width_ + kRowPadding; }

  const uint8_t* data_;
  size_t width_, height_, channels_, kept_;
  std::vector<uint8_t> rows_;
};

}  // namespace decode
