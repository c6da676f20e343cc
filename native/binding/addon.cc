// The addon's exports, file by file of this folder, the only one that knows Node-API.
#include "addon.h"

#include "door.h"

namespace riffle {
namespace {

napi_value Init(napi_env env, napi_value exports) {
  return Guard(env, [&] {
    RegisterEngine(env, exports);
#ifdef RIFFLE_INSPECT
    RegisterInspect(env, exports);  // test/support/inspect.cc
#endif
    RegisterDecode(env, exports);
    RegisterRanks(env, exports);
    RegisterFileLock(env, exports);
    return exports;
  });
}

}  // namespace
}  // namespace riffle

NAPI_MODULE(NODE_GYP_MODULE_NAME, riffle::Init)
