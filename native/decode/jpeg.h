// A region of a JPEG as a source of rows, decoded as it is read, through libjpeg-turbo.
//
// Only the region's blocks are transformed: columns outside it are cut off by jpeg_crop_scanline, rows above are
// skipped, rows below never read. The pixels are those of a decode of the whole picture. With `eighths` < 8
// the picture is reduced while decoding (DCT coefficients left out), and the region counts in reduced pixels.
#pragma once

#include <memory>
#include <stdexcept>

#include "resize.h"

namespace decode {

// The bytes are not a JPEG that can be read; what() says why.
class BadJpeg : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct JpegRegion {
  size_t x, y, width, height;  // in pixels of the reduced picture
  size_t eighths;              // 1, 2, 4 or 8: the picture's size in eighths
  bool fast_dct;               // libjpeg's IFAST, as TensorFlow; otherwise ISLOW, as Pillow and libvips
};

// Reads the header. Throws BadJpeg, also when the picture is not picture_width x picture_height.
// The bytes must live as long as the result.
std::unique_ptr<RowSource> OpenJpeg(const uint8_t* bytes, size_t length, size_t picture_width,
                                    size_t picture_height, const JpegRegion& region, size_t kept);

}  // namespace decode
