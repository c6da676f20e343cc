#include "door.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>

#include "../ranks/mpi.h"
#include "../runtime/thread_pool.h"

namespace riffle {
namespace {

// An exception as JavaScript will see it. It holds no memory: there may be none.
struct Failure {
  const char* code = nullptr;  // null: a TypeError
  char message[512] = "";

  Failure(const char* code, const char* text) : code(code) { std::snprintf(message, sizeof message, "%s", text); }
};

Failure CurrentFailure() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return {"RIFFLE_MEMORY", "not enough memory for the engine's buffers"};
  } catch (const std::length_error&) {  // of a container that cannot be that long
    return {"RIFFLE_MEMORY", "not enough memory for the engine's buffers"};
  } catch (const ThreadStartError& error) {
    return {"RIFFLE_THREADS", error.what()};
  } catch (const RanksError& error) {
    return {"RIFFLE_RANKS", error.what()};
  } catch (const std::invalid_argument& error) {
    return {nullptr, error.what()};
  } catch (const std::exception& error) {
    return {"RIFFLE_NATIVE", error.what()};
  } catch (...) {
    return {"RIFFLE_NATIVE", "an exception of an unknown type"};
  }
}

struct Job {
  explicit Job(napi_env env) : env(env) {}
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  ~Job() {
    for (napi_ref ref : held) napi_delete_reference(env, ref);
    if (work) napi_delete_async_work(env, work);
  }

  const napi_env env;
  std::function<void()> run;
  std::function<napi_value(napi_env)> finish;
  std::vector<napi_ref> held;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
  std::optional<Failure> failure;
};

napi_value ErrorOf(napi_env env, const Failure& failure) {
  napi_value code = nullptr, message = nullptr, error = nullptr;
  napi_create_string_utf8(env, failure.message, NAPI_AUTO_LENGTH, &message);
  if (failure.code) {
    napi_create_string_utf8(env, failure.code, NAPI_AUTO_LENGTH, &code);
    napi_create_error(env, code, message, &error);
  } else {
    napi_create_type_error(env, nullptr, message, &error);
  }
  return error;
}

void Execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  try {
    job.run();
  } catch (...) {
    job.failure = CurrentFailure();
  }
}

void Complete(napi_env env, napi_status status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_value value = nullptr, error = nullptr;
  if (status != napi_ok) {
    error = ErrorOf(env, {"RIFFLE_NATIVE", "the work was cancelled"});
  } else if (job->failure) {
    error = ErrorOf(env, *job->failure);
  } else {
    try {
      value = job->finish(env);
    } catch (...) {
      const Failure failure = CurrentFailure();
      bool pending = false;
      napi_is_exception_pending(env, &pending);
      if (pending) napi_get_and_clear_last_exception(env, &error);
      if (!error) error = ErrorOf(env, failure);
    }
  }
  if (error) {
    napi_reject_deferred(env, job->deferred, error);
  } else {
    napi_resolve_deferred(env, job->deferred, value);
  }
}

}  // namespace

void Check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  const napi_extended_error_info* info = nullptr;
  napi_get_last_error_info(env, &info);
  throw std::runtime_error(info && info->error_message ? info->error_message : "Node-API call failed");
}

void ThrowCurrent(napi_env env) noexcept {
  const Failure failure = CurrentFailure();
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) napi_throw(env, ErrorOf(env, failure));
}

napi_value Promise(napi_env env, const std::vector<napi_value>& hold, std::function<void()> run,
                   std::function<napi_value(napi_env)> finish) {
  auto job = std::make_unique<Job>(env);
  job->run = std::move(run);
  job->finish = std::move(finish);
  job->held.reserve(hold.size());
  for (napi_value value : hold) {
    napi_valuetype type;
    Check(env, napi_typeof(env, value, &type));
    if (type != napi_object) continue;
    napi_ref ref;
    Check(env, napi_create_reference(env, value, 1, &ref));
    job->held.push_back(ref);
  }
  napi_value promise;
  Check(env, napi_create_promise(env, &job->deferred, &promise));
  Check(env, napi_create_async_work(env, nullptr, MakeText(env, "riffle"), Execute, Complete, job.get(), &job->work));
  Check(env, napi_queue_async_work(env, job->work));
  job.release();  // Complete takes it back
  return promise;
}

void Export(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function;
  Check(env, napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function));
  SetProperty(env, exports, name, function);
}

std::vector<napi_value> Arguments(napi_env env, napi_callback_info info, size_t count) {
  std::vector<napi_value> args(count);
  size_t given = count;
  Check(env, napi_get_cb_info(env, info, &given, args.data(), nullptr, nullptr));
  if (given < count) throw std::invalid_argument("expected " + std::to_string(count) + " arguments");
  return args;
}

Span AnyTypedArray(napi_env env, napi_value value, const char* name) {
  bool is = false;
  Check(env, napi_is_typedarray(env, value, &is));
  if (!is) throw std::invalid_argument(std::string(name) + " is no typed array");
  Span span{};
  Check(env, napi_get_typedarray_info(env, value, &span.type, &span.length, &span.data, nullptr, nullptr));
  return span;
}

Span TypedArray(napi_env env, napi_value value, napi_typedarray_type wanted, const char* name) {
  const Span span = AnyTypedArray(env, value, name);
  if (span.type != wanted) throw std::invalid_argument(std::string(name) + " is another typed array than expected");
  return span;
}

void* TypedArray(napi_env env, napi_value value, napi_typedarray_type wanted, size_t length, const char* name) {
  const Span span = TypedArray(env, value, wanted, name);
  if (span.length != length)
    throw std::invalid_argument(std::string(name) + " has " + std::to_string(span.length) + " elements, expected " +
                                std::to_string(length));
  return span.data;
}

bool IsNullish(napi_env env, napi_value value) {
  napi_valuetype type;
  Check(env, napi_typeof(env, value, &type));
  return type == napi_null || type == napi_undefined;
}

double Number(napi_env env, napi_value value, double low, double high, const char* name) {
  double number = 0;
  Check(env, napi_get_value_double(env, value, &number));
  if (!(number >= low && number <= high))
    throw std::invalid_argument(std::string(name) + " is " + std::to_string(number) + ", expected " +
                                std::to_string(low) + " to " + std::to_string(high));
  return number;
}

bool Boolean(napi_env env, napi_value value) {
  bool boolean = false;
  Check(env, napi_get_value_bool(env, value, &boolean));
  return boolean;
}

std::string Text(napi_env env, napi_value value) {
  size_t length = 0;
  Check(env, napi_get_value_string_utf8(env, value, nullptr, 0, &length));
  std::string text(length, '\0');
  Check(env, napi_get_value_string_utf8(env, value, text.data(), length + 1, &length));
  return text;
}

uint32_t ArrayLength(napi_env env, napi_value value) {
  uint32_t length = 0;
  if (napi_get_array_length(env, value, &length) != napi_ok)
    throw std::invalid_argument("not an array where one is expected");
  return length;
}

napi_value Element(napi_env env, napi_value array, uint32_t index) {
  napi_value value;
  Check(env, napi_get_element(env, array, index, &value));
  return value;
}

napi_value Undefined(napi_env env) {
  napi_value value;
  Check(env, napi_get_undefined(env, &value));
  return value;
}

napi_value MakeNumber(napi_env env, double number) {
  napi_value value;
  Check(env, napi_create_double(env, number, &value));
  return value;
}

napi_value MakeBoolean(napi_env env, bool boolean) {
  napi_value value;
  Check(env, napi_get_boolean(env, boolean, &value));
  return value;
}

napi_value MakeText(napi_env env, const std::string& text) {
  napi_value value;
  Check(env, napi_create_string_utf8(env, text.data(), text.size(), &value));
  return value;
}

napi_value MakeBytes(napi_env env, const std::vector<uint8_t>& bytes) {
  napi_value buffer, array;
  void* data = nullptr;
  Check(env, napi_create_arraybuffer(env, bytes.size(), &data, &buffer));
  if (!bytes.empty()) std::memcpy(data, bytes.data(), bytes.size());
  Check(env, napi_create_typedarray(env, napi_uint8_array, bytes.size(), buffer, 0, &array));
  return array;
}

napi_value MakeArray(napi_env env, const std::vector<napi_value>& elements) {
  napi_value array;
  Check(env, napi_create_array_with_length(env, elements.size(), &array));
  for (uint32_t i = 0; i < elements.size(); ++i) Check(env, napi_set_element(env, array, i, elements[i]));
  return array;
}

napi_value MakeNumbers(napi_env env, std::initializer_list<double> numbers) {
  std::vector<napi_value> elements;
  for (double number : numbers) elements.push_back(MakeNumber(env, number));
  return MakeArray(env, elements);
}

void SetProperty(napi_env env, napi_value object, const char* name, napi_value value) {
  Check(env, napi_set_named_property(env, object, name, value));
}

}  // namespace riffle
