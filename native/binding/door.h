// The door between JavaScript and C++, for every file of this folder: arguments in, values out, work that runs off the
// JavaScript thread, and errors. No exception passes it: what is thrown on either side of it, on any thread, becomes a
// JavaScript error with a code that src/core/addon.ts puts into words.
//
// JavaScript checks its arguments first and words the errors; here types, lengths and ranges are checked again, because
// behind this door is plain memory.
#pragma once

#include <node_api.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

namespace riffle {

// A failed Node-API call leaves an exception pending or is a mistake of ours; either way it is thrown.
void Check(napi_env env, napi_status status);

// Throws the exception being handled in JavaScript: a TypeError for std::invalid_argument, else an Error with a code.
void ThrowCurrent(napi_env env) noexcept;

// Runs `body`, which returns a napi_value.
template <class Body>
napi_value Guard(napi_env env, Body&& body) noexcept {
  try {
    return body();
  } catch (...) {
    ThrowCurrent(env);
    return nullptr;
  }
}

// Work on a thread of libuv's pool. `run` touches no JavaScript value; `finish` makes the promise's value of what it
// left. `hold` keeps the objects alive whose memory it reads and writes; what is no object needs no holding.
napi_value Promise(napi_env env, const std::vector<napi_value>& hold, std::function<void()> run,
                   std::function<napi_value(napi_env)> finish);

void Export(napi_env env, napi_value exports, const char* name, napi_callback function);

// --- in ---

std::vector<napi_value> Arguments(napi_env env, napi_callback_info info, size_t count);

struct Span {
  napi_typedarray_type type;
  void* data;
  size_t length;
};

Span AnyTypedArray(napi_env env, napi_value value, const char* name);
Span TypedArray(napi_env env, napi_value value, napi_typedarray_type wanted, const char* name);
void* TypedArray(napi_env env, napi_value value, napi_typedarray_type wanted, size_t length, const char* name);

template <class T>
T* Array(napi_env env, napi_value value, napi_typedarray_type wanted, size_t length, const char* name) {
  return static_cast<T*>(TypedArray(env, value, wanted, length, name));
}

bool IsNullish(napi_env env, napi_value value);
double Number(napi_env env, napi_value value, double low, double high, const char* name);
bool Boolean(napi_env env, napi_value value);
std::string Text(napi_env env, napi_value value);
uint32_t ArrayLength(napi_env env, napi_value value);
napi_value Element(napi_env env, napi_value array, uint32_t index);

// --- out ---

napi_value Undefined(napi_env env);
napi_value MakeNumber(napi_env env, double number);
napi_value MakeBoolean(napi_env env, bool value);
napi_value MakeText(napi_env env, const std::string& text);
napi_value MakeBytes(napi_env env, const std::vector<uint8_t>& bytes);  // a copy, as Uint8Array
napi_value MakeArray(napi_env env, const std::vector<napi_value>& elements);
napi_value MakeNumbers(napi_env env, std::initializer_list<double> numbers);
void SetProperty(napi_env env, napi_value object, const char* name, napi_value value);

}  // namespace riffle
