// Node-API door of native/decode: readFiles, readRecords and transform, each one job on libuv's thread pool; and crc32c.
//
// A job takes several pictures, because handing one over and hearing that it is done costs the JavaScript thread as much
// as a twentieth of decoding a photograph, and more than decoding a small one.
//
// JavaScript validates first and words the errors (src/data/pictures/render.ts); sizes are checked again here,
// because this is the last door before memory.

#include <node_api.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "crc32c.h"
#include "jpeg.h"
#include "pixels.h"
#include "read_file.h"
#include "read_record.h"
#include "resize.h"

void RegisterDecode(napi_env env, napi_value exports);

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

// Work for a thread of the pool, and the promise of what comes of it.
class Job {
 public:
  virtual ~Job() = default;
  // On a thread of the pool; touches no JavaScript value.
  virtual void Run() = 0;
  // What the promise resolves to. Reasons are ordinary answers: a rejection would cost an Error object.
  virtual napi_value Result(napi_env env) = 0;

  // Keeps a buffer, or an array of buffers that nobody changes, alive while the job runs.
  void Hold(napi_env env, napi_value value) {
    napi_ref reference;
    if (napi_create_reference(env, value, 1, &reference) == napi_ok) held_.push_back(reference);
  }

  static napi_value Start(napi_env env, std::unique_ptr<Job> job) {
    napi_value promise, name;
    napi_create_promise(env, &job->deferred_, &promise);
    napi_create_string_utf8(env, "riffle:pictures", NAPI_AUTO_LENGTH, &name);
    const auto run = [](napi_env, void* data) { static_cast<Job*>(data)->Run(); };
    napi_create_async_work(env, nullptr, name, run, Complete, job.get(), &job->work_);
    napi_queue_async_work(env, job->work_);
    job.release();  // Complete takes it back
    return promise;
  }

 private:
  static void Complete(napi_env env, napi_status, void* data) {
    const std::unique_ptr<Job> job(static_cast<Job*>(data));
    for (napi_ref reference : job->held_) napi_delete_reference(env, reference);
    napi_delete_async_work(env, job->work_);
    napi_resolve_deferred(env, job->deferred_, job->Result(env));
  }

  napi_async_work work_ = nullptr;
  napi_deferred deferred_ = nullptr;
  std::vector<napi_ref> held_;
};

// An errno, or words.
napi_value Value(napi_env env, const decode::Outcome& outcome) {
  napi_value value;
  if (outcome.error != 0)
    napi_create_int32(env, outcome.error, &value);
  else
    napi_create_string_utf8(env, outcome.reason.c_str(), outcome.reason.size(), &value);
  return value;
}

// An array of what became of the pictures, undefined for those that are done; undefined when all are.
napi_value Failures(napi_env env, const std::vector<decode::Outcome>& outcomes) {
  napi_value result, undefined;
  napi_get_undefined(env, &undefined);
  if (std::all_of(outcomes.begin(), outcomes.end(), [](const auto& outcome) { return outcome.done(); }))
    return undefined;
  napi_create_array_with_length(env, outcomes.size(), &result);
  for (size_t i = 0; i < outcomes.size(); ++i)
    napi_set_element(env, result, static_cast<uint32_t>(i), outcomes[i].done() ? undefined : Value(env, outcomes[i]));
  return result;
}

struct BadArgument {
  std::string what;
};

// The numbers of src/data/pictures/render.ts's `writeSpec`, in its order.
enum Field {
  kJpeg, kWidth, kHeight, kChannels,
  kBoxX, kBoxY, kBoxWidth, kBoxHeight,
  kResizedWidth, kResizedHeight, kWindowX, kWindowY, kSize,
  kFilter, kFlip, kRed, kGreen, kBlue, kGrayscale,
  kRegionX, kRegionY, kRegionWidth, kRegionHeight, kEighths, kFastDct,
  kOutOffset,
  kFields
};

double Number(const double* spec, Field field, double low, double high) {
  if (!(spec[field] >= low && spec[field] <= high))
    throw BadArgument{"transform: field " + std::to_string(field) + " is out of range"};
  return spec[field];
}

size_t Whole(const double* spec, Field field, double low, double high) {
  const double number = Number(spec, field, low, high);
  if (number != std::floor(number))
    throw BadArgument{"transform: field " + std::to_string(field) + " is not whole"};
  return static_cast<size_t>(number);
}

uint8_t* Bytes(napi_env env, napi_value value, size_t* length) {
  napi_typedarray_type type;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array)
    throw BadArgument{"not a Uint8Array where one is expected"};
  return static_cast<uint8_t*>(data);
}

uint32_t ArrayLength(napi_env env, napi_value value) {
  uint32_t length;
  if (napi_get_array_length(env, value, &length) != napi_ok) throw BadArgument{"not an array where one is expected"};
  return length;
}

const double* Doubles(napi_env env, napi_value value, size_t count) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length != count)
    throw BadArgument{"the fields are not a Float64Array of their number"};
  return static_cast<const double*>(data);
}

// One picture of a job.
struct Picture {
  const uint8_t* in = nullptr;
  size_t in_length = 0;
  bool jpeg = false;
  size_t width = 0, height = 0, channels = 3;
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
  t.box_x = Number(spec, kBoxX, 0, kMaxSide);
  t.box_y = Number(spec, kBoxY, 0, kMaxSide);
  t.box_w = Number(spec, kBoxWidth, 0, kMaxSide);
  t.box_h = Number(spec, kBoxHeight, 0, kMaxSide);
  t.resized_w = Whole(spec, kResizedWidth, 1, kMaxResized);
  t.resized_h = Whole(spec, kResizedHeight, 1, kMaxResized);
  t.window_x = Whole(spec, kWindowX, 0, kMaxResized);
  t.window_y = Whole(spec, kWindowY, 0, kMaxResized);
  t.out_size = Whole(spec, kSize, 1, 65536);
  t.flip = Whole(spec, kFlip, 0, 1) != 0;
  t.red = static_cast<float>(Number(spec, kRed, -2, 2));
  t.green = static_cast<float>(Number(spec, kGreen, -2, 2));
  t.blue = static_cast<float>(Number(spec, kBlue, -2, 2));
  t.grayscale = Whole(spec, kGrayscale, 0, 1) != 0;
  picture.out_offset = Whole(spec, kOutOffset, 0, kMaxSafeInteger);

  if (t.window_x + t.out_size > t.resized_w || t.window_y + t.out_size > t.resized_h)
    throw BadArgument{"transform: the window leaves the resized picture"};
  if (picture.out_offset > out_length || out_length - picture.out_offset < 3 * t.out_size * t.out_size)
    throw BadArgument{"transform: the output buffer is too short"};

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
    throw BadArgument{"transform: the pixels are not width * height * channels bytes"};
  }
  const bool whole = std::floor(t.box_x) == t.box_x && std::floor(t.box_y) == t.box_y &&
                     std::floor(t.box_w) == t.box_w && std::floor(t.box_h) == t.box_h;
  if (t.filter != decode::Filter::kPillow && (!whole || t.box_w < 1 || t.box_h < 1))
    throw BadArgument{"transform: this filter takes boxes in whole pixels"};
  if (t.box_w <= 0 || t.box_h <= 0 || t.box_x + t.box_w > static_cast<double>(source_w) ||
      t.box_y + t.box_h > static_cast<double>(source_h))
    throw BadArgument{"transform: the box leaves the picture"};
  return picture;
}

class Transforming : public Job {
 public:
  void Run() override {
    for (size_t i = 0; i < pictures.size(); ++i) {
      try {
        const std::unique_ptr<decode::RowSource> source = Open(pictures[i]);
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
  napi_value Result(napi_env env) override { return Failures(env, outcomes); }

  // Takes the output buffer by its type; returns how many values it holds.
  size_t TakeOutput(napi_env env, napi_value value) {
    napi_typedarray_type type;
    size_t length;
    void* data;
    if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) == napi_ok) {
      if (type == napi_uint8_array) return bytes = static_cast<uint8_t*>(data), length;
      if (type == napi_float32_array) return floats = static_cast<float*>(data), length;
    }
    throw BadArgument{"transform: the output is neither a Uint8Array nor a Float32Array"};
  }

  std::vector<Picture> pictures;
  std::vector<decode::Outcome> outcomes;
  // One of them: 8 bits or f32.
  uint8_t* bytes = nullptr;
  float* floats = nullptr;

 private:
  static std::unique_ptr<decode::RowSource> Open(const Picture& picture) {
    const size_t kept = decode::RowsKept(picture.transform);
#ifdef RIFFLE_HAVE_LIBJPEG
    if (picture.jpeg)
      return decode::OpenJpeg(picture.in, picture.in_length, picture.width, picture.height, picture.region, kept);
#endif
    return std::make_unique<decode::PixelRows>(picture.in, picture.width, picture.height, picture.channels, kept);
  }
};

// transform(inputs: Uint8Array[], specs: Float64Array, out: Uint8Array | Float32Array):
//     Promise<undefined | (string | number | undefined)[]>
napi_value Transform(napi_env env, napi_value* argv) {
  auto job = std::make_unique<Transforming>();
  const uint32_t count = ArrayLength(env, argv[0]);
  const double* specs = Doubles(env, argv[1], count * static_cast<size_t>(kFields));
  const size_t out_length = job->TakeOutput(env, argv[2]);
  job->outcomes.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    napi_value input;
    napi_get_element(env, argv[0], i, &input);
    size_t length;
    const uint8_t* bytes = Bytes(env, input, &length);
    job->pictures.push_back(ReadSpec(specs + i * kFields, bytes, length, out_length));
  }
  job->Hold(env, argv[0]);
  job->Hold(env, argv[2]);
  return Job::Start(env, std::move(job));
}

class ReadingFiles : public Job {
 public:
  void Run() override {
    for (size_t i = 0; i < paths.size(); ++i) {
      try {
        outcomes[i] = decode::ReadFile(paths[i], limit, &contents[i]);
      } catch (const std::bad_alloc&) {
        outcomes[i].error = ENOMEM;
      }
    }
  }
  napi_value Result(napi_env env) override {
    napi_value result, one;
    napi_create_array_with_length(env, paths.size(), &result);
    for (size_t i = 0; i < paths.size(); ++i) {
      napi_value buffer;
      void* bytes = nullptr;
      const size_t size = contents[i].size();
      if (!outcomes[i].done()) {
        one = Value(env, outcomes[i]);
      } else if (napi_create_arraybuffer(env, size, &bytes, &buffer) == napi_ok) {
        if (size > 0) std::memcpy(bytes, contents[i].data(), size);
        contents[i] = {};
        napi_create_typedarray(env, napi_uint8_array, size, buffer, 0, &one);
      } else {
        one = Value(env, {ENOMEM, ""});
      }
      napi_set_element(env, result, static_cast<uint32_t>(i), one);
    }
    return result;
  }

  std::vector<std::string> paths;
  std::vector<decode::Outcome> outcomes;
  std::vector<std::vector<uint8_t>> contents;
  size_t limit = 0;
};

// readFiles(paths: string[], limit: number): Promise<(Uint8Array | string | number)[]>; words or an errno say why not. One job of the
// pool where fs.readFile takes four and, for small pictures, as long as decoding them.
napi_value ReadFiles(napi_env env, napi_value* argv) {
  auto job = std::make_unique<ReadingFiles>();
  const uint32_t count = ArrayLength(env, argv[0]);
  double limit;
  if (napi_get_value_double(env, argv[1], &limit) != napi_ok || !(limit >= 0 && limit <= kMaxSafeInteger))
    throw BadArgument{"readFiles: no such limit"};
  job->limit = static_cast<size_t>(limit);
  job->paths.resize(count), job->outcomes.resize(count), job->contents.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    napi_value path;
    size_t length;
    napi_get_element(env, argv[0], i, &path);
    if (napi_get_value_string_utf8(env, path, nullptr, 0, &length) != napi_ok)
      throw BadArgument{"readFiles: a path is no string"};
    job->paths[i].resize(length);
    napi_get_value_string_utf8(env, path, job->paths[i].data(), length + 1, &length);
  }
  return Job::Start(env, std::move(job));
}

class ReadingRecords : public Job {
 public:
  struct Record {
    int file;
    uint64_t offset;
    size_t size;
    uint8_t* framed;
  };
  void Run() override {
    for (size_t i = 0; i < records.size(); ++i) {
      const Record& record = records[i];
      if (!decode::ReadRecord(record.file, record.offset, record.size, record.framed)) damaged.push_back(i);
    }
  }
  napi_value Result(napi_env env) override {
    napi_value result, number;
    napi_create_array_with_length(env, damaged.size(), &result);
    for (size_t i = 0; i < damaged.size(); ++i) {
      napi_create_uint32(env, static_cast<uint32_t>(damaged[i]), &number);
      napi_set_element(env, result, static_cast<uint32_t>(i), number);
    }
    return result;
  }

  std::vector<Record> records;
  std::vector<size_t> damaged;
};

// readRecords(places: Float64Array, into: Uint8Array): Promise<number[]>; places holds descriptor, offset and size of
// each framed record. They are put one behind another; the numbers are those of the records that are not whole.
napi_value ReadRecords(napi_env env, napi_value* argv) {
  auto job = std::make_unique<ReadingRecords>();
  size_t room;
  uint8_t* into = Bytes(env, argv[1], &room);
  napi_typedarray_type type;
  size_t count;
  void* data;
  if (napi_get_typedarray_info(env, argv[0], &type, &count, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || count % 3 != 0)
    throw BadArgument{"readRecords: the places are not a Float64Array of threes"};
  const double* places = static_cast<const double*>(data);
  for (size_t i = 0; i < count; i += 3) {
    const double file = places[i], offset = places[i + 1], size = places[i + 2];
    if (!(file >= 0 && file <= INT32_MAX && offset >= 0 && offset <= kMaxSafeInteger &&
          size >= decode::kRecordOverhead && size <= static_cast<double>(room)))
      throw BadArgument{"readRecords: place " + std::to_string(i / 3) + " is out of range"};
    job->records.push_back({static_cast<int>(file), static_cast<uint64_t>(offset), static_cast<size_t>(size), into});
    into += static_cast<size_t>(size);
    room -= static_cast<size_t>(size);
  }
  job->Hold(env, argv[1]);
  return Job::Start(env, std::move(job));
}

// crc32c(bytes: Uint8Array, previous: number): number, at once.
napi_value Crc32c(napi_env env, napi_value* argv) {
  size_t length;
  const uint8_t* bytes = Bytes(env, argv[0], &length);
  uint32_t previous;
  if (napi_get_value_uint32(env, argv[1], &previous) != napi_ok) throw BadArgument{"crc32c: the previous CRC is no number"};
  napi_value crc;
  napi_create_uint32(env, decode::Crc32c(bytes, length, previous), &crc);
  return crc;
}

// A function of `count` arguments whose bad ones are thrown as a TypeError.
template <size_t count, napi_value (*function)(napi_env, napi_value*)>
napi_value Checked(napi_env env, napi_callback_info info) {
  size_t given = count;
  napi_value argv[count];
  napi_get_cb_info(env, info, &given, argv, nullptr, nullptr);
  try {
    if (given < count) throw BadArgument{"too few arguments"};
    return function(env, argv);
  } catch (const BadArgument& bad) {
    napi_throw_type_error(env, nullptr, bad.what.c_str());
    return nullptr;
  }
}

template <size_t count, napi_value (*function)(napi_env, napi_value*)>
void Export(napi_env env, napi_value exports, const char* name) {
  napi_value value;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, Checked<count, function>, nullptr, &value);
  napi_set_named_property(env, exports, name, value);
}

}  // namespace

// Exports the four functions, and whether transform decodes JPEGs: where libjpeg-turbo was found when the addon was
// built.
void RegisterDecode(napi_env env, napi_value exports) {
  Export<2, ReadFiles>(env, exports, "readFiles");
  Export<2, ReadRecords>(env, exports, "readRecords");
  Export<3, Transform>(env, exports, "transform");
  Export<2, Crc32c>(env, exports, "crc32c");
  napi_value decodes;
  napi_get_boolean(env, kDecodesJpeg, &decodes);
  napi_set_named_property(env, exports, "decodesJpeg", decodes);
}
