// Crop, resize, flip and colour of one picture, 8-bit RGB in and 8-bit or f32 RGB out, row by row.
//
// A rectangle of the source (the box) is resized to resized_w x resized_h, and the window out_size x out_size at
// (window_x, window_y) of that is written. Random crops have a window of the whole; evaluation resizes the
// whole picture and takes the centre. Three filters:
//
//   kTensorflow  TensorFlow 1's resize_bilinear: source = destination * f32(in / out), no half-pixel centres, no
//                antialiasing; x first, then y, in f32. The box must have whole coordinates.
//   kPillow      Pillow's BILINEAR: a triangle as wide as the reduction, half-pixel centres. Pillow rounds to
//                8 bits between its two passes and goes x first; here y first, in f32, rounded once, so
//                single values may differ from Pillow's by one level. For training.
//   kPillowBytes Pillow's BILINEAR to the byte: x first, in fixed point, rounded to 8 bits between the passes. A level
//                in a sixth of the values moves logits by 0.1, so published networks are evaluated this way. The box
//                must have whole coordinates.
//
// 8-bit output is rounded at the very end, halves up: at most half a level from the f32 output, which is in [0, 1]
// and never rounded. The plain twin is test/support/resize-reference.ts.
#pragma once

#include <cstddef>
#include <cstdint>

namespace decode {

enum class Filter { kTensorflow, kPillow, kPillowBytes };

struct Transform {
  double box_x, box_y, box_w, box_h;  // in pixels of the source
  size_t resized_w, resized_h;
  size_t window_x, window_y, out_size;
  Filter filter;
  bool flip;                // left and right exchanged before resizing
  float red, green, blue;   // added to each channel, as a share of full scale, then clipped
  bool grayscale;           // after the colour shift; 0.2989 R + 0.587 G + 0.114 B
};

// Bytes behind a row that may be read, so that loads need not end with the last pixel.
constexpr size_t kRowPadding = 8;

// Rows of RGB from the top down. Row(y) stays valid while rows up to y + kept - 1 are asked for, and
// is followed by kRowPadding readable bytes. Rows may only be asked for again while they are kept.
class RowSource {
 public:
  virtual ~RowSource() = default;
  virtual size_t width() const = 0;
  virtual size_t height() const = 0;
  virtual const uint8_t* Row(size_t y) = 0;
};

// How many rows Row() must keep for this transform.
size_t RowsKept(const Transform& t);

// Writes out_size * out_size * 3 values; Out is uint8_t (0..255) or float (0..1). The box lies within the source.
// `plain` does without AVX2 where there is some, for tests: the values are the same.
template <typename Out>
void ResizeInto(const Transform& t, RowSource& source, Out* out, bool plain = false);

}  // namespace decode
