// Node-API door of native/decode: transformJpeg and transformPixels, each one job on libuv's thread pool.
//
// JavaScript validates first and words the errors (src/data/render.ts); sizes are checked again here,
// because this is the last door before memory.

#include <node_api.h>

#include <cmath>
#include <memory>
#include <new>
#include <string>

#include "jpeg.h"
#include "pixels.h"
#include "resize.h"

void RegisterDecode(napi_env env, napi_value exports);

namespace {

// Larger than any picture the JavaScript side lets through; keeps products of two lengths in 64 bits.
constexpr double kMaxSide = 1 << 20;

struct Job {
  napi_async_work work = nullptr;
  napi_deferred deferred = nullptr;
  napi_ref in_ref = nullptr, out_ref = nullptr;  // keep both buffers alive while the job runs

  const uint8_t* in = nullptr;
  size_t in_length = 0;
  uint8_t* out = nullptr;
  bool jpeg = false;
  size_t width = 0, height = 0, channels = 3;
  decode::JpegRegion region{};
  decode::Transform transform{};

  std::string error;  // empty: done
};

void Execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  try {
    const size_t kept = decode::RowsKept(job.transform);
    if (job.jpeg) {
#ifdef RIFFLE_HAVE_LIBJPEG
      ResizeInto(job.transform,
                 *decode::OpenJpeg(job.in, job.in_length, job.width, job.height, job.region, kept), job.out);
#endif
    } else {
      decode::PixelRows rows(job.in, job.width, job.height, job.channels, kept);
      ResizeInto(job.transform, rows, job.out);
    }
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

double Number(napi_env env, napi_value object, const char* name, double low, double high) {
  napi_value value;
  double number;
  if (napi_get_named_property(env, object, name, &value) != napi_ok ||
      napi_get_value_double(env, value, &number) != napi_ok || !(number >= low && number <= high))
    throw BadArgument{std::string("transform: ") + name + " is missing or out of range"};
  return number;
}

size_t Whole(napi_env env, napi_value object, const char* name, double low, double high) {
  const double number = Number(env, object, name, low, high);
  if (number != std::floor(number)) throw BadArgument{std::string("transform: ") + name + " is not whole"};
  return static_cast<size_t>(number);
}

uint8_t* Bytes(napi_env env, napi_value value, size_t* length) {
  napi_typedarray_type type;
  void* data;
  if (napi_get_typedarray_info(env, value, &type, length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array)
    throw BadArgument{"transform: a buffer is not a Uint8Array"};
  return static_cast<uint8_t*>(data);
}

// The fields of src/data/render.ts's Spec, checked against each other and the buffers.
void ReadSpec(napi_env env, napi_value spec, size_t out_length, Job* job) {
  job->width = Whole(env, spec, "width", 1, kMaxSide);
  job->height = Whole(env, spec, "height", 1, kMaxSide);
  job->channels = Whole(env, spec, "channels", 1, 3);
  decode::Transform& t = job->transform;
  t.filter = Whole(env, spec, "filter", 0, 1) ? decode::Filter::kPillow : decode::Filter::kTensorflow;
  t.box_x = Number(env, spec, "boxX", 0, kMaxSide);
  t.box_y = Number(env, spec, "boxY", 0, kMaxSide);
  t.box_w = Number(env, spec, "boxWidth", 0, kMaxSide);
  t.box_h = Number(env, spec, "boxHeight", 0, kMaxSide);
  t.resized_w = Whole(env, spec, "resizedWidth", 1, kMaxSide);
  t.resized_h = Whole(env, spec, "resizedHeight", 1, kMaxSide);
  t.window_x = Whole(env, spec, "windowX", 0, kMaxSide);
  t.window_y = Whole(env, spec, "windowY", 0, kMaxSide);
  t.out_size = Whole(env, spec, "size", 1, 65536);
  t.flip = Whole(env, spec, "flip", 0, 1) != 0;
  t.red = static_cast<float>(Number(env, spec, "red", -2, 2));
  t.green = static_cast<float>(Number(env, spec, "green", -2, 2));
  t.blue = static_cast<float>(Number(env, spec, "blue", -2, 2));
  t.grayscale = Whole(env, spec, "grayscale", 0, 1) != 0;
  const size_t offset = Whole(env, spec, "outOffset", 0, 9007199254740991.0);

  if (t.window_x + t.out_size > t.resized_w || t.window_y + t.out_size > t.resized_h)
    throw BadArgument{"transform: the window leaves the resized picture"};
  if (offset > out_length || out_length - offset < 3 * t.out_size * t.out_size)
    throw BadArgument{"transform: the output buffer is too short"};
  job->out += offset;

  // Rows the filter may ask for: the picture itself, or the JPEG's decoded region.
  size_t source_w = job->width, source_h = job->height;
  if (job->jpeg) {
    decode::JpegRegion& r = job->region;
    r.x = Whole(env, spec, "regionX", 0, kMaxSide);
    r.y = Whole(env, spec, "regionY", 0, kMaxSide);
    r.width = source_w = Whole(env, spec, "regionWidth", 1, kMaxSide);
    r.height = source_h = Whole(env, spec, "regionHeight", 1, kMaxSide);
    r.eighths = Whole(env, spec, "eighths", 1, 8);
    r.fast_dct = Whole(env, spec, "fastDct", 0, 1) != 0;
  } else if (job->channels == 2 || job->in_length != job->width * job->height * job->channels) {
    throw BadArgument{"transform: the pixels are not width * height * channels bytes"};
  }
  const bool whole = std::floor(t.box_x) == t.box_x && std::floor(t.box_y) == t.box_y &&
                     std::floor(t.box_w) == t.box_w && std::floor(t.box_h) == t.box_h;
  if (t.filter == decode::Filter::kTensorflow && (!whole || t.box_w < 1 || t.box_h < 1))
    throw BadArgument{"transform: TensorFlow's filter takes boxes in whole pixels"};
  if (t.box_w <= 0 || t.box_h <= 0 || t.box_x + t.box_w > static_cast<double>(source_w) ||
      t.box_y + t.box_h > static_cast<double>(source_h))
    throw BadArgument{"transform: the box leaves the picture"};
}

// transform*(input: Uint8Array, spec, out: Uint8Array): Promise<string | undefined>
napi_value Start(napi_env env, napi_callback_info info, bool jpeg) {
  size_t argc = 3;
  napi_value argv[3];
  napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr);
  auto job = std::make_unique<Job>();
  try {
    if (argc < 3) throw BadArgument{"transform: takes (input, spec, out)"};
    size_t out_length;
    job->jpeg = jpeg;
    job->in = Bytes(env, argv[0], &job->in_length);
    job->out = Bytes(env, argv[2], &out_length);
    ReadSpec(env, argv[1], out_length, job.get());
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

napi_value TransformPixels(napi_env env, napi_callback_info info) { return Start(env, info, false); }
#ifdef RIFFLE_HAVE_LIBJPEG
napi_value TransformJpeg(napi_env env, napi_callback_info info) { return Start(env, info, true); }
#endif

}  // namespace

// Exports transformPixels, and transformJpeg where libjpeg-turbo was found when the addon was built.
void RegisterDecode(napi_env env, napi_value exports) {
  napi_value function;
  napi_create_function(env, "transformPixels", NAPI_AUTO_LENGTH, TransformPixels, nullptr, &function);
  napi_set_named_property(env, exports, "transformPixels", function);
#ifdef RIFFLE_HAVE_LIBJPEG
  napi_create_function(env, "transformJpeg", NAPI_AUTO_LENGTH, TransformJpeg, nullptr, &function);
  napi_set_named_property(env, exports, "transformJpeg", function);
#endif
}
