// What decoding threads do beside libjpeg: checksums, reading records by their place, cropping and resizing pixels.
#include <cstdio>
#include <unistd.h>

#include "../decode/crc32c.h"
#include "../decode/pixels.h"
#include "../decode/read_record.h"
#include "../decode/resize.h"
#include "check.h"

namespace riffle::test {
namespace {

std::vector<uint8_t> RandomBytes(Numbers& numbers, size_t count) {
  std::vector<uint8_t> bytes(count);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(numbers.Word() >> 24);
  return bytes;
}

void TestCrc() {
  Test test("decode", "crc32c");
  test.Case("the check value of the catalogue of CRCs");
  const std::string digits = "123456789";
  test.Same("crc", 0, decode::Crc32c(reinterpret_cast<const uint8_t*>(digits.data()), 9), 0xe3069283l);
  Numbers numbers(1);
  for (size_t length : {0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000, 4099})
    for (size_t begin : {0, 1, 3}) {
      test.Case("%zu bytes from %zu", length, begin);
      Memory memory;
      const uint8_t* bytes = memory.Input(RandomBytes(numbers, begin + length)) + begin;
      const uint32_t expected = decode::Crc32cPlain(bytes, length);
      test.Same("crc", 0, decode::Crc32c(bytes, length), expected);
      const size_t part = length / 3;
      test.Same("continued", 0, decode::Crc32c(bytes + part, length - part, decode::Crc32c(bytes, part)), expected);
      memory.Verify(test);
    }
}

std::vector<uint8_t> Framed(const std::vector<uint8_t>& payload) {
  std::vector<uint8_t> framed(payload.size() + decode::kRecordOverhead);
  const uint64_t length = payload.size();
  std::memcpy(framed.data(), &length, 8);
  const uint32_t length_crc = decode::MaskedCrc32c(framed.data(), 8);
  std::memcpy(framed.data() + 8, &length_crc, 4);
  std::copy(payload.begin(), payload.end(), framed.begin() + 12);
  const uint32_t data_crc = decode::MaskedCrc32c(payload.data(), payload.size());
  std::memcpy(framed.data() + 12 + payload.size(), &data_crc, 4);
  return framed;
}

void TestRecords() {
  Test test("decode", "read_record");
  Numbers numbers(2);
  std::FILE* file = std::tmpfile();
  if (file == nullptr) return test.True(false, "no temporary file could be made");
  const auto write = [&](const std::vector<uint8_t>& bytes) {
    const bool written = ftruncate(fileno(file), 0) == 0 &&
                         pwrite(fileno(file), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
    if (!written) test.True(false, "the temporary file could not be written");
  };
  const auto reads = [&](size_t offset, size_t size) {
    Memory memory;
    const bool whole = decode::ReadRecord(fileno(file), offset, size, memory.Output<uint8_t>(size));
    memory.Verify(test);
    return whole;
  };
  for (size_t length : {0, 1, 23}) {
    std::vector<uint8_t> bytes = RandomBytes(numbers, 5);
    const std::vector<uint8_t> framed = Framed(RandomBytes(numbers, length));
    bytes.insert(bytes.end(), framed.begin(), framed.end());
    test.Case("a record of %zu bytes", length);
    write(bytes);
    test.True(reads(5, framed.size()), "a whole record was refused");
    if (length > 0) test.True(!reads(5, framed.size() - 1), "a record of another length was taken");
    test.True(!reads(4, framed.size()), "a record at another place was taken");
    for (size_t bit = 8 * 5; bit < 8 * bytes.size(); ++bit) {
      test.Case("a record of %zu bytes, bit %zu flipped", length, bit);
      bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
      write(bytes);
      test.True(!reads(5, framed.size()), "a damaged record was taken");
      bytes[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    }
    for (size_t cut = 0; cut < bytes.size(); ++cut) {
      test.Case("a record of %zu bytes, cut after %zu", length, cut);
      write({bytes.begin(), bytes.begin() + static_cast<long>(cut)});
      test.True(!reads(5, framed.size()), "a record cut short was taken");
    }
  }
  std::fclose(file);
}

// One value of TensorFlow's resize_bilinear, x first, in double; the places are f32, as the rule has them.
double Bilinear(const decode::Transform& t, const uint8_t* pixels, size_t width, size_t channels, size_t x, size_t y,
                size_t c) {
  const auto lerp = [](size_t in, size_t resized, size_t at, size_t* lower, size_t* upper) {
    const float place = static_cast<float>(at) * (static_cast<float>(in) / static_cast<float>(resized));
    *lower = std::min(static_cast<size_t>(place), in - 1);
    *upper = std::min(*lower + 1, in - 1);
    return static_cast<double>(place - static_cast<float>(*lower));
  };
  const size_t w = static_cast<size_t>(t.box_w), h = static_cast<size_t>(t.box_h);
  size_t left, right, top, bottom;
  const double across = lerp(w, t.resized_w, t.window_x + x, &left, &right);
  const double down = lerp(h, t.resized_h, t.window_y + y, &top, &bottom);
  const auto pixel = [&](size_t px, size_t py) -> double {
    if (t.flip) px = w - 1 - px;
    const size_t at = (static_cast<size_t>(t.box_y) + py) * width + static_cast<size_t>(t.box_x) + px;
    return pixels[at * channels + (channels == 3 ? c : 0)];
  };
  const double above = pixel(left, top) + across * (pixel(right, top) - pixel(left, top));
  const double below = pixel(left, bottom) + across * (pixel(right, bottom) - pixel(left, bottom));
  return above + down * (below - above);
}

struct Shape {
  size_t width, height, channels, x, y, w, h;  // the picture, and the box in it
  size_t resized_w, resized_h, window_x, window_y, size;
};

void TestResize() {
  Test tensorflow("decode", "resize_bilinear"), others("decode", "resize");
  const std::vector<Shape> shapes = {
      {1, 1, 3, 0, 0, 1, 1, 1, 1, 0, 0, 1},     {1, 1, 1, 0, 0, 1, 1, 7, 7, 0, 0, 7},
      {1, 9, 3, 0, 2, 1, 7, 4, 4, 0, 0, 4},     {9, 1, 1, 3, 0, 6, 1, 5, 5, 0, 0, 5},
      {17, 13, 3, 0, 0, 17, 13, 8, 8, 0, 0, 8}, {17, 13, 3, 1, 2, 15, 11, 33, 33, 0, 0, 33},
      {40, 30, 3, 7, 5, 33, 25, 32, 32, 0, 0, 32}, {40, 30, 1, 0, 0, 40, 30, 43, 32, 7, 4, 28},
      {131, 97, 3, 0, 0, 131, 97, 31, 23, 5, 1, 21}, {64, 64, 3, 63, 63, 1, 1, 3, 3, 0, 0, 3},
  };
  uint32_t seed = 3;
  for (const Shape& s : shapes)
    for (bool flip : {false, true})
      for (decode::Filter filter : {decode::Filter::kTensorflow, decode::Filter::kPillow, decode::Filter::kPillowBytes}) {
        Test& test = filter == decode::Filter::kTensorflow ? tensorflow : others;
        test.Case("%zu x %zu x %zu, box %zu x %zu at %zu, %zu, filter %d, flip %d", s.width, s.height, s.channels, s.w,
                  s.h, s.x, s.y, static_cast<int>(filter), flip);
        Numbers numbers(seed++);
        Memory memory;
        const uint8_t* pixels = memory.Input(RandomBytes(numbers, s.width * s.height * s.channels));
        const size_t values = 3 * s.size * s.size;
        float *floats = memory.Output(values), *plain = memory.Output(values);
        uint8_t* bytes = memory.Output<uint8_t>(values);
        decode::Transform t{.box_x = static_cast<double>(s.x), .box_y = static_cast<double>(s.y),
                            .box_w = static_cast<double>(s.w), .box_h = static_cast<double>(s.h),
                            .resized_w = s.resized_w, .resized_h = s.resized_h,
                            .window_x = s.window_x, .window_y = s.window_y, .out_size = s.size,
                            .filter = filter, .flip = flip, .red = 0, .green = 0, .blue = 0, .grayscale = false};
        const size_t kept = decode::RowsKept(t);
        const auto rows = [&] { return decode::PixelRows(pixels, s.width, s.height, s.channels, kept); };
        decode::PixelRows first = rows(), second = rows(), third = rows();
        decode::ResizeInto(t, first, floats);
        decode::ResizeInto(t, second, bytes);
        decode::ResizeInto(t, third, plain, true);
        test.True(std::memcmp(floats, plain, values * sizeof(float)) == 0, "other values without AVX2");
        for (size_t i = 0; i < values; ++i) {
          const long index = static_cast<long>(i);
          // 8 bits are the floats rounded; halves may fall either way, since floats were scaled first.
          test.Near("byte", index, bytes[i], 255.0 * floats[i], 0.5 + 1e-4);
          if (filter != decode::Filter::kTensorflow) continue;
          const double expected = Bilinear(t, pixels, s.width, s.channels, i / 3 % s.size, i / 3 / s.size, i % 3);
          // Three interpolations of numbers to 255, two roundings each, then one for the scale.
          test.Near("value", index, 255.0 * floats[i], expected, 7 * 255 * 0x1p-24);
        }
        memory.Verify(test);
      }
}

}  // namespace

void TestDecode() {
  TestCrc();
  TestRecords();
  TestResize();
}

}  // namespace riffle::test
