// Node-API door of native/decode: readFile, transformJpeg and transformPixels, each one job on libuv's thread pool.
//
// JavaScript validates first and words the errors (src/data/render.ts); sizes are checked again here,
// because this is the last door before memory.

#include <node_api.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "jpeg.h"
#include "pixels.h"
#include "read_file.h"
#include "resize.h"

void RegisterDecode(napi_env env, napi_value exports);

namespace {

// Larger than any picture the JavaScript side lets through; keeps products of two lengths in 64 bits.
constexpr double kMaxSide = 1 << 20;

// A long thin picture's longer side after its shorter one was brought to the network's size.
constexpr double kMaxResized = 1ull << 33;

struct Job {
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  napi_ref in_ref = nullptr, out_ref = nullptr;  // keep both buffers alive while the job runs

  const uint8_t* in = nullptr;
  size_t in_length = 0;
  // One of them: 8 bits or f32.
  uint8_t* bytes = nullptr;
  float* floats = nullptr;
  bool jpeg = false;
  size_t width = 0, height = 0, channels = 3;
  decode::JpegRegion region{};
  decode::Transform transform{};

  std::string error;  // empty: done
};

std::unique_ptr<decode::RowSource> OpenSource(const Job& job) {
  const size_t kept = decode::RowsKept(job.transform);
#ifdef RIFFLE_HAVE_LIBJPEG
  if (job.jpeg) return decode::OpenJpeg(job.in, job.in_length, job.width, job.height, job.region, kept);
#endif
  return std::make_unique<decode::PixelRows>(job.in, job.width, job.height, job.channels, kept);
}

void Execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  try {
    const std::unique_ptr<decode::RowSource> source = OpenSource(job);
    if (job.bytes)
      decode::ResizeInto(job.transform, *source, job.bytes);
    else
      decode::ResizeInto(job.transform, *source, job.floats);
  } catch (const std::bad_alloc&) {
    job.error = "no memory to decode it";
  } catch (const std::exception& error) {
    job.error = error.what();
  }
}

void Complete(napi_env env, napi_status, void* data) {
  std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_delete_reference(env, job->in_ref);
  napi_delete_reference(env, job->out_ref);
  napi_delete_async_work(env, job->work);
  // The reason as a string, or undefined: a rejection would cost an Error object for what is an ordinary answer.
  napi_value result;
  if (job->error.empty())
    napi_get_undefined(env, &result);
  else
    napi_create_string_utf8(env, job->error.c_str(), job->error.size(), &result);
  napi_resolve_deferred(env, job->deferred, result);
}

struct BadArgument {
  std::string what;
};

// The numbers of src/data/render.ts's `spec`, in its order.
enum Field {
  kWidth, kHeight, kChannels,
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

const uint8_t* Bytes(napi_env env, napi_value value, size_t* length) {
  napi_typedarray_type type;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array)
    throw BadArgument{"transform: the input is not a Uint8Array"};
  return static_cast<const uint8_t*>(data);
}

// The output buffer, by its type; returns how many values it holds.
size_t Output(napi_env env, napi_value value, Job* job) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) == napi_ok) {
    if (type == napi_uint8_array) return job->bytes = static_cast<uint8_t*>(data), length;
    if (type == napi_float32_array) return job->floats = static_cast<float*>(data), length;
  }
  throw BadArgument{"transform: the output is neither a Uint8Array nor a Float32Array"};
}

const double* Doubles(napi_env env, napi_value value, size_t count) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length != count)
    throw BadArgument{"transform: the fields are not a Float64Array of their number"};
  return static_cast<const double*>(data);
}

// Checks the fields against each other and the buffers.
void ReadSpec(const double* spec, size_t out_length, Job* job) {
  job->width = Whole(spec, kWidth, 1, kMaxSide);
  job->height = Whole(spec, kHeight, 1, kMaxSide);
  job->channels = Whole(spec, kChannels, 1, 3);
  decode::Transform& t = job->transform;
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
  const size_t offset = Whole(spec, kOutOffset, 0, 9007199254740991.0);

  if (t.window_x + t.out_size > t.resized_w || t.window_y + t.out_size > t.resized_h)
    throw BadArgument{"transform: the window leaves the resized picture"};
  if (offset > out_length || out_length - offset < 3 * t.out_size * t.out_size)
    throw BadArgument{"transform: the output buffer is too short"};
  if (job->bytes)
    job->bytes += offset;
  else
    job->floats += offset;

  // Rows the filter may ask for: the picture itself, or the JPEG's decoded region.
  size_t source_w = job->width, source_h = job->height;
  if (job->jpeg) {
    decode::JpegRegion& r = job->region;
    r.x = Whole(spec, kRegionX, 0, kMaxSide);
    r.y = Whole(spec, kRegionY, 0, kMaxSide);
    r.width = source_w = Whole(spec, kRegionWidth, 1, kMaxSide);
    r.height = source_h = Whole(spec, kRegionHeight, 1, kMaxSide);
    r.eighths = Whole(spec, kEighths, 1, 8);
    r.fast_dct = Whole(spec, kFastDct, 0, 1) != 0;
  } else if (job->channels == 2 || job->in_length != job->width * job->height * job->channels) {
    throw BadArgument{"transform: the pixels are not width * height * channels bytes"};
  }
  const bool whole = std::floor(t.box_x) == t.box_x && std::floor(t.box_y) == t.box_y &&
                     std::floor(t.box_w) == t.box_w && std::floor(t.box_h) == t.box_h;
  if (t.filter != decode::Filter::kPillow && (!whole || t.box_w < 1 || t.box_h < 1))
    throw BadArgument{"transform: this filter takes boxes in whole pixels"};
  if (t.box_w <= 0 || t.box_h <= 0 || t.box_x + t.box_w > static_cast<double>(source_w) ||
      t.box_y + t.box_h > static_cast<double>(source_h))
    throw BadArgument{"transform: the box leaves the picture"};
}

// transform*(input: Uint8Array, spec: Float64Array, out: Uint8Array | Float32Array): Promise<string | undefined>
napi_value Start(napi_env env, napi_callback_info info, bool jpeg) {
  size_t argc = 3;
  napi_value argv[3];
  napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr);
  auto job = std::make_unique<Job>();
  try {
    if (argc < 3) throw BadArgument{"transform: takes (input, spec, out)"};
    job->jpeg = jpeg;
    job->in = Bytes(env, argv[0], &job->in_length);
    const size_t out_length = Output(env, argv[2], job.get());
    ReadSpec(Doubles(env, argv[1], kFields), out_length, job.get());
  } catch (const BadArgument& bad) {
    napi_throw_type_error(env, nullptr, bad.what.c_str());
    return nullptr;
  }
  napi_value promise, name;
  napi_create_promise(env, &job->deferred, &promise);
  napi_create_reference(env, argv[0], 1, &job->in_ref);
  napi_create_reference(env, argv[2], 1, &job->out_ref);
  napi_create_string_utf8(env, "riffle:decode", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, Execute, Complete, job.get(), &job->work);
  napi_queue_async_work(env, job->work);
  job.release();  // Complete takes it back
  return promise;
}

// A file being read, and what came of it.
struct Reading {
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  std::string path;
  size_t limit = 0;
  std::vector<uint8_t> bytes;
  std::string error;
};

void ExecuteRead(napi_env, void* data) {
  Reading& reading = *static_cast<Reading*>(data);
  try {
    reading.error = decode::ReadFile(reading.path, reading.limit, &reading.bytes);
  } catch (const std::bad_alloc&) {
    reading.error = "no memory to read it";
  }
}

void CompleteRead(napi_env env, napi_status, void* data) {
  std::unique_ptr<Reading> reading(static_cast<Reading*>(data));
  napi_delete_async_work(env, reading->work);
  napi_value result, buffer;
  void* bytes = nullptr;
  const size_t size = reading->bytes.size();
  if (reading->error.empty() && napi_create_arraybuffer(env, size, &bytes, &buffer) == napi_ok) {
    if (size > 0) std::memcpy(bytes, reading->bytes.data(), size);
    napi_create_typedarray(env, napi_uint8_array, size, buffer, 0, &result);
  } else {
    napi_create_string_utf8(env, reading->error.c_str(), reading->error.size(), &result);
  }
  napi_resolve_deferred(env, reading->deferred, result);
}

// readFile(path: string, limit: number): Promise<Uint8Array | string>; the string says why not. One job of the
// pool where fs.readFile takes four and, for small pictures, as long as decoding them.
napi_value ReadFile(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr);
  size_t length;
  double limit;
  if (argc < 2 || napi_get_value_string_utf8(env, argv[0], nullptr, 0, &length) != napi_ok ||
      napi_get_value_double(env, argv[1], &limit) != napi_ok || !(limit >= 0 && limit <= 9007199254740991.0)) {
    napi_throw_type_error(env, nullptr, "readFile takes (path, limit)");
    return nullptr;
  }
  auto reading = std::make_unique<Reading>();
  reading->path.resize(length);
  napi_get_value_string_utf8(env, argv[0], reading->path.data(), length + 1, &length);
  reading->limit = static_cast<size_t>(limit);
  napi_value promise, name;
  napi_create_promise(env, &reading->deferred, &promise);
  napi_create_string_utf8(env, "riffle:read", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, ExecuteRead, CompleteRead, reading.get(), &reading->work);
  napi_queue_async_work(env, reading->work);
  reading.release();  // CompleteRead takes it back
  return promise;
}

napi_value TransformPixels(napi_env env, napi_callback_info info) { return Start(env, info, false); }
#ifdef RIFFLE_HAVE_LIBJPEG
napi_value TransformJpeg(napi_env env, napi_callback_info info) { return Start(env, info, true); }
#endif

}  // namespace

// Exports readFile, transformPixels, and transformJpeg where libjpeg-turbo was found when the addon was built.
void RegisterDecode(napi_env env, napi_value exports) {
  napi_value function;
  napi_create_function(env, "readFile", NAPI_AUTO_LENGTH, ReadFile, nullptr, &function);
  napi_set_named_property(env, exports, "readFile", function);
  napi_create_function(env, "transformPixels", NAPI_AUTO_LENGTH, TransformPixels, nullptr, &function);
  napi_set_named_property(env, exports, "transformPixels", function);
#ifdef RIFFLE_HAVE_LIBJPEG
  napi_create_function(env, "transformJpeg", NAPI_AUTO_LENGTH, TransformJpeg, nullptr, &function);
  napi_set_named_property(env, exports, "transformJpeg", function);
#endif
}
