// The kernel's lock on an open file: flock(descriptor) tries for it and returns at once, with 0 or the errno.
//
// src/core/flock.ts gives it its words. The lock belongs to the open file and ends with it, however the process ends.
#include <node_api.h>
#include <sys/file.h>

#include <cerrno>

void RegisterFileLock(napi_env env, napi_value exports);

namespace {

napi_value Flock(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, result = nullptr;
  int32_t descriptor = -1;
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) != napi_ok || count < 1 ||
      napi_get_value_int32(env, argument, &descriptor) != napi_ok) {
    napi_throw_type_error(env, nullptr, "flock takes the number of an open file");
    return nullptr;
  }
  const int failed = flock(descriptor, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
  napi_create_int32(env, failed, &result);
  return result;
}

}  // namespace

void RegisterFileLock(napi_env env, napi_value exports) {
  napi_value function;
  if (napi_create_function(env, "flock", NAPI_AUTO_LENGTH, Flock, nullptr, &function) == napi_ok)
    napi_set_named_property(env, exports, "flock", function);
}
