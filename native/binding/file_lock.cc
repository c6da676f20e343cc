// The kernel's lock on an open file: flock(descriptor) tries for it and returns at once, with 0 or the errno.
//
// src/core/flock.ts gives it its words. The lock belongs to the open file and ends with it, however the process ends.
#include <sys/file.h>

#include <cerrno>
#include <climits>

#include "addon.h"
#include "door.h"

namespace riffle {
namespace {

napi_value Flock(napi_env env, napi_callback_info info) {
  return Guard(env, [&] {
    const auto descriptor = static_cast<int>(Number(env, Arguments(env, info, 1)[0], 0, INT_MAX, "the descriptor"));
    return MakeNumber(env, flock(descriptor, LOCK_EX | LOCK_NB) == 0 ? 0 : errno);
  });
}

}  // namespace

void RegisterFileLock(napi_env env, napi_value exports) { Export(env, exports, "flock", Flock); }

}  // namespace riffle
