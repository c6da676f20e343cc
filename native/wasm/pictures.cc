// Pictures and checksums without the addon: native/binding/decode.cc is the addon's door to the same.
#include "../decode/crc32c.h"
#include "../decode/pixels.h"
#include "../decode/resize.h"
#include "host.h"

// `numbers` are those of Transform in its order, booleans and the filter as numbers; `out` takes floats or bytes.
RIFFLE_EXPORT("resize")
void Resize(const double* numbers, const uint8_t* pixels, size_t width, size_t height, size_t channels, void* out, bool floats) {
  const double* n = numbers;
  const decode::Transform t = {.box_x = n[0],
                               .box_y = n[1],
                               .box_w = n[2],
                               .box_h = n[3],
                               .resized_w = static_cast<size_t>(n[4]),
                               .resized_h = static_cast<size_t>(n[5]),
                               .window_x = static_cast<size_t>(n[6]),
                               .window_y = static_cast<size_t>(n[7]),
                               .out_size = static_cast<size_t>(n[8]),
                               .filter = static_cast<decode::Filter>(static_cast<int>(n[9])),
                               .flip = n[10] != 0,
                               .red = static_cast<float>(n[11]),
                               .green = static_cast<float>(n[12]),
                               .blue = static_cast<float>(n[13]),
                               .grayscale = n[14] != 0};
  decode::PixelRows rows(pixels, width, height, channels, decode::RowsKept(t));
  if (floats) return decode::ResizeInto(t, rows, static_cast<float*>(out));
  decode::ResizeInto(t, rows, static_cast<uint8_t*>(out));
}

RIFFLE_EXPORT("crc32c") uint32_t Crc32c(const uint8_t* bytes, size_t length, uint32_t previous) {
  return decode::Crc32c(bytes, length, previous);
}
