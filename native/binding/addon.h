// What the files of this folder add to the addon's exports.
#pragma once

#include <node_api.h>

namespace riffle {

void RegisterEngine(napi_env env, napi_value exports);
void RegisterInspect(napi_env env, napi_value exports);
void RegisterDecode(napi_env env, napi_value exports);
void RegisterRanks(napi_env env, napi_value exports);
void RegisterFileLock(napi_env env, napi_value exports);

}  // namespace riffle
