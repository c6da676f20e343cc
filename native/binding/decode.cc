// Pictures and records: readFiles, readRecords and transform, each one job on libuv's thread pool; and crc32c.
//
// A job takes several pictures, because handing one over and hearing that it is done costs the JavaScript thread as much
// as a twentieth of decoding a photograph, and more than decoding a small one.
//
// JavaScript validates first and words the errors (src/data/pictures/render.ts). What is wrong with one picture is an
// ordinary answer: words where it is the picture, an errno where it is the machine.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../decode/crc32c.h"
#include "../decode/jpeg.h"
#include "../decode/pixels.h"
#include "../decode/read_file.h"
#include "../decode/read_record.h"
#include "../decode/resize.h"
#include "../decode/turned.h"
#include "../runtime/picture_jobs.h"
#include "addon.h"
#include "door.h"

namespace riffle {
namespace {

// Larger than any picture the JavaScript side lets through; keeps products of two lengths in 64 bits.
constexpr double kMaxSide = 1 << 20;

// A long thin picture's longer side after its shorter one was brought to the network's size.
constexpr double kMaxResized = 1ull << 33;

constexpr double kMaxSafeInteger = 9007199254740991.0;

#ifdef RIFFLE_HAVE_LIBJPEG
constexpr bool kDecodesJpeg = true;
#else
constexpr bool kDecodesJpeg = false;
#endif

// An errno, or words.
napi_value Value(napi_env env, const decode::Outcome& outcome) {
  return outcome.error != 0 ? MakeNumber(env, outcome.error) : MakeText(env, outcome.reason);
}

// An array of what became of the pictures, undefined for those that are done; undefined when all are.
napi_value Failures(napi_env env, const std::vector<decode::Outcome>& outcomes) {
  if (std::all_of(outcomes.begin(), outcomes.end(), [](const auto& outcome) { return outcome.done(); }))
    return Undefined(env);
  std::vector<napi_value> values;
  for (const decode::Outcome& outcome : outcomes)
    values.push_back(outcome.done() ? Undefined(env) : Value(env, outcome));
  return MakeArray(env, values);
}

// The numbers of src/data/pictures/render.ts's `writeSpec`, in its order.
enum Field {
  kJpeg, kWidth, kHeight, kChannels,
  kBoxX, kBoxY, kBoxWidth, kBoxHeight,
  kResizedWidth, kResizedHeight, kWindowX, kWindowY, kSize,
  kFilter, kFlip, kRed, kGreen, kBlue, kGrayscale,
  kRegionX, kRegionY, kRegionWidth, kRegionHeight, kEighths, kFastDct,
  kOrientation, kOutOffset,
  kFields
};

double InRange(const double* spec, Field field, double low, double high) {
  if (!(spec[field] >= low && spec[field] <= high))
    throw std::invalid_argument("transform: field " + std::to_string(field) + " is out of range");
  return spec[field];
}

size_t Whole(const double* spec, Field field, double low, double high) {
  const double number = InRange(spec, field, low, high);
  if (number != std::floor(number))
    throw std::invalid_argument("transform: field " + std::to_string(field) + " is not whole");
  return static_cast<size_t>(number);
}

// One picture of a job.
struct Picture {
  const uint8_t* in = nullptr;
  size_t in_length = 0;
  bool jpeg = false;
  size_t width = 0, height = 0, channels = 3;  // as stored, the region too
  int orientation = 1;                         // the transform sees it turned
  decode::JpegRegion region{};
  decode::Transform transform{};
  size_t out_offset = 0;
};

// Checks the fields against each other and the buffers.
Picture ReadSpec(const double* spec, const uint8_t* in, size_t in_length, size_t out_length) {
  Picture picture;
  picture.in = in;
  picture.in_length = in_length;
  picture.jpeg = Whole(spec, kJpeg, 0, kDecodesJpeg ? 1 : 0) != 0;
  picture.width = Whole(spec, kWidth, 1, kMaxSide);
  picture.height = Whole(spec, kHeight, 1, kMaxSide);
  picture.channels = Whole(spec, kChannels, 1, 3);
  decode::Transform& t = picture.transform;
  t.filter = static_cast<decode::Filter>(Whole(spec, kFilter, 0, 2));
  t.box_x = InRange(spec, kBoxX, 0, kMaxSide);
  t.box_y = InRange(spec, kBoxY, 0, kMaxSide);
  t.box_w = InRange(spec, kBoxWidth, 0, kMaxSide);
  t.box_h = InRange(spec, kBoxHeight, 0, kMaxSide);
  t.resized_w = Whole(spec, kResizedWidth, 1, kMaxResized);
  t.resized_h = Whole(spec, kResizedHeight, 1, kMaxResized);
  t.window_x = Whole(spec, kWindowX, 0, kMaxResized);
  t.window_y = Whole(spec, kWindowY, 0, kMaxResized);
  t.out_size = Whole(spec, kSize, 1, 65536);
  t.flip = Whole(spec, kFlip, 0, 1) != 0;
  t.red = static_cast<float>(InRange(spec, kRed, -2, 2));
  t.green = static_cast<float>(InRange(spec, kGreen, -2, 2));
  t.blue = static_cast<float>(InRange(spec, kBlue, -2, 2));
  t.grayscale = Whole(spec, kGrayscale, 0, 1) != 0;
  picture.orientation = static_cast<int>(Whole(spec, kOrientation, 1, 8));
  picture.out_offset = Whole(spec, kOutOffset, 0, kMaxSafeInteger);

  if (t.window_x + t.out_size > t.resized_w || t.window_y + t.out_size > t.resized_h)
    throw std::invalid_argument("transform: the window leaves the resized picture");
  if (picture.out_offset > out_length || out_length - picture.out_offset < 3 * t.out_size * t.out_size)
    throw std::invalid_argument("transform: the output buffer is too short");

  // Rows the filter may ask for: the picture itself, or the JPEG's decoded region.
  size_t source_w = picture.width, source_h = picture.height;
  if (picture.jpeg) {
    decode::JpegRegion& r = picture.region;
    r.x = Whole(spec, kRegionX, 0, kMaxSide);
    r.y = Whole(spec, kRegionY, 0, kMaxSide);
    r.width = source_w = Whole(spec, kRegionWidth, 1, kMaxSide);
    r.height = source_h = Whole(spec, kRegionHeight, 1, kMaxSide);
    r.eighths = Whole(spec, kEighths, 1, 8);
    r.fast_dct = Whole(spec, kFastDct, 0, 1) != 0;
  } else if (picture.channels == 2 || picture.in_length != picture.width * picture.height * picture.channels) {
    throw std::invalid_argument("transform: the pixels are not width * height * channels bytes");
  }
  if (picture.orientation >= 5) std::swap(source_w, source_h);
  const bool whole = std::floor(t.box_x) == t.box_x && std::floor(t.box_y) == t.box_y &&
                     std::floor(t.box_w) == t.box_w && std::floor(t.box_h) == t.box_h;
  if (t.filter != decode::Filter::kPillow && (!whole || t.box_w < 1 || t.box_h < 1))
    throw std::invalid_argument("transform: this filter takes boxes in whole pixels");
  if (t.box_w <= 0 || t.box_h <= 0 || t.box_x + t.box_w > static_cast<double>(source_w) ||
      t.box_y + t.box_h > static_cast<double>(source_h))
    throw std::invalid_argument("transform: the box leaves the picture");
  return picture;
}

// What a job of transform works on.
struct Transforming {
  std::vector<Picture> pictures;
  std::vector<decode::Outcome> outcomes;
  // One of them: 8 bits or f32.
  uint8_t* bytes = nullptr;
  float* floats = nullptr;

  void Run() {
    const PictureJobSpan recorded(true);
    for (size_t i = 0; i < pictures.size(); ++i) {
      try {
        const std::unique_ptr<decode::RowSource> source = Upright(pictures[i]);
        if (bytes)
          decode::ResizeInto(pictures[i].transform, *source, bytes + pictures[i].out_offset);
        else
          decode::ResizeInto(pictures[i].transform, *source, floats + pictures[i].out_offset);
      } catch (const std::bad_alloc&) {
        outcomes[i].error = ENOMEM;
      } catch (const std::exception& error) {
        outcomes[i].reason = error.what();
      }
    }
  }

  static std::unique_ptr<decode::RowSource> Upright(const Picture& picture) {
    if (picture.orientation == 1) return Open(picture, decode::RowsKept(picture.transform));
    const std::unique_ptr<decode::RowSource> stored = Open(picture, decode::TurnedRows::kKept);
    return std::make_unique<decode::TurnedRows>(*stored, picture.orientation);
  }

  static std::unique_ptr<decode::RowSource> Open(const Picture& picture, size_t kept) {
#ifdef RIFFLE_HAVE_LIBJPEG
    if (picture.jpeg)
      return decode::OpenJpeg(picture.in, picture.in_length, picture.width, picture.height, picture.region, kept);
#endif
    return std::make_unique<decode::PixelRows>(picture.in, picture.width, picture.height, picture.channels, kept);
  }
};

// transform(inputs: Uint8Array[], specs: Float64Array, out: Uint8Array | Float32Array):
//     Promise<undefined | (string | number | undefined)[]>
napi_value Transform(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 3);
    auto job = std::make_shared<Transforming>();
    const uint32_t count = ArrayLength(env, args[0]);
    const double* specs =
        Array<double>(env, args[1], napi_float64_array, count * static_cast<size_t>(kFields), "the fields");
    const Span out = AnyTypedArray(env, args[2], "the output");
    if (out.type == napi_uint8_array) {
      job->bytes = static_cast<uint8_t*>(out.data);
    } else if (out.type == napi_float32_array) {
      job->floats = static_cast<float*>(out.data);
    } else {
      throw std::invalid_argument("transform: the output is neither a Uint8Array nor a Float32Array");
    }
    job->outcomes.resize(count);
    for (uint32_t i = 0; i < count; ++i) {
      const Span input = TypedArray(env, Element(env, args[0], i), napi_uint8_array, "a picture");
      job->pictures.push_back(
          ReadSpec(specs + i * kFields, static_cast<const uint8_t*>(input.data), input.length, out.length));
    }
    return Promise(
        env, {args[0], args[2]}, [job] { job->Run(); }, [job](napi_env e) { return Failures(e, job->outcomes); });
  });
}

// What a job of readFiles works on.
struct ReadingFiles {
  std::vector<std::string> paths;
  std::vector<decode::Outcome> outcomes;
  std::vector<std::vector<uint8_t>> contents;
};

// readFiles(paths: string[], limit: number): Promise<(Uint8Array | string | number)[]>; words or an errno say why not. One
// job of the pool where fs.readFile takes four and, for small pictures, as long as decoding them.
napi_value ReadFiles(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    auto job = std::make_shared<ReadingFiles>();
    const uint32_t count = ArrayLength(env, args[0]);
    const auto limit = static_cast<size_t>(Number(env, args[1], 0, kMaxSafeInteger, "limit"));
    job->outcomes.resize(count), job->contents.resize(count);
    for (uint32_t i = 0; i < count; ++i) job->paths.push_back(Text(env, Element(env, args[0], i)));
    return Promise(
        env, {},
        [job, limit] {
          const PictureJobSpan recorded(false);
          for (size_t i = 0; i < job->paths.size(); ++i) {
            try {
              job->outcomes[i] = decode::ReadFile(job->paths[i], limit, &job->contents[i]);
            } catch (const std::bad_alloc&) {
              job->outcomes[i].error = ENOMEM;
            }
          }
        },
        [job](napi_env e) {
          std::vector<napi_value> values;
          for (size_t i = 0; i < job->paths.size(); ++i) {
            const bool read = job->outcomes[i].done();
            values.push_back(read ? MakeBytes(e, job->contents[i]) : Value(e, job->outcomes[i]));
            job->contents[i] = {};
          }
          return MakeArray(e, values);
        });
  });
}

struct Record {
  int file;
  uint64_t offset;
  size_t size;
  uint8_t* framed;
};

// readRecords(places: Float64Array, into: Uint8Array): Promise<number[]>; places holds descriptor, offset and size of
// each framed record. They are put one behind another; the numbers are those of the records that are not whole.
napi_value ReadRecords(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    const Span places = TypedArray(env, args[0], napi_float64_array, "places");
    const Span into = TypedArray(env, args[1], napi_uint8_array, "into");
    if (places.length % 3 != 0) throw std::invalid_argument("readRecords: the places are no threes");
    std::vector<Record> records;
    uint8_t* framed = static_cast<uint8_t*>(into.data);
    size_t room = into.length;
    for (size_t i = 0; i < places.length; i += 3) {
      const double* place = static_cast<const double*>(places.data) + i;
      const double file = place[0], offset = place[1], size = place[2];
      if (!(file >= 0 && file <= INT32_MAX && offset >= 0 && offset <= kMaxSafeInteger &&
            size >= decode::kRecordOverhead && size <= static_cast<double>(room)))
        throw std::invalid_argument("readRecords: place " + std::to_string(i / 3) + " is out of range");
      records.push_back({static_cast<int>(file), static_cast<uint64_t>(offset), static_cast<size_t>(size), framed});
      framed += records.back().size;
      room -= records.back().size;
    }
    auto damaged = std::make_shared<std::vector<size_t>>();
    return Promise(
        env, {args[1]},
        [records = std::move(records), damaged] {
          const PictureJobSpan recorded(false);
          for (size_t i = 0; i < records.size(); ++i)
            if (!decode::ReadRecord(records[i].file, records[i].offset, records[i].size, records[i].framed))
              damaged->push_back(i);
        },
        [damaged](napi_env e) {
          std::vector<napi_value> numbers;
          for (size_t index : *damaged) numbers.push_back(MakeNumber(e, static_cast<double>(index)));
          return MakeArray(e, numbers);
        });
  });
}

// crc32c(bytes: Uint8Array, previous: number): number, at once.
napi_value Crc32c(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto args = Arguments(env, info, 2);
    const Span bytes = TypedArray(env, args[0], napi_uint8_array, "bytes");
    const auto previous = static_cast<uint32_t>(Number(env, args[1], 0, UINT32_MAX, "the previous CRC"));
    return MakeNumber(env, decode::Crc32c(static_cast<const uint8_t*>(bytes.data), bytes.length, previous));
  });
}

}  // namespace

// Also whether transform decodes JPEGs: where libjpeg-turbo was found when the addon was built.
void RegisterDecode(napi_env env, napi_value exports) {
  Export(env, exports, "readFiles", ReadFiles);
  Export(env, exports, "readRecords", ReadRecords);
  Export(env, exports, "transform", Transform);
  Export(env, exports, "crc32c", Crc32c);
  SetProperty(env, exports, "decodesJpeg", MakeBoolean(env, kDecodesJpeg));
}

}  // namespace riffle
